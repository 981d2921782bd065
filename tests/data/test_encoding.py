"""Text files are decoded strictly; what is no text is named with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.core.errors import FileError
from workbench.data import encoding
from workbench.data.encoding import BadLine, detect, lines

TEXT = "héllo\nwörld 中\n\nlast"
Write = Callable[..., Path]


@pytest.mark.parametrize("name", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_encodings_are_told_apart(write: Write, name: str) -> None:
    path = write("a.txt", TEXT.encode(name))
    assert [line for _, line in lines(path)] == TEXT.split("\n")


@pytest.mark.parametrize("name", ["utf-8", "utf-16"])
def test_windows_line_ends_and_blocks_change_nothing(write: Write, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(encoding, "_BLOCK", 7)
    path = write("a.txt", TEXT.replace("\n", "\r\n").encode(name))
    assert list(lines(path)) == list(enumerate(TEXT.split("\n"), 1))


def test_a_byte_that_is_no_text_is_named_with_its_line_and_the_next_line_is_read(write: Write) -> None:
    path = write("a.txt", b"one\ntw\xe9 two\nthree\n")
    found = list(lines(path))
    assert found[0] == (1, "one")
    assert found[2] == (3, "three")
    number, bad = found[1]
    assert isinstance(bad, BadLine)
    assert (number, bad.line, bad.ends) == (2, 2, False)
    assert "0xE9" in bad.reason
    assert "position 3" in bad.reason


def test_half_a_character_ends_a_wide_file(write: Write) -> None:
    *_, (number, last) = lines(write("a.txt", "one\ntwo".encode("utf-16") + b"\x00"))
    assert isinstance(last, BadLine)
    assert last.ends
    assert number == 2


def test_overlong_lines_are_left_out(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MAX_LINE", 10)
    found = list(lines(write("a.txt", "short\n" + "x" * 35 + "\nagain\n")))
    assert [n for n, _ in found] == [1, 2, 3]
    assert isinstance(found[1][1], BadLine)
    assert found[2][1] == "again"


def test_ascii_with_some_zeros_is_not_taken_for_utf16() -> None:
    assert detect(b"abc\x00def" * 10)[0] == "utf-8"
    assert detect(b"")[0] == "utf-8"


def test_a_missing_file_is_an_error_with_a_fix(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="does not exist") as caught:
        list(lines(tmp_path / "none.txt"))
    assert caught.value.hint
