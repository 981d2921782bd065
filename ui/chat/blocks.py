"""Markdown cut into blocks, so that a growing answer changes only its last one. Knows nothing of Qt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["text", "code"]
CHUNK: Final = 1_200
"""Characters after which a text block ends at the next paragraph: what is drawn anew with every flush stays small."""

_FENCE: Final = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.\-]*)[^`\n]*$")
_CONTINUES: Final = re.compile(r"^(?:[ \t]|[-*+](?:[ \t]|$)|\d+(?:[.)](?:[ \t]|$)|$)|\||>)")
"""A line that belongs to the list, table or quote before it; so may one that has only just begun ("1" may become "1. ")."""
_IMAGE: Final = re.compile(r"!\[([^\]\n]*)\]\(")
_FORMULA: Final = re.compile(r"\\(?=[()\[\]{}\\])")
"""Marks of LaTeX that Markdown would take for its own escapes: \\( x \\), \\[ x \\], \\{, \\\\."""
_SPAN: Final = re.compile(r"(`[^`\n]*`)")


@dataclass(frozen=True)
class Block:
    """A run of Markdown, or a code block (`text` is then the code; `closed` False while its fence is open)."""

    kind: Kind
    text: str
    language: str = ""
    closed: bool = True


class BlockSplitter:
    """The blocks of a text that only grows. All but the last stay as they are."""

    def __init__(self, chunk: int = CHUNK) -> None:
        self.blocks: list[Block] = []
        self._chunk = chunk
        self._start = 0

    def update(self, text: str) -> int:
        """Take the longer text; returns the index of the first block that may differ from before."""
        text = text.replace("\r\n", "\n")
        first = max(len(self.blocks) - 1, 0)
        found = list(_scan(text[self._start :], self._chunk))
        self.blocks[first:] = [block for block, _ in found]
        if found:
            self._start += found[-1][1]
        return first


def split(text: str) -> list[Block]:
    """The blocks of a whole text."""
    splitter = BlockSplitter()
    splitter.update(text)
    return splitter.blocks


def _scan(text: str, chunk: int) -> Iterator[tuple[Block, int]]:
    """Blocks with the offset at which each begins. A blank run of text makes no block."""
    lines = text.splitlines(keepends=True)
    waiting: list[str] = []
    size, start, offset, at = 0, 0, 0, 0
    while at < len(lines):
        line = lines[at]
        opening = _FENCE.match(line.rstrip("\r\n"))
        ends_here = size >= chunk and not lines[at - 1].strip() and line.strip() and not _CONTINUES.match(line)
        if opening or ends_here:
            if "".join(waiting).strip():
                yield Block("text", "".join(waiting)), start
            waiting, size, start = [], 0, offset
        if opening:
            block, used = _code(lines, at, opening)
            yield block, offset
            offset += sum(map(len, lines[at : at + used]))
            at += used
            start = offset
            continue
        waiting.append(line)
        size += len(line)
        offset += len(line)
        at += 1
    if "".join(waiting).strip():
        yield Block("text", "".join(waiting)), start


def _code(lines: list[str], at: int, opening: re.Match[str]) -> tuple[Block, int]:
    """The code block whose fence opens at line `at`, and how many lines it takes."""
    fence, indent, language = opening["fence"], len(opening["indent"]), opening["language"]
    body: list[str] = []
    for used, line in enumerate(lines[at + 1 :], 2):
        bare = line.strip()
        if len(bare) >= len(fence) and set(bare) == {fence[0]} and line.endswith("\n"):
            return Block("code", "".join(body).rstrip("\n"), language), used
        if len(bare) >= len(fence) and set(bare) == {fence[0]} and at + used == len(lines):
            return Block("code", "".join(body).rstrip("\n"), language), used
        lead = len(line) - len(line.lstrip(" \t"))
        body.append(line[min(indent, lead) :])
    return Block("code", "".join(body), language, closed=False), len(lines) - at


def readable(text: str) -> str:
    """Markdown as a person expects it in a chat: line breaks and formulas stay, and an image is a link to it (nothing is fetched)."""
    text = "".join(part if i % 2 else _prepared(part) for i, part in enumerate(_SPAN.split(text)))
    lines = text.split("\n")
    pairs = zip(lines, [*lines[1:], ""], strict=True)
    return "\n".join(line.rstrip() + "  " if line.strip() and following.strip() else line for line, following in pairs)


def _prepared(text: str) -> str:
    links = _IMAGE.sub(lambda m: f"[image: {m[1] or 'no description'}](", text)
    return _FORMULA.sub(r"\\\\", links)
