"""Kinds of data files: rows in order, broken ones named, the rest kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.data.examples import Row, RowProblem
from workbench.data.files import json_array, reader_of, text

Write = Callable[..., Path]


def read(path: Path) -> tuple[list[Row], list[RowProblem]]:
    found = list(reader_of(path).rows(path))
    return [r for r in found if isinstance(r, Row)], [r for r in found if isinstance(r, RowProblem)]


def test_a_broken_json_line_is_named_and_the_others_are_kept(write: Write) -> None:
    rows, problems = read(write("a.jsonl", '{"text": "a"}\n\n{"text": "b"\n[1]\nnull\n{"text": "c"}\n'))
    assert [(r.number, r.value["text"]) for r in rows] == [(1, "a"), (6, "c")]
    assert [p.row for p in problems] == [3, 4, 5]
    assert "not JSON" in problems[0].reason
    assert "column" in problems[0].reason
    assert "a list" in problems[1].reason
    assert all(p.fix and p.file == "a.jsonl" for p in problems)


def test_bad_bytes_in_one_json_line_cost_that_line_only(write: Write) -> None:
    rows, problems = read(write("a.jsonl", b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "\xe9"}\r\n{"text": "c"}'))
    assert [r.number for r in rows] == [1, 3]
    assert [p.row for p in problems] == [2]


def test_nesting_bombs_are_a_problem_not_a_crash(write: Write) -> None:
    rows, problems = read(write("a.jsonl", '{"a": ' + "[" * 100_000 + "\n" + '{"text": "b"}\n'))
    assert [r.number for r in rows] == [2]
    assert [p.row for p in problems] == [1]


@pytest.mark.parametrize("block", [1, 5, 1000])
def test_json_lists_are_read_piece_by_piece(write: Write, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(json_array, "_BLOCK", block)
    values = [{"text": "é" * n, "n": n} for n in range(9)]
    rows, problems = read(write("a.json", json.dumps(values, ensure_ascii=False, indent=1)))
    assert [dict(r.value) for r in rows] == values
    assert [r.number for r in rows] == list(range(1, 10))
    assert not problems


@pytest.mark.parametrize(
    ("content", "kept", "says"),
    [
        ('[{"text": "a"}, {"text": ', 1, "not JSON"),
        ('[{"text": "a"}, {"text": "b"}', 2, "cut off"),
        ('[{"text": "a"}, 3, {"text": "b"}]', 2, "not an object"),
        ('[{"text": "a"}, {"x" 3}, {"text": "b"}]', 1, "not JSON"),
        ("hello", 0, "neither a JSON list nor an object"),
        ("", 0, "neither a JSON list nor an object"),
        (b'[{"text": "\xe9"}]', 0, "not UTF-8"),
        ('{"text": ', 0, "not JSON"),
    ],
)
def test_broken_json_files_keep_what_was_whole(write: Write, content: str | bytes, kept: int, says: str) -> None:
    rows, problems = read(write("a.json", content))
    assert len(rows) == kept
    assert len(problems) == 1
    assert says in problems[0].reason
    assert problems[0].fix


def test_json_objects_are_a_row_or_hold_the_rows(write: Write) -> None:
    assert [dict(r.value) for r in read(write("a.json", '{"text": "a"}'))[0]] == [{"text": "a"}]
    assert [r.value["text"] for r in read(write("b.json", '{"version": 1, "data": [{"text": "a"}, {"text": "b"}]}'))[0]] == ["a", "b"]
    assert len(read(write("c.json", '{"messages": [{"role": "user", "content": "a"}]}'))[0]) == 1


def test_json_lines_under_the_name_of_json_are_read_too(write: Write) -> None:
    rows, problems = read(write("a.json", '{"text": "a"}\n{"text": "b"}\n{"text\n'))
    assert [r.value["text"] for r in rows] == ["a", "b"]
    assert [p.row for p in problems] == [3]


def test_tables_keep_quoted_lines_together(write: Write) -> None:
    rows, problems = read(write("a.csv", 'prompt, completion\n"a\nb",c\nd\n"e, f","g ""h"""\n'))
    assert [dict(r.value) for r in rows] == [{"prompt": "a\nb", "completion": "c"}, {"prompt": "e, f", "completion": 'g "h"'}]
    assert [(p.row, "1 fields" in p.reason) for p in problems] == [(4, True)]


def test_tables_with_tabs_and_with_broken_quotes(write: Write) -> None:
    rows, _ = read(write("a.tsv", "q\ta\n1, 2\t3\n"))
    assert [dict(r.value) for r in rows] == [{"q": "1, 2", "a": "3"}]
    rows, problems = read(write("b.csv", 'q,a\n1,2\n3,"4\n'))
    assert [r.number for r in rows] == [2]
    assert "broken" in problems[0].reason
    rows, problems = read(write("c.csv", b"q,a\n1,2\n3,\xe9\n5,6\n"))
    assert [r.number for r in rows] == [2]
    assert problems[0].row == 3


def test_a_text_file_is_one_document_and_a_long_one_several(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "first\n\nsecond\nthird"
    path = write("a.md", content)
    assert [(r.number, r.value["text"]) for r in read(path)[0]] == [(1, content)]
    monkeypatch.setattr(text, "_PART", 10)
    rows, _ = read(path)
    assert [r.number for r in rows] == [1, 4]
    assert "".join(r.value["text"] for r in rows) == content


def test_a_text_file_that_is_no_text_is_left_out(write: Write) -> None:
    rows, problems = read(write("a.txt", b"\x89PNG\r\n\x1a\n\x00\xff"))
    assert not rows
    assert problems[0].row == 1
