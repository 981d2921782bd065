"""JSON Lines: one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from workbench.data.encoding import SAVE_AS_UTF8, BadLine, lines
from workbench.data.examples import Row, RowProblem
from workbench.data.files.base import FILES


@FILES.register(
    "jsonl", label="JSON Lines", source="https://jsonlines.org",
    help="One JSON object per line; a broken line is reported and the others are kept.",
)  # fmt: skip
class JsonLines:
    """One row per line that is not blank."""

    suffixes: ClassVar[tuple[str, ...]] = (".jsonl", ".ndjson")

    def rows(self, path: Path) -> Iterator[Row | RowProblem]:
        for number, line in lines(path):
            if isinstance(line, BadLine):
                yield RowProblem(path.name, number, line.reason, SAVE_AS_UTF8)
            elif line.strip():
                yield row_of(path.name, number, line)


def row_of(file: str, number: int, text: str) -> Row | RowProblem:
    """The record written in `text`."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return RowProblem(file, number, f"The line is not JSON ({error.msg} at column {error.colno}).", "Correct the line, or delete it.")
    except RecursionError:
        return RowProblem(file, number, "The line nests lists or objects too deeply.", "Correct the line, or delete it.")
    return checked(file, number, value)


def checked(file: str, number: int, value: object) -> Row | RowProblem:
    """`value` as a row, if it is an object."""
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number or truth value")
        return RowProblem(file, number, f"The row is {kind}, not an object.", 'Write one object per row, such as {"messages": [...]}.')
    return Row(number, value)
