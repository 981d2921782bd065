"""The registry of data files and how one is chosen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Protocol

from workbench.core.errors import DataError
from workbench.core.registry import Registry
from workbench.data.examples import Row, RowProblem


class FileReader(Protocol):
    """Reads one kind of file, row by row, holding no more than one block of it."""

    suffixes: ClassVar[tuple[str, ...]]

    def rows(self, path: Path) -> Iterator[Row | RowProblem]:
        """The file's records in order, and a problem in the place of each that is broken. Raises `FileError`."""
        ...


FILES: Registry[FileReader] = Registry("kind of data file")


def suffixes() -> dict[str, str]:
    """File name ending (".txt") -> name of the kind that reads it."""
    return {suffix: entry.name for entry in FILES for suffix in entry.make().suffixes}


def reader_of(path: Path) -> FileReader:
    """The reader for a file by the ending of its name; `DataError` naming the known ones when there is none."""
    known = suffixes()
    if path.suffix.lower() not in known:
        raise DataError(
            f"{path.name} is not a kind of data file that can be read ({path.suffix or 'no ending'}).",
            hint=f"Known endings: {', '.join(sorted(known))}.",
        )
    return FILES[known[path.suffix.lower()]].make()
