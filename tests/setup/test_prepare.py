"""The set-up behind `make`: which Python, which torch, what is installed and what is only said."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from workbench.platform_checks import QT_LIBRARIES

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="make is for Unix; Windows uses plain pip")


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare", ROOT / ".ci" / "prepare.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec.loader.exec_module(module)
    for name in ("CI", "TORCH_INDEX"):
        monkeypatch.delenv(name, raising=False)
    return module


# ---- which Python ------------------------------------------------------------------------------------------------


def find_python(path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": f"{path}{os.pathsep}/usr/bin{os.pathsep}/bin", **more}
    return subprocess.run(["/bin/sh", str(ROOT / ".ci" / "find-python")], capture_output=True, text=True, env=environ)


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_a_shim_that_fails_is_passed_over(tmp_path: Path) -> None:
    script(tmp_path / "python3.11", "echo 'pyenv: python3.11: command not found' >&2; exit 127")
    script(tmp_path / "python3.12", f'exec {sys.executable} "$@"')
    found = find_python(tmp_path)
    assert found.returncode == 0
    assert found.stdout.strip() == sys.executable
    assert found.stderr == ""


def test_no_python_is_said_with_a_way_to_get_one(tmp_path: Path) -> None:
    found = find_python(tmp_path, PYTHON=str(tmp_path / "python9"))
    assert found.returncode == 2
    assert found.stdout == ""
    assert "apt-get install python3" in found.stderr


# ---- system packages ---------------------------------------------------------------------------------------------


def lacking(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, prefix: list[str] | None) -> list[tuple[str, ...]]:
    """A Debian without libGL and Xvfb; what would be run is recorded."""
    parts = iter([(QT_LIBRARIES[1:2], ("xvfb",)), ((), ())])
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(prepare, "missing_system_parts", lambda purpose: next(parts))
    monkeypatch.setattr(prepare.platform_checks, "is_debian", lambda: True)
    monkeypatch.setattr(prepare.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    monkeypatch.setattr(prepare, "root_prefix", lambda: prefix)
    monkeypatch.setattr(prepare, "run_quietly", lambda *command, **_: ran.append(command))
    return ran


def test_root_has_them_installed(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = lacking(prepare, monkeypatch, prefix=[])
    prepare.install_system_parts("test")
    assert [c[3] for c in ran] == ["-qq", "-qq"]
    assert ran[1][-2:] == ("libgl1", "xvfb")


def test_sudo_without_a_password_is_used(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = lacking(prepare, monkeypatch, prefix=["sudo", "-n"])
    prepare.install_system_parts("test")
    assert all(c[:2] == ("sudo", "-n") for c in ran)


def test_others_are_told_the_exact_line_and_status_two(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = lacking(prepare, monkeypatch, prefix=None)
    assert prepare.main(["test"]) == 2
    assert ran == []
    assert "sudo apt-get update && sudo apt-get install -y --no-install-recommends libgl1 xvfb" in capsys.readouterr().out


def test_a_complete_system_is_left_alone(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "missing_system_parts", lambda purpose: ((), ()))
    monkeypatch.setattr(prepare, "root_prefix", lambda: pytest.fail("nothing is to be installed"))
    prepare.install_system_parts("run")


# ---- which torch -------------------------------------------------------------------------------------------------


@pytest.fixture
def plain_linux(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(prepare.sys, "platform", "linux")
    monkeypatch.setattr(prepare.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(prepare, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr(prepare, "chosen_torch", lambda python: "2.13.0")
    monkeypatch.setattr(prepare, "answers", lambda address: True)
    return prepare


def test_the_cpu_build_where_there_is_no_gpu(plain_linux: Any) -> None:
    assert plain_linux.torch_index(Path("python")) == ["--extra-index-url", plain_linux.CPU_INDEX]


@pytest.mark.parametrize(
    ("name", "value"),
    [("answers", False), ("has_nvidia_driver", True), ("chosen_torch", "2.13.0+cpu")],
)
def test_pips_own_index_where_the_cpu_index_cannot_help(plain_linux: Any, monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    monkeypatch.setattr(plain_linux, name, lambda *_: value)
    assert plain_linux.torch_index(Path("python")) == []


@pytest.mark.parametrize(
    ("environ", "options"),
    [({"TORCH_INDEX": "none"}, []), ({"TORCH_INDEX": "https://x/cu130"}, ["--extra-index-url", "https://x/cu130"]), ({"CI": "true"}, [])],
)
def test_torchs_index_can_be_said(plain_linux: Any, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], options: list[str]) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(plain_linux, "answers", lambda address: pytest.fail("the network must not be asked"))
    assert plain_linux.torch_index(Path("python")) == options


def test_an_index_that_does_not_answer_is_no_error(prepare: ModuleType, tmp_path: Path) -> None:
    assert not prepare.answers((tmp_path / "nothing").as_uri())
    assert not prepare.answers("no address")
    (tmp_path / "page").write_text("")
    assert prepare.answers((tmp_path / "page").as_uri())


# ---- the whole ---------------------------------------------------------------------------------------------------


def test_stamps_only_when_all_is_there(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VENV", str(tmp_path))
    monkeypatch.setattr(prepare, "install_system_parts", lambda purpose: None)
    monkeypatch.setattr(prepare, "make_venv", lambda folder: folder / "bin" / "python")
    failed = subprocess.CalledProcessError(1, ["pip", "install"])

    def fails(python: Path, purpose: str) -> None:
        raise failed

    monkeypatch.setattr(prepare, "install_packages", fails)
    assert prepare.main(["test"]) == 1
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(prepare, "install_packages", lambda python, purpose: None)
    assert prepare.main(["run"]) == 0
    assert [p.name for p in tmp_path.iterdir()] == [".ready-run"]
    assert prepare.main(["test"]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {".ready-run", ".ready-test"}


def test_wrong_arguments(prepare: ModuleType) -> None:
    assert prepare.main([]) == prepare.main(["everything"]) == 2
