"""What reading data yields: examples to learn from, and rows that could not be read, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workbench.core.errors import DataError
from workbench.tokenizers import Message


@dataclass(frozen=True)
class TextExample:
    """A plain document; every token is learnt. `row` is the line it begins at, from 1."""

    text: str
    file: str
    row: int


@dataclass(frozen=True)
class ChatExample:
    """A conversation; replies are learnt. `row` is its line or record, from 1."""

    messages: tuple[Message, ...]
    file: str
    row: int


Example = TextExample | ChatExample


@dataclass(frozen=True)
class RowProblem:
    """A row that is left out: where (`row` 0: the file as a whole), why, and how to mend it."""

    file: str
    row: int
    reason: str
    fix: str = ""

    def __str__(self) -> str:
        place = f"{self.file}, row {self.row}" if self.row else self.file
        return f"{place}: {self.reason} {self.fix}".strip()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"file": self.file, "row": self.row, "reason": self.reason, "fix": self.fix}


@dataclass(frozen=True)
class Row:
    """One record of a file before its meaning is known: column names to values."""

    number: int
    value: Mapping[str, Any]


class BadRow(DataError):
    """A record that cannot become an example; readers raise it, `read_examples` turns it into a `RowProblem`."""
