"""Paths, folders and built-in sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.core.errors import DataError
from workbench.data import ChatExample, DataConfig, RowProblem, TextExample, read_examples

Write = Callable[..., Path]


def test_files_come_in_the_order_given_and_rows_in_theirs(write: Write) -> None:
    first, second = write("z.txt", "zebra"), write("a.jsonl", [{"text": "apple"}, {"bad": 1}, {"prompt": "q", "completion": "a"}])
    found = list(read_examples([first, str(second)]))
    assert found[0] == TextExample("zebra", "z.txt", 1)
    assert found[1] == TextExample("apple", "a.jsonl", 1)
    assert isinstance(found[2], RowProblem)
    assert str(found[2]).startswith("a.jsonl, row 2: The row has no known format")
    assert isinstance(found[3], ChatExample)
    assert found[3].row == 3


def test_folders_are_read_sorted_at_all_levels_without_hidden_files(write: Write, tmp_path: Path) -> None:
    for name in ("d/b.txt", "d/a/c.md", "d/.git/x.txt", "d/.hidden.txt", "d/picture.png"):
        write(name, "text")
    write("d/bad.jsonl", "{\n")
    found = list(read_examples([tmp_path / "d"]))
    assert [e.file for e in found] == ["a/c.md", "b.txt", "bad.jsonl"]
    assert isinstance(found[-1], RowProblem)


@pytest.mark.parametrize(
    ("name", "says"), [("none.jsonl", "does not exist"), ("a.docx", "cannot be read|can be read"), ("empty", "no data files")]
)
def test_what_cannot_be_opened_is_an_error_at_once(write: Write, tmp_path: Path, name: str, says: str) -> None:
    write("a.docx", b"x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=says) as caught:
        read_examples([tmp_path / name])
    assert caught.value.hint


def test_no_source_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="No data"):
        read_examples([])


def test_the_settings_are_checked_together() -> None:
    assert DataConfig().problems() == []
    broken = DataConfig(sources=(), roles=("x=boss",), validation_fraction=0.9, train_on="some")
    assert {p.field for p in broken.problems()} == {"sources", "roles", "validation_fraction", "train_on"}
