"""What must be true before Qt may be loaded: the right Python, Qt's system libraries, a display.

Qt does not raise when a library or the display is missing; it aborts the process with a misleading message. These checks
run first, so they import neither Qt, torch nor anything outside the standard library.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

MINIMUM_PYTHON = (3, 11)
MINIMUM_GLIBC = (2, 34)  # of the manylinux_2_34 wheels of Qt
SCREENLESS = ("offscreen", "minimal", "minimalegl", "vnc", "eglfs", "linuxfb")


@dataclass(frozen=True)
class SystemLibrary:
    """A shared library Qt loads. `needed_for` is "qt" (always), or the platform plugin that wants it."""

    soname: str
    package: str
    needed_for: str = "qt"


QT_LIBRARIES = (
    SystemLibrary("libglib-2.0.so.0", "libglib2.0-0"),
    SystemLibrary("libGL.so.1", "libgl1"),
    SystemLibrary("libEGL.so.1", "libegl1"),
    SystemLibrary("libfontconfig.so.1", "libfontconfig1"),
    SystemLibrary("libxkbcommon.so.0", "libxkbcommon0"),
    SystemLibrary("libdbus-1.so.3", "libdbus-1-3"),
    SystemLibrary("libxkbcommon-x11.so.0", "libxkbcommon-x11-0", "xcb"),
    SystemLibrary("libX11-xcb.so.1", "libx11-xcb1", "xcb"),
    SystemLibrary("libxcb-cursor.so.0", "libxcb-cursor0", "xcb"),
    SystemLibrary("libxcb-icccm.so.4", "libxcb-icccm4", "xcb"),
    SystemLibrary("libxcb-image.so.0", "libxcb-image0", "xcb"),
    SystemLibrary("libxcb-keysyms.so.1", "libxcb-keysyms1", "xcb"),
    SystemLibrary("libxcb-randr.so.0", "libxcb-randr0", "xcb"),
    SystemLibrary("libxcb-render-util.so.0", "libxcb-render-util0", "xcb"),
    SystemLibrary("libxcb-shape.so.0", "libxcb-shape0", "xcb"),
    SystemLibrary("libxcb-shm.so.0", "libxcb-shm0", "xcb"),
    SystemLibrary("libxcb-sync.so.1", "libxcb-sync1", "xcb"),
    SystemLibrary("libxcb-util.so.1", "libxcb-util1", "xcb"),
    SystemLibrary("libxcb-xfixes.so.0", "libxcb-xfixes0", "xcb"),
    SystemLibrary("libxcb-xkb.so.1", "libxcb-xkb1", "xcb"),
    SystemLibrary("libwayland-client.so.0", "libwayland-client0", "wayland"),
    SystemLibrary("libwayland-cursor.so.0", "libwayland-cursor0", "wayland"),
)


@dataclass(frozen=True)
class Obstacle:
    """Why the window cannot open (one sentence), and what to do about it."""

    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.message}\n{self.fix}"


def launch_obstacle(environ: Mapping[str, str] | None = None) -> Obstacle | None:
    """What keeps Qt from opening a window here, None when nothing does. The launcher prints it and exits with status 2."""
    environ = os.environ if environ is None else environ
    too_old = python_obstacle()
    if too_old is not None:
        return too_old
    obstacles = [library_obstacle(plugin) or display_obstacle(plugin, environ) for plugin in platform_plugins(environ)]
    return None if None in obstacles else obstacles[-1]  # Qt tries one plugin after the other


def python_obstacle() -> Obstacle | None:
    """A Python, or a C library below it, that is too old for Qt's wheels."""
    if sys.version_info < MINIMUM_PYTHON:
        return Obstacle(
            f"This is Python {platform.python_version()}; {'.'.join(map(str, MINIMUM_PYTHON))} or newer is needed.",
            "Install a newer Python and start again with it.",
        )
    name, version = platform.libc_ver()
    if name == "glibc" and tuple(int(n) for n in version.split(".")[:2]) < MINIMUM_GLIBC:
        return Obstacle(
            f"This system's glibc is {version}; Qt's wheels need {'.'.join(map(str, MINIMUM_GLIBC))} or newer.",
            "Use a newer system: Debian 12, Ubuntu 22.04, RHEL 9 or later.",
        )
    return None


def platform_plugins(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The plugins Qt will try, in order: what `QT_QPA_PLATFORM` says, else (on Linux) those of the session's displays."""
    asked = environ.get("QT_QPA_PLATFORM", "")
    if asked:
        return tuple(name.split(":")[0] for name in asked.split(";"))
    if not sys.platform.startswith("linux"):
        return ("native",)
    if environ.get("WAYLAND_DISPLAY"):
        return ("wayland", "xcb") if environ.get("DISPLAY") else ("wayland",)
    return ("xcb",)


def can_load(soname: str) -> bool:
    """Whether the dynamic loader finds a shared library."""
    try:
        ctypes.CDLL(soname)
    except OSError:
        return False
    return True


def missing_libraries(*needed_for: str, loads: Callable[[str], bool] = can_load) -> tuple[SystemLibrary, ...]:
    """The libraries out of `QT_LIBRARIES` for Qt itself and the given plugins that this system lacks; none off Linux."""
    if not sys.platform.startswith("linux"):
        return ()
    wanted = ("qt", *needed_for)
    return tuple(library for library in QT_LIBRARIES if library.needed_for in wanted and not loads(library.soname))


def install_line(libraries: Iterable[SystemLibrary], extra: Iterable[str] = ()) -> str:
    """What to type to get them: the exact line on Debian and its kin, the file names elsewhere."""
    libraries = tuple(libraries)
    if is_debian():
        packages = [*dict.fromkeys([*(library.package for library in libraries), *extra])]
        return f"sudo apt-get update && sudo apt-get install -y --no-install-recommends {' '.join(packages)}"
    names = ", ".join([*(library.soname for library in libraries), *extra])
    return f"Install the packages of your system that hold: {names}."


def is_debian(release: Path = Path("/etc/os-release")) -> bool:
    """Whether this is Debian or a descendant such as Ubuntu, whose package names we know."""
    try:
        lines = release.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    names = f"{values.get('ID', '')} {values.get('ID_LIKE', '')}".replace('"', "").split()
    return "debian" in names


def library_obstacle(plugin: str, loads: Callable[[str], bool] = can_load) -> Obstacle | None:
    """Libraries missing for Qt and for the platform plugin it will use."""
    missing = missing_libraries(plugin, loads=loads)
    if not missing:
        return None
    names = ", ".join(library.soname for library in missing)
    return Obstacle(f"Qt cannot start: this system lacks {names}.", f"Install them with:\n  {install_line(missing)}")


def display_obstacle(plugin: str, environ: Mapping[str, str]) -> Obstacle | None:
    """No display for a platform plugin, or one that does not answer. Only Linux can be without one."""
    if not sys.platform.startswith("linux") or plugin in SCREENLESS:
        return None
    if plugin == "wayland":
        return _wayland_obstacle(environ)
    display = environ.get("DISPLAY", "")
    if not display:
        return Obstacle(
            "There is no display: neither DISPLAY nor WAYLAND_DISPLAY is set.",
            "Log in to a desktop, use `ssh -X`, or run without a screen: python -m workbench --help.",
        )
    if not x_answers(display):
        return Obstacle(
            f"The X display {display!r} does not answer or refuses this user.",
            "Check DISPLAY and its access rights (xauth), or run without a screen: python -m workbench --help.",
        )
    return None


def _wayland_obstacle(environ: Mapping[str, str]) -> Obstacle | None:
    # An absolute WAYLAND_DISPLAY is the socket itself; joining keeps it.
    socket = Path(environ.get("XDG_RUNTIME_DIR", "")) / environ.get("WAYLAND_DISPLAY", "wayland-0")
    if socket.exists():
        return None
    return Obstacle(f"The Wayland display {str(socket)!r} does not exist.", "Log in to a desktop, or set DISPLAY for an X server.")


def x_answers(display: str) -> bool:
    """Whether an X server accepts a connection with the user's credentials; True when libxcb is not there to ask with."""
    try:
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError:
        return True
    xcb.xcb_connect.restype = ctypes.c_void_p
    xcb.xcb_connect.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
    xcb.xcb_connection_has_error.argtypes = xcb.xcb_disconnect.argtypes = [ctypes.c_void_p]
    connection = xcb.xcb_connect(display.encode(), None)
    failed = xcb.xcb_connection_has_error(connection)
    xcb.xcb_disconnect(connection)
    return not failed
