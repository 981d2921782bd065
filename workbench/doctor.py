"""Is everything here that the workbench needs? Each check says what it found and, when something is wrong, how to mend it.

Must run on a broken installation, so it imports only the standard library and what it finds to be there.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import platform_checks
from workbench.core.format import bytes_text

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

DISTRIBUTION = "llm-workbench"
NEEDED_MEMORY = 2_000_000_000  # the starter model, its optimizer and a window, with room to spare
NEEDED_DISK = 1_000_000_000
_MODULES = {"PySide6-Essentials": "PySide6.QtWidgets"}
_IMPORT_SECONDS = 120


@dataclass(frozen=True)
class Check:
    """One finding. `fix` says what to do when it is not `ok`; a check that is not `required` is advice."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    required: bool = True


def checks(home: Path | None = None) -> list[Check]:
    """All checks, in the order a person would ask. Takes seconds: it imports every library, in another process."""
    return [
        python_check(),
        *library_checks(requirements()),
        qt_check(os.environ),
        display_check(os.environ),
        processor_check(),
        device_check(),
        memory_check(),
        *home_checks(home),
    ]


def healthy(found: Iterable[Check]) -> bool:
    """Whether nothing required is wrong."""
    return all(check.ok for check in found if check.required)


def python_check() -> Check:
    """A Python (and C library) that Qt's wheels can run on."""
    obstacle = platform_checks.python_obstacle()
    detail = f"{platform.python_version()} ({sys.executable})"
    return Check("Python", obstacle is None, obstacle.message if obstacle else detail, obstacle.fix if obstacle else "")


# ---- libraries ---------------------------------------------------------------------------------------------------


def requirements() -> list[str]:
    """What the project needs, as `pyproject.toml` says (in a checkout) or as it was installed; extras are left out."""
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    if project.is_file():
        return list(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"])
    return [r for r in importlib.metadata.requires(DISTRIBUTION) or () if "extra ==" not in r]


def library_checks(wanted: Sequence[str]) -> list[Check]:
    """One check per requirement that applies here: installed, in range, and importable."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return [Check("packaging", False, "not installed", "pip install packaging")]
    needed = [r for r in map(Requirement, wanted) if r.marker is None or r.marker.evaluate()]
    versions = {r.name: _version(r.name) for r in needed}
    failures = import_failures([_module(r.name) for r in needed if versions[r.name]])
    found = []
    for requirement in needed:
        version = versions[requirement.name]
        problem = _version_problem(version, requirement.specifier)
        fix = f"{sys.executable} -m pip install '{requirement.name}{requirement.specifier}'"
        if not problem and _module(requirement.name) in failures:
            problem = f"{version} cannot be imported: {failures[_module(requirement.name)]}"
            fix += " --force-reinstall"
        found.append(Check(requirement.name, not problem, problem or str(version), fix if problem else ""))
    return found


def _module(distribution: str) -> str:
    return _MODULES.get(distribution, distribution.replace("-", "_"))


def _version_problem(version: str | None, specifier: SpecifierSet) -> str:
    if version is None:
        return "not installed"
    return "" if specifier.contains(version, prereleases=True) else f"{version} does not satisfy {specifier}"


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


_IMPORTER = """
import importlib, sys
report = open(sys.argv[1], "a", encoding="utf-8", buffering=1)  # line by line, so that it survives a crash
for name in sys.argv[2:]:
    report.write(f"{name}\\n")
    try:
        importlib.import_module(name)
        report.write("\\n")
    except BaseException as error:
        report.write(f"{type(error).__name__}: {error}".replace("\\n", " ") + "\\n")
"""


def import_failures(modules: Sequence[str]) -> dict[str, str]:
    """What happened to those modules that cannot be imported. One may crash or hang Python, so another process tries."""
    failures: dict[str, str] = {}
    left = list(modules)
    while left:
        lines, end = _try_imports(left)
        outcomes = dict(zip(lines[::2], lines[1::2], strict=False))
        if len(outcomes) < len(left):  # it did not get beyond this one
            outcomes[lines[-1] if len(lines) % 2 else left[0]] = end
        failures.update({name: outcome for name, outcome in outcomes.items() if outcome})
        left = [name for name in left if name not in outcomes]
    return failures


def _try_imports(modules: Sequence[str]) -> tuple[list[str], str]:
    """Lines "name", "what happened" (empty: fine) in turns, as far as the process got; and how it ended."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report")
        report.touch()
        command = [sys.executable, "-c", _IMPORTER, str(report), *modules]
        quiet = subprocess.DEVNULL
        try:
            status = subprocess.run(command, stdin=quiet, stdout=quiet, stderr=quiet, timeout=_IMPORT_SECONDS).returncode
            end = f"Python ended with status {status}"
        except subprocess.TimeoutExpired:
            end = f"not done after {_IMPORT_SECONDS} s"
        return report.read_text(encoding="utf-8").split("\n")[:-1], end


# ---- window ------------------------------------------------------------------------------------------------------


def qt_check(environ: Mapping[str, str]) -> Check:
    """The system libraries that Qt and its platform plugin load."""
    plugins = platform_checks.platform_plugins(environ)
    return _window_check("Qt libraries", [platform_checks.library_obstacle(p) for p in plugins], f"complete ({plugins[0]})", required=True)


def display_check(environ: Mapping[str, str]) -> Check:
    """A display to open the window on; the command line needs none."""
    plugins = platform_checks.platform_plugins(environ)
    shown = environ.get("WAYLAND_DISPLAY") or environ.get("DISPLAY") or plugins[0]
    return _window_check("Display", [platform_checks.display_obstacle(p, environ) for p in plugins], shown, required=False)


def _window_check(name: str, obstacles: Sequence[platform_checks.Obstacle | None], fine: str, *, required: bool) -> Check:
    """Qt tries one plugin after the other, so one without an obstacle is enough."""
    last = obstacles[-1]
    if last is None or None in obstacles:
        return Check(name, True, fine, required=required)
    return Check(name, False, last.message, last.fix, required=required)


# ---- machine -----------------------------------------------------------------------------------------------------


def processor_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The vector and matrix features of the processor that decide whether bfloat16 is fast; empty where they cannot be read."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    flags = {word for line in text.splitlines() if line.startswith(("flags", "Features")) for word in line.split(":", 1)[1].split()}
    return frozenset(flags & {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8", "bf16", "i8mm"})


def processor_check() -> Check:
    """What the processor has; never wrong, only slower."""
    features = processor_features()
    fast = features & {"avx512_bf16", "amx_bf16", "bf16"}
    verdict = "bfloat16 is fast" if fast else "bfloat16 is not faster than float32 here"
    names = ", ".join(sorted(features)) or "features not known"
    return Check("Processor", True, f"{os.cpu_count()} threads, {names}: {verdict}", required=False)


def device_check() -> Check:
    """What torch can compute on."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check("Device", False, f"not known: torch cannot be imported ({error})", "See the check of torch.", required=False)
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        return Check("Device", True, f"{torch.cuda.get_device_name()}, {bytes_text(free)} of {bytes_text(total)} free")
    if torch.backends.mps.is_available():
        return Check("Device", True, "Apple GPU (mps)")
    return Check("Device", True, f"CPU, {torch.get_num_threads()} threads")


def memory_check() -> Check:
    """Memory that is free now."""
    try:
        import psutil
    except ImportError:
        return Check("Memory", False, "not known: psutil is not installed", "See the check of psutil.", required=False)
    memory = psutil.virtual_memory()
    detail = f"{bytes_text(memory.available)} of {bytes_text(memory.total)} free"
    fix = f"Close other programs: fine-tuning the starter model takes about {bytes_text(NEEDED_MEMORY)}."
    ok = memory.available >= NEEDED_MEMORY
    return Check("Memory", ok, detail, "" if ok else fix, required=False)


# ---- data folder -------------------------------------------------------------------------------------------------


def home_checks(home: Path | None = None) -> list[Check]:
    """The data folder: writable, with room, with the starter model."""
    try:
        from workbench.library import CATALOGUE, Library
    except ImportError as error:
        return [Check("Data folder", False, f"not known: {error}", "See the checks of the libraries above.")]
    library = Library(home)
    installed = library.starter_installed
    starter = CATALOGUE["starter"]
    return [
        writable_check(library.home),
        disk_check(library.home),
        Check(
            "Starter model",
            installed,
            str(library.path_of(starter)) if installed else f"{starter.label} is not on this machine yet",
            "" if installed else "Fetch it with: python -m workbench models fetch starter",
            required=False,
        ),
    ]


def writable_check(home: Path) -> Check:
    """Whether a file can be created in the data folder, or in the nearest folder above it that exists."""
    folder = _existing(home)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fix = "Change the folder's permissions, or set WORKBENCH_HOME to a folder of yours."
        return Check("Data folder", False, f"{home} is not writable: {error.strerror}", fix)
    return Check("Data folder", True, str(home))


def disk_check(home: Path) -> Check:
    """Room on the data folder's disk."""
    free = shutil.disk_usage(_existing(home)).free
    fix = f"Free some space (about {bytes_text(NEEDED_DISK)} for models and runs), or set WORKBENCH_HOME to a folder on another disk."
    return Check("Disk", free >= NEEDED_DISK, f"{bytes_text(free)} free", "" if free >= NEEDED_DISK else fix, required=False)


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
