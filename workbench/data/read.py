"""From paths and names to examples, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from workbench.core.errors import DataError
from workbench.data.builtin import SOURCES
from workbench.data.examples import BadRow, ChatExample, Example, Row, RowProblem, TextExample
from workbench.data.files import reader_of, suffixes
from workbench.data.shapes import role_map, shape_of


def read_examples(sources: Sequence[str | Path], format: str | None = None, roles: Sequence[str] = ()) -> Iterator[Example | RowProblem]:
    """Every example of the files, folders (sorted, all levels) and built-in sets, and a problem for each row left out.

    Missing paths and unknown kinds of file raise `DataError` or `FileError` at the call, before anything is read.
    """
    opened = [(name, source) for given in sources for name, source in _open(given)]
    if not opened:
        raise DataError("No data are chosen.", hint="Choose a file, a folder, or a built-in data set.")
    mapped = role_map(roles)

    def read() -> Iterator[Example | RowProblem]:
        for name, source in opened:
            rows = reader_of(source).rows(source) if isinstance(source, Path) else SOURCES[source].make()
            for row in rows:
                if isinstance(row, Row):
                    yield _example(row, name, format, mapped)
                else:
                    yield replace(row, file=name) if isinstance(row, RowProblem) else row

    return read()


def _open(given: str | Path) -> list[tuple[str, Path | str]]:
    """(name, file or built-in set) for each thing that `given` stands for."""
    path = Path(given).expanduser()
    if isinstance(given, str) and given in SOURCES and not path.exists():
        return [(given, given)]
    if path.is_dir():
        known = suffixes()
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in known and not _hidden(p.relative_to(path)))
        if not files:
            raise DataError(f"The folder {path.name or path} holds no data files.", hint=f"Known endings: {', '.join(sorted(known))}.")
        return [(f.relative_to(path).as_posix(), f) for f in files]
    if not path.exists():
        raise DataError(f"{given} does not exist.", hint=f"Check the path, or use a built-in data set: {', '.join(SOURCES.names())}.")
    reader_of(path)
    return [(path.name, path)]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _example(row: Row, file: str, format: str | None, roles: dict[str, str]) -> Example | RowProblem:
    try:
        found = shape_of(row.value, roles, format).read(row.value, roles)
    except BadRow as error:
        return RowProblem(file, row.number, error.message, error.hint)
    if isinstance(found, str):
        return TextExample(found, file, row.number)
    return ChatExample(found, file, row.number)
