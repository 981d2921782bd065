"""The doctor names what is wrong and how to mend it, also on an installation that is broken."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from workbench import doctor
from workbench.doctor import Check, checks, healthy, home_checks, import_failures, library_checks, processor_features, requirements


def named(found: list[Check], name: str) -> Check:
    return next(c for c in found if c.name == name)


@pytest.mark.slow
def test_this_installation_is_healthy(home: Path) -> None:
    found = checks()
    assert [c for c in found if c.required and not c.ok] == []
    assert healthy(found)
    names = [c.name for c in found]
    assert names[0] == "Python"
    assert {"torch", "PySide6-Essentials", "Qt libraries", "Display", "Processor", "Device", "Memory", "Disk"} <= set(names)
    assert len(set(names)) == len(names)
    assert named(found, "Data folder").detail == str(home)
    assert all(c.ok or c.fix for c in found), "a finding without a fix helps nobody"


def test_requirements_are_the_projects_own() -> None:
    assert any(r.startswith("torch") for r in requirements())
    assert not any("pytest" in r for r in requirements())


def test_versions_out_of_range_and_missing_libraries() -> None:
    found = library_checks(["pytest>=999", "no-such-library>=1", "pytest>=1; python_version < '3'", "platformdirs>=1"])
    assert [(c.name, c.ok) for c in found] == [("pytest", False), ("no-such-library", False), ("platformdirs", True)]
    assert "does not satisfy >=999" in found[0].detail
    assert found[0].fix.endswith("-m pip install 'pytest>=999'")
    assert found[1].detail == "not installed"
    assert not healthy(found)


def test_a_library_that_raises_or_crashes_is_named_and_the_rest_still_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raises_here.py").write_text("raise OSError('libGL.so.1: cannot open shared object file')")
    (tmp_path / "crashes_here.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGABRT)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    failures = import_failures(["json", "raises_here", "crashes_here", "base64", "not_there"])
    assert set(failures) == {"raises_here", "crashes_here", "not_there"}
    assert "libGL.so.1" in failures["raises_here"]
    assert "status -6" in failures["crashes_here"]


def test_an_import_that_prints_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "talks_here.py").write_text("print('hello'); print('a\\tb')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert import_failures(["talks_here", "json"]) == {}


def test_an_import_that_hangs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hangs_here.py").write_text("import signal\nsignal.pause()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(doctor, "_IMPORT_SECONDS", 0.5)
    assert "not done after" in import_failures(["hangs_here", "json"])["hangs_here"]


def test_a_data_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert named(home_checks(tmp_path / "new" / "home"), "Data folder").ok
    check = named(home_checks(tmp_path / "file" / "home"), "Data folder")
    assert not check.ok
    assert "WORKBENCH_HOME" in check.fix


def test_little_memory_and_disk_are_advice(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5e8, total=4e9))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e8))
    found = [doctor.memory_check(), *home_checks(home)]
    assert (named(found, "Memory").ok, named(found, "Disk").ok, named(found, "Starter model").ok) == (False, False, False)
    assert named(found, "Memory").detail == "500 MB of 4.0 GB free"
    assert "models fetch starter" in named(found, "Starter model").fix
    assert healthy(found)


def test_processor_features_are_read_from_the_flags(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 sse\n")
    assert processor_features(info) == {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}
    assert processor_features(tmp_path / "none") == frozenset()
