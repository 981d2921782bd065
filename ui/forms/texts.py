"""Lists of texts on one line, with commas between and a backslash before what would be misread. Qt-free."""

from __future__ import annotations

from typing import Any, Final

_ESCAPES: Final = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", ",": "\\,"}
_UNESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", ",": ",", "\\": "\\"}


def list_text(values: tuple[Any, ...]) -> str:
    """("###", "\\n") -> '###, \\n'. The inverse of `list_parts`; outer spaces of an item are written \\s."""
    parts = []
    for value in values:
        text = "".join(_ESCAPES.get(c, c) for c in str(value))
        inner = text.strip(" ")
        lead, trail = (len(text), 0) if not inner else (len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" ")))
        parts.append("\\s" * lead + inner + "\\s" * trail)
    return ", ".join(parts)


def list_parts(text: str) -> list[str]:
    """Split at commas, drop spaces around items and empty items, undo escapes."""
    parts: list[list[str]] = [[]]
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            following = next(letters, "\\")
            parts[-1].append("\0" if following == "s" else _UNESCAPES.get(following, "\\" + following))
        elif letter == ",":
            parts.append([])
        else:
            parts[-1].append(letter)
    joined = ("".join(p).strip(" ").replace("\0", " ") for p in parts)
    return [p for p in joined if p]
