"""The arrow between the packages: the engine runs without Qt, and its light parts without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

IMPORT_ALL = """
import importlib, importlib.abc, pkgutil, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("PySide6", "shiboken6", "pyqtgraph", "ui", "transformers", "peft", "pytest"):
            raise ImportError(f"{name} is not for the engine")
sys.meta_path.insert(0, Blocked())
import workbench
names = [m.name for m in pkgutil.walk_packages(workbench.__path__, "workbench.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""

IMPORT_LIGHT = """
import sys
import workbench.core.fields, workbench.core.store, workbench.library, workbench.doctor, workbench.platform_checks
print(*[name for name in ("torch", "numpy", "PySide6", "transformers") if name in sys.modules])
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.slow
def test_every_engine_module_imports_without_qt() -> None:
    done = python(IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 30, "the walk did not find the engine"


def test_the_light_parts_import_neither_torch_nor_qt() -> None:
    done = python(IMPORT_LIGHT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.slow
def test_import_contracts_hold() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
