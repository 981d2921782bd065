"""Every kind of data file keeps the promises of `FileReader`."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.core.errors import FileError
from workbench.data import FILES, RowProblem
from workbench.data.examples import Row
from workbench.data.files import suffixes

KINDS = FILES.names()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def file_of(kind: str, folder: Path, content: bytes) -> Path:
    path = folder / ("data" + FILES[kind].make().suffixes[0])
    path.write_bytes(content)
    return path


def test_endings_are_lower_case_and_belong_to_one_kind(kind: str) -> None:
    own = FILES[kind].make().suffixes
    assert own
    assert all(s.startswith(".") and s == s.lower() and suffixes()[s] == kind for s in own)


def test_an_empty_file_gives_no_usable_row(kind: str, tmp_path: Path) -> None:
    rows = list(FILES[kind].make().rows(file_of(kind, tmp_path, b"")))
    assert not any(isinstance(r, Row) and any(r.value.values()) for r in rows)


def test_bytes_that_are_no_text_are_a_problem_with_a_fix_and_no_crash(kind: str, tmp_path: Path) -> None:
    path = file_of(kind, tmp_path, b"\x89PNG\r\n\x1a\n\xff\xfe\xfd" * 50)
    found = list(FILES[kind].make().rows(path))
    problems = [r for r in found if isinstance(r, RowProblem)]
    assert problems
    assert all(p.file == path.name and p.reason.endswith(".") and p.fix.endswith(".") for p in problems)
    assert not [r for r in found if isinstance(r, Row)]


def test_a_missing_file_is_a_file_error(kind: str, tmp_path: Path) -> None:
    path = file_of(kind, tmp_path, b"")
    path.unlink()
    with pytest.raises(FileError) as caught:
        list(FILES[kind].make().rows(path))
    assert caught.value.hint


def test_rows_are_numbered_in_order(kind: str, tmp_path: Path) -> None:
    contents = {
        "text": b"one\ntwo\n",
        "jsonl": b'{"text": "one"}\n{"text": "two"}\n',
        "json": b'[{"text": "one"}, {"text": "two"}]',
        "csv": b"text\none\ntwo\n",
    }
    rows = [r for r in FILES[kind].make().rows(file_of(kind, tmp_path, contents[kind])) if isinstance(r, Row)]
    assert rows
    numbers = [r.number for r in rows]
    assert numbers == sorted(set(numbers))
    assert "one" in str(rows[0].value["text"])
