"""Everything a fresh machine needs before `make run` or `make test`: system libraries, .venv, Python packages.

    python3 .ci/prepare.py run|test

Runs with the system's Python (3.11 or newer) and the standard library only. Exit status 2: something has to be installed
by hand first; the exact line is printed. Writes <venv>/.ready-run or .ready-test when all is there, so that the next
`make` has nothing to do.

Environment: VENV (default .venv), TORCH_INDEX (default auto; none; or the address of an index with the torch build you want).
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from workbench import platform_checks  # noqa: E402 - the checkout is only now on the path

CONSTRAINTS = ROOT / ".ci" / "constraints.txt"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
EXTRAS = {"run": "", "test": "[dev,parity]"}


class ByHandError(Exception):
    """Something this script may not or cannot install; the text says what to type."""


def say(text: str) -> None:
    print(text, flush=True)


def run(*command: str) -> None:
    subprocess.run(command, check=True, cwd=ROOT, stdin=subprocess.DEVNULL)


def run_quietly(*command: str) -> None:
    """Its output is shown only when it fails."""
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        say(done.stdout)
        done.check_returncode()


# ---- system packages ---------------------------------------------------------------------------------------------


def missing_system_parts(purpose: str) -> tuple[tuple[platform_checks.SystemLibrary, ...], tuple[str, ...]]:
    """Qt's libraries that this system lacks, and further Debian packages: venv, and a virtual screen for the tests."""
    plugins = ("xcb",) if purpose == "test" else platform_checks.platform_plugins(os.environ)
    packages = []
    if sys.platform.startswith("linux"):
        if not _has_module("ensurepip"):
            packages.append(f"python{sys.version_info.major}.{sys.version_info.minor}-venv")
        if purpose == "test":
            packages += [package for tool, package in (("Xvfb", "xvfb"), ("xauth", "xauth")) if not shutil.which(tool)]
    return platform_checks.missing_libraries(*plugins), tuple(packages)


def _has_module(name: str) -> bool:
    return subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True).returncode == 0


def root_prefix() -> list[str] | None:
    """How to become root without being asked anything: [], ["sudo", "-n"], or None when neither works."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True, stdin=subprocess.DEVNULL).returncode == 0:
        return ["sudo", "-n"]
    return None


def install_system_parts(purpose: str) -> None:
    """Install what is missing through apt when that needs no password, else raise `ByHandError` with the line to type."""
    libraries, packages = missing_system_parts(purpose)
    if not libraries and not packages:
        return
    prefix = root_prefix() if platform_checks.is_debian() and shutil.which("apt-get") else None
    if prefix is None:
        line = platform_checks.install_line(libraries, packages)
        raise ByHandError(f"System packages are missing. Install them, then run make again:\n  {line}")
    names = [*dict.fromkeys([*(library.package for library in libraries), *packages])]
    say(f"Installing system packages: {' '.join(names)}")
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    run_quietly(*apt, "update")
    run_quietly(*apt, "install", "-y", "--no-install-recommends", *names)
    still, _ = missing_system_parts(purpose)
    if still:
        raise ByHandError(f"apt installed its packages, but these libraries are still missing: {', '.join(x.soname for x in still)}.")


# ---- Python packages ---------------------------------------------------------------------------------------------


def make_venv(folder: Path) -> Path:
    """The Python of the virtual environment, made anew when it is missing, broken or too old."""
    python = folder / "bin" / "python"
    check = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    if python.exists() and subprocess.run([str(python), "-c", check], capture_output=True).returncode == 0:
        return python
    say(f"Making {folder.name} with Python {platform.python_version()}")
    run(sys.executable, "-m", "venv", "--clear", str(folder))
    return python


def torch_index(python: Path) -> list[str]:
    """pip options that choose the torch build.

    PyPI's torch for Linux on x86-64 brings gigabytes of CUDA libraries. Where there is no NVIDIA driver, the CPU build of
    torch's own index is taken if that index answers; it never is a condition, and on CI only pip's own settings count.
    """
    asked = os.environ.get("TORCH_INDEX") or "auto"
    if asked != "auto":
        return [] if asked == "none" else ["--extra-index-url", asked]
    plain = sys.platform.startswith("linux") and platform.machine() == "x86_64" and not has_nvidia_driver()
    if not plain or os.environ.get("CI") or "+cpu" in chosen_torch(python):
        return []
    if answers(f"{CPU_INDEX}/torch/"):
        return ["--extra-index-url", CPU_INDEX]
    say(f"{CPU_INDEX} does not answer; taking torch from pip's own index (a large download with CUDA libraries).")
    return []


def has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def chosen_torch(python: Path) -> str:
    """The version of torch that is installed, or that pip would take with the user's own settings; "" when pip cannot say."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed", "--report", "-"]
    shown = subprocess.run([str(python), "-m", "pip", "show", "torch"], capture_output=True, text=True)
    for line in shown.stdout.splitlines():
        if line.startswith("Version: "):
            return line.removeprefix("Version: ")
    answer = subprocess.run([*command, "-c", str(CONSTRAINTS), "torch"], capture_output=True, text=True, cwd=ROOT)
    try:
        return str(json.loads(answer.stdout)["install"][0]["metadata"]["version"])
    except (ValueError, LookupError):
        return ""


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (OSError, ValueError):
        return False


def install_packages(python: Path, purpose: str) -> None:
    say("Installing Python packages (the first time takes minutes)")
    quiet = [] if sys.stdout.isatty() else ["-qq"]  # a log wants errors, not progress bars
    options = ["--disable-pip-version-check", "--no-input", *quiet, "-c", str(CONSTRAINTS), *torch_index(python)]
    run(str(python), "-m", "pip", "install", *options, "-e", f".{EXTRAS[purpose]}")


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in EXTRAS:
        say("Usage: python3 .ci/prepare.py run|test")
        return 2
    purpose = arguments[0]
    venv = ROOT / os.environ.get("VENV", ".venv")
    try:
        too_old = platform_checks.python_obstacle()
        if too_old is not None:
            raise ByHandError(str(too_old))
        install_system_parts(purpose)
        python = make_venv(venv)
        install_packages(python, purpose)
    except ByHandError as error:
        say(str(error))
        return 2
    except subprocess.CalledProcessError as error:
        say(f"Failed with exit status {error.returncode}: {' '.join(error.cmd)}")
        return 1
    for done in {"run", purpose}:  # what the tests need includes what the window needs
        (venv / f".ready-{done}").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
