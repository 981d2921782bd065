"""Which characters of a rendered conversation are the messages' own, and which the template wrote.

First by marks: the template is rendered once more with unprintable marks around every message; where the marked text minus
its marks is the plain text, the marks say where each message lies. Templates that change or test the messages so that this
fails are measured instead: message by message, with a harmless word in place of all others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from workbench.core.errors import ModelError
from workbench.tokenizers.base import Span

Render = Callable[[Sequence[str]], str]
"""Renders the conversation with these contents in place of its own."""

_FIRST_MARK, _LAST_MARK = 0xF0000, 0xFFFFD  # a plane for private use: no text means anything by these
_MARKS = re.compile(f"[{chr(_FIRST_MARK)}-{chr(_LAST_MARK)}]")


@dataclass(frozen=True)
class Located:
    """`text` is the rendering; `spans[i]` the characters of message i (None: empty, left out, or not found);
    `exact` says that everything outside the spans was written by the template."""

    text: str
    spans: tuple[Span | None, ...]
    exact: bool


def locate(render: Render, contents: Sequence[str]) -> Located:
    """Render and find the messages. Costs two renderings, more where marks do not work; raises what `render` raises."""
    text = render(contents)
    blank = [not c.strip() for c in contents]
    if not any(_MARKS.search(c) for c in contents) and 2 * len(contents) <= _LAST_MARK - _FIRST_MARK:
        for around_whitespace in (True, False):
            spans = _by_marks(render, contents, text, around_whitespace)
            if spans is not None:
                return Located(text, spans, exact=True)
    found = _by_measure(render, contents, text)
    if found is not None:
        return Located(text, found, exact=True)
    return Located(text, (None,) * len(contents), exact=all(blank))


def _by_marks(render: Render, contents: Sequence[str], text: str, around_whitespace: bool) -> tuple[Span | None, ...] | None:
    """Spans of marked messages, or None where marking changes the text. Templates that trim need the marks inside."""
    marked = []
    for i, content in enumerate(contents):
        core = content if around_whitespace else content.strip()
        start = 0 if around_whitespace else len(content) - len(content.lstrip())
        inside = chr(_FIRST_MARK + 2 * i) + core + chr(_FIRST_MARK + 2 * i + 1)
        marked.append(content[:start] + inside + content[start + len(core) :] if core.strip() else content)
    try:
        rendered = render(marked)
    except ModelError:
        return None
    if _MARKS.sub("", rendered) != text:
        return None
    places: dict[int, int] = {}
    for removed, match in enumerate(_MARKS.finditer(rendered)):
        mark = ord(match[0]) - _FIRST_MARK
        if mark in places:
            return None
        places[mark] = match.start() - removed
    spans: list[Span | None] = []
    for opening in range(0, 2 * len(contents), 2):
        edges = [places[mark] for mark in (opening, opening + 1) if mark in places]
        if len(edges) == 1:
            return None
        spans.append((edges[0], edges[1]) if edges else None)
    return tuple(spans) if _in_order([s for s in spans if s]) else None


def _by_measure(render: Render, contents: Sequence[str], text: str) -> tuple[Span | None, ...] | None:
    """Spans by rendering each message alone among harmless words; None where the parts do not add up to `text`."""
    words = [f"qz{i}words{i}zq" if c.strip() else c for i, c in enumerate(contents)]
    try:
        skeleton = render(words)
    except ModelError:
        return None
    at = [(skeleton.find(w), i) for i, w in enumerate(words) if contents[i].strip()]
    if any(place < 0 or skeleton.count(words[i]) > 1 for place, i in at):
        return None
    spans: list[Span | None] = [None] * len(contents)
    built, copied = "", 0
    for place, i in sorted(at):
        before, after = skeleton[:place], skeleton[place + len(words[i]) :]
        try:
            alone = render([*words[:i], contents[i], *words[i + 1 :]])
        except ModelError:
            return None
        if len(alone) < len(before) + len(after) or not (alone.startswith(before) and alone.endswith(after)):
            return None
        built += skeleton[copied:place]
        start = len(built)
        built += alone[len(before) : len(alone) - len(after)]
        spans[i] = (start, len(built))
        copied = place + len(words[i])
    return tuple(spans) if built + skeleton[copied:] == text else None


def _in_order(spans: Sequence[Span]) -> bool:
    """True when the spans, sorted, do not overlap."""
    ordered = sorted(spans)
    return all(start <= end for start, end in ordered) and all(a[1] <= b[0] for a, b in pairwise(ordered))
