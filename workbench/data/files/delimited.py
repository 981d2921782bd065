"""Tables as text: comma- or tab-separated, with the column names in the first line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from workbench.data.encoding import SAVE_AS_UTF8, BadLine, lines
from workbench.data.examples import Row, RowProblem
from workbench.data.files.base import FILES


@FILES.register(
    "csv", label="CSV or TSV", source="RFC 4180", help="A table whose first line names the columns; fields may span lines when quoted."
)  # fmt: skip
class Delimited:
    """One row per record; `Row.number` is the line the record ends at, as spreadsheets and editors count."""

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv")

    def rows(self, path: Path) -> Iterator[Row | RowProblem]:
        bad: list[BadLine] = []

        def readable() -> Iterator[str]:
            for _, line in lines(path):
                if isinstance(line, BadLine):
                    bad.append(line)
                    return
                yield line + "\n"

        reader = csv.reader(readable(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        names: list[str] = []
        try:
            for record in reader:
                if not record:
                    continue
                if not names:
                    names = [name.strip() for name in record]
                elif len(record) != len(names):
                    reason = f"The row has {len(record)} fields; the first line names {len(names)} columns."
                    yield RowProblem(path.name, reader.line_num, reason, "Quote fields that contain the separator.")
                else:
                    yield Row(reader.line_num, dict(zip(names, record, strict=True)))
        except csv.Error as error:
            yield RowProblem(path.name, reader.line_num, f"The table is broken here ({error}).", "Correct the quotes of this row.")
        for line in bad:
            yield RowProblem(path.name, line.line, line.reason + " Nothing after it was read.", SAVE_AS_UTF8)
