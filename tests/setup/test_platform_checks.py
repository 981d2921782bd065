"""What is checked before Qt may be loaded."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench import platform_checks
from workbench.platform_checks import (
    QT_LIBRARIES,
    display_obstacle,
    install_line,
    is_debian,
    launch_obstacle,
    library_obstacle,
    missing_libraries,
    platform_plugins,
    python_obstacle,
)

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can lack a display or Qt's libraries")


def without(*sonames: str) -> Callable[[str], bool]:
    return lambda soname: soname not in sonames


@linux_only
@pytest.mark.parametrize(
    ("environ", "plugins"),
    [
        ({"QT_QPA_PLATFORM": "offscreen"}, ("offscreen",)),
        ({"QT_QPA_PLATFORM": "vnc:size=800x600"}, ("vnc",)),
        ({"QT_QPA_PLATFORM": "wayland;xcb", "DISPLAY": ":0"}, ("wayland", "xcb")),
        ({"DISPLAY": ":0"}, ("xcb",)),
        ({"WAYLAND_DISPLAY": "wayland-0"}, ("wayland",)),
        ({"WAYLAND_DISPLAY": "wayland-0", "DISPLAY": ":0"}, ("wayland", "xcb")),
        ({}, ("xcb",)),
    ],
)
def test_plugins_are_those_qt_will_try(environ: dict[str, str], plugins: tuple[str, ...]) -> None:
    assert platform_plugins(environ) == plugins


@linux_only
def test_a_plugins_libraries_count_only_for_that_plugin() -> None:
    loads = without("libxcb-cursor.so.0")
    assert [m.package for m in missing_libraries("xcb", loads=loads)] == ["libxcb-cursor0"]
    assert missing_libraries("offscreen", loads=loads) == ()
    assert [m.package for m in missing_libraries("offscreen", loads=without("libGL.so.1"))] == ["libgl1"]


@linux_only
def test_what_is_missing_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_checks, "is_debian", lambda: True)
    obstacle = library_obstacle("xcb", loads=without("libxcb-cursor.so.0", "libEGL.so.1"))
    assert obstacle is not None
    assert obstacle.message == "Qt cannot start: this system lacks libEGL.so.1, libxcb-cursor.so.0."
    assert obstacle.fix.endswith("apt-get install -y --no-install-recommends libegl1 libxcb-cursor0")
    monkeypatch.setattr(platform_checks, "is_debian", lambda: False)
    assert "hold: libglib-2.0.so.0, xvfb." in install_line(QT_LIBRARIES[:1], ["xvfb"])


@pytest.mark.parametrize(
    ("release", "expected"),
    [('ID="debian"', True), ("ID=ubuntu\nID_LIKE=debian", True), ('ID=mint\nID_LIKE="ubuntu debian"', True), ("ID=suse", False)],
)
def test_debians_kin_is_recognised(tmp_path: Path, release: str, expected: bool) -> None:
    (tmp_path / "os-release").write_text(release)
    assert is_debian(tmp_path / "os-release") is expected
    assert not is_debian(tmp_path / "none")


@linux_only
def test_no_display_is_said_before_qt_can_abort() -> None:
    obstacle = launch_obstacle({})
    assert obstacle is not None
    assert "DISPLAY" in obstacle.message or "Qt cannot start" in obstacle.message
    missing = display_obstacle("xcb", {})
    assert missing is not None
    assert "neither DISPLAY nor WAYLAND_DISPLAY" in missing.message


@linux_only
def test_a_display_that_does_not_answer() -> None:
    obstacle = display_obstacle("xcb", {"DISPLAY": "localhost:63999"})  # no TCP port that high exists
    assert obstacle is not None
    assert "'localhost:63999' does not answer" in obstacle.message


@linux_only
def test_a_wayland_socket_must_exist(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "WAYLAND_DISPLAY": "wayland-9"}
    obstacle = display_obstacle("wayland", environ)
    assert obstacle is not None
    assert "wayland-9" in obstacle.message
    (tmp_path / "wayland-9").touch()
    assert display_obstacle("wayland", environ) is None
    assert display_obstacle("wayland", {"WAYLAND_DISPLAY": str(tmp_path / "wayland-9")}) is None


@linux_only
def test_one_plugin_that_works_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_checks, "library_obstacle", lambda plugin: None)
    monkeypatch.setattr(platform_checks, "x_answers", lambda display: True)
    assert launch_obstacle({"WAYLAND_DISPLAY": "gone", "DISPLAY": ":0"}) is None
    monkeypatch.setattr(platform_checks, "x_answers", lambda display: False)
    assert launch_obstacle({"WAYLAND_DISPLAY": "gone", "DISPLAY": ":0"}) is not None


def test_offscreen_needs_no_display() -> None:
    assert launch_obstacle({"QT_QPA_PLATFORM": "offscreen"}) is None


def test_old_pythons_and_old_systems_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert python_obstacle() is None
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31"))
    obstacle = python_obstacle()
    assert obstacle is not None
    assert "glibc is 2.31" in obstacle.message
    monkeypatch.setattr(sys, "version_info", (3, 10, 9))
    obstacle = launch_obstacle({"QT_QPA_PLATFORM": "offscreen"})
    assert obstacle is not None
    assert "3.11 or newer" in obstacle.message


@linux_only
def test_the_launcher_ends_with_two_instead_of_aborting() -> None:
    """The real thing: no display, so Qt would abort with status 134."""
    import os

    environ = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")}
    done = subprocess.run([sys.executable, "-m", "ui"], capture_output=True, text=True, env=environ, cwd=Path(__file__).parents[2])
    assert done.returncode == 2, done.stderr
    assert "display" in done.stderr
    assert "Traceback" not in done.stderr
