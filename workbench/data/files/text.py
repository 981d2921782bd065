"""Plain text and Markdown: the file is a document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from workbench.data.encoding import SAVE_AS_UTF8, BadLine, lines
from workbench.data.examples import Row, RowProblem
from workbench.data.files.base import FILES

_PART = 1_000_000


@FILES.register(
    "text", label="Plain text", source="Unicode text", help="A .txt or .md file is one document; every token of it is learnt."
)  # fmt: skip
class PlainText:
    """One row per document, and per million characters of a longer one, cut at the end of a line: files may be larger
    than memory."""

    suffixes: ClassVar[tuple[str, ...]] = (".txt", ".md", ".markdown", ".text")

    def rows(self, path: Path) -> Iterator[Row | RowProblem]:
        part: list[str] = []
        size, begin = 0, 1
        for number, line in lines(path):
            if isinstance(line, BadLine):
                yield RowProblem(path.name, number, line.reason, SAVE_AS_UTF8)
                return
            part.append(line)
            size += len(line) + 1
            if size >= _PART:
                yield Row(begin, {"text": "\n".join(part) + "\n"})
                part, size, begin = [], 0, number + 1
        if size or begin == 1:
            yield Row(begin, {"text": "\n".join(part)})
