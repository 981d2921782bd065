"""Files that survive a crash."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from workbench.core import store
from workbench.core.errors import FileError
from workbench.core.store import atomic_folder, atomic_path, read_json, recover_inside, write_json, write_text


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_way(path: Path, error: BaseException) -> None:
    path.write_text("half of the n")
    raise error


# ---- one file ------------------------------------------------------------------------------------------------------


def test_write_text_replaces_and_makes_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "note.txt"
    write_text(path, "eins")
    write_text(path, "zwei ✓")
    assert path.read_text(encoding="utf-8") == "zwei ✓"
    assert left(path.parent) == ["note.txt"]


class Crash(BaseException):
    """Not an `Exception`: as when the interpreter is being taken down."""


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), Crash()], ids=lambda e: type(e).__name__)
def test_a_crash_in_the_middle_keeps_the_old_file(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "old")
    with pytest.raises(type(error)), atomic_path(path) as temporary:
        half_way(temporary, error)
    assert path.read_text() == "old"
    assert left(tmp_path) == ["note.txt"]


def test_the_new_file_is_not_seen_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent, "a rename across file systems is not atomic"
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("where", ["fsync", "replace", "open"])
def test_a_full_disk_keeps_the_old_file_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    path = tmp_path / "note.txt"
    write_text(path, "old")
    with monkeypatch.context() as patch:
        if where == "open":
            patch.setattr(store.tempfile, "mkstemp", full_disk)
        else:
            patch.setattr(store.os, where, full_disk)
        with pytest.raises(FileError, match=r"The disk is full: note.txt was not written \(\d+ MB free\)") as caught:
            write_text(path, "new")
    assert "untouched" in caught.value.hint
    assert path.read_text() == "old"
    assert left(tmp_path) == ["note.txt"]


def test_a_full_disk_while_writing_is_the_same(tmp_path: Path) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileError, match="The disk is full"), atomic_path(tmp_path / "x") as temporary:
        half_way(temporary, error)
    assert left(tmp_path) == []


def test_other_write_errors_name_the_path_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"note.txt cannot be written: .*(irectory|exists)") as caught:
        write_text(tmp_path / "file" / "note.txt", "x")
    assert "permissions" in caught.value.hint
    with pytest.raises(FileError, match="cannot be written: it broke"), atomic_path(tmp_path / "x"):
        raise OSError("it broke")  # no errno, no strerror


# ---- one folder ----------------------------------------------------------------------------------------------------


def test_a_folder_takes_the_old_ones_place_whole(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with atomic_folder(path) as temporary:
        (temporary / "old").write_text("1")
    with atomic_folder(path) as temporary:
        (temporary / "new").write_text("2")
        assert left(path) == ["old"]
    assert left(path) == ["new"]
    assert left(tmp_path) == ["run"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(errno.EIO, "bad disk")], ids=lambda e: type(e).__name__)
def test_a_crash_in_the_middle_keeps_the_old_folder(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "run"
    with atomic_folder(path) as temporary:
        (temporary / "old").write_text("1")
    wanted = FileError if isinstance(error, OSError) else type(error)
    with pytest.raises(wanted), atomic_folder(path) as temporary:
        half_way(temporary / "new", error)
    assert left(path) == ["old"]
    assert left(tmp_path) == ["run"]


def test_a_swap_that_fails_half_way_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    with atomic_folder(path) as temporary:
        (temporary / "old").write_text("1")
    replace = os.replace

    def fails_for_the_new_one(source: Path, target: Path) -> None:
        if Path(source).suffix == ".part":
            raise PermissionError(errno.EACCES, "held by a virus scanner")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "replace", fails_for_the_new_one)
        with pytest.raises(FileError, match="held by a virus scanner"), atomic_folder(path) as temporary:
            (temporary / "new").write_text("2")
    assert left(path) == ["old"]
    assert left(tmp_path) == ["run"]


def test_what_an_earlier_crash_left_is_no_hindrance(tmp_path: Path) -> None:
    old = tmp_path / ".run.old"
    old.mkdir()
    (old / "x").write_text("")
    with atomic_folder(tmp_path / "run") as temporary:
        (temporary / "new").write_text("2")
    assert left(tmp_path) == ["run"]


def killed_between_the_renames(path: Path) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "old").write_text("1")
    path.rename(path.with_name(f".{path.name}.old"))


def test_a_crash_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run"
    killed_between_the_renames(path)
    with pytest.raises(ValueError, match="x"), atomic_folder(path) as temporary:
        half_way(temporary / "new", ValueError("x"))
    assert left(path) == ["old"], "the only copy was deleted before there was another"
    assert left(tmp_path) == ["run"]


def test_recovery_puts_back_what_was_moved_aside_and_removes_halves(tmp_path: Path) -> None:
    killed_between_the_renames(tmp_path / "one")
    (tmp_path / "two").mkdir()
    (tmp_path / ".two.old").mkdir()  # killed after the second rename
    (tmp_path / ".two.a1b2_c3d.part").mkdir()
    (tmp_path / ".note.json.a1b2_c3d.part").write_text("half")
    (tmp_path / ".mine.old").write_text("a file of somebody else")
    (tmp_path / ".git").mkdir()
    recover_inside(tmp_path)
    assert left(tmp_path) == [".git", ".mine.old", "one", "two"]
    assert left(tmp_path / "one") == ["old"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"), atomic_folder(tmp_path / "file" / "run"):
        pytest.fail("the block must not run")


# ---- JSON with a version -------------------------------------------------------------------------------------------


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": [1, 2.5, None], "ü": "✓"}, kind="thing", version=3)
    assert json.loads(path.read_text(encoding="utf-8"))["version"] == 3
    assert read_json(path, kind="thing", version=3) == {"a": [1, 2.5, None], "ü": "✓"}


def test_old_versions_are_migrated_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"n": 1}, kind="thing", version=1)
    steps = {1: lambda d: {"m": d["n"] * 10}, 2: lambda d: {**d, "extra": True}}
    assert read_json(path, kind="thing", version=3, migrations=steps) == {"m": 10, "extra": True}
    assert json.loads(path.read_text())["version"] == 1, "reading does not rewrite the file"
    with pytest.raises(FileError, match="has version 1, which cannot be read any more"):
        read_json(path, kind="thing", version=3, migrations={2: steps[2]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"kind": "thing", "version": 4}', "has version 4; this program reads up to 3"),
        ('{"kind": "thing"}', "has version None; this program reads up to 3"),
        ('{"kind": "thing", "version": "new"}', "has version new"),
        ('{"kind": "other", "version": 1}', "is not a thing file"),
        ("[1, 2]", "is not a thing file"),
        ("null", "is not a thing file"),
        ('{"kind": "thing", "vers', "is not readable JSON"),
        ("", "is not readable JSON"),
        (b"\xff\xfe\x00", "is not readable JSON"),
        ("[" * 200_000, "is not readable JSON"),
        ('{"kind": "thing", "version": ' + "1" * 5000 + "}", "is not readable JSON"),
    ],
    ids=["newer", "none", "text", "kind", "list", "null", "cut", "empty", "bytes", "deep", "digits"],
)
def test_damaged_and_foreign_files_have_a_sentence(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FileError, match=message) as caught:
        read_json(path, kind="thing", version=3)
    assert caught.value.message.startswith(str(path))
    assert caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone.json does not exist\."):
        read_json(tmp_path / "gone.json", kind="thing", version=1)
    with pytest.raises(FileError, match="cannot be read"):
        read_json(tmp_path, kind="thing", version=1)
