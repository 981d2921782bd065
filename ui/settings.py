"""What a person prefers about the window and the engine; described by the same fields as every other config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import platformdirs
from PySide6.QtCore import QObject, Signal

from workbench.core.errors import FileError, WorkbenchError
from workbench.core.fields import Option, Problem, field_problems, from_dict, pick, setting, to_dict
from workbench.core.store import read_json, write_json

APP: Final = "llm-workbench"
_KIND, _VERSION = "workbench preferences", 1


@dataclass(frozen=True)
class Folders:
    """Where the window keeps its own things. `home` is None when the platform's folders are used."""

    home: Path | None
    config: Path
    logs: Path

    @classmethod
    def find(cls, home: Path | None = None, environ: Mapping[str, str] | None = None) -> Folders:
        """Under `home` or `WORKBENCH_HOME` when given, so that nothing is written elsewhere; else where the platform wants them."""
        given = (os.environ if environ is None else environ).get("WORKBENCH_HOME")
        root = home or (Path(given).expanduser() if given else None)
        if root is not None:
            return cls(root, root / "config", root / "logs")
        return cls(None, platformdirs.user_config_path(APP, appauthor=False), platformdirs.user_log_path(APP, appauthor=False))


THEMES: Final = (
    Option("system", "Like the desktop", "Follows the desktop's light or dark setting at once."),
    Option("light", "Light", "Dark text on a light ground."),
    Option("dark", "Dark", "Light text on a dark ground."),
)
DEVICES: Final = (
    Option("auto", "Automatic", "A GPU when there is one, else the CPU."),
    Option("cpu", "CPU", "Always the processor."),
    Option("cuda", "CUDA GPU", "The first NVIDIA or ROCm device."),
    Option("mps", "Apple GPU", "The GPU of an Apple computer."),
)
DTYPES: Final = (
    Option("auto", "Automatic", "float32 on a CPU, bfloat16 on a GPU that has it."),
    Option("float32", "float32", "4 bytes per weight, exact."),
    Option("bfloat16", "bfloat16", "2 bytes per weight; slow on CPUs without AMX or AVX-512-BF16."),
    Option("float16", "float16", "2 bytes per weight; for GPUs."),
)


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """Everything a person can set about the program itself."""

    theme: str = pick(THEMES, "system", label="Theme", group="Appearance", help="Light or dark colours of the whole window and its plots.")
    font_scale: float = setting(
        1.0, label="Text size", group="Appearance", unit="×", minimum=0.8, maximum=2.0,
        help="Scales all text; 1 is the desktop's own size.",
    )  # fmt: skip
    enter_sends: bool = setting(
        True, label="Enter sends", group="Chat", help="Enter sends a message and Shift+Enter starts a new line; off, Ctrl+Enter sends."
    )
    load_last_model: bool = setting(
        True, label="Load the last model at start", group="Engine",
        help="Loads the model used last (or the starter model) as soon as the engine is ready, so that a chat can begin at once.",
    )  # fmt: skip
    device: str = pick(
        DEVICES, "auto", label="Device", group="Engine", key="device", help="Where models are computed. Takes effect at the next start."
    )
    dtype: str = pick(
        DTYPES, "auto", label="Number format", group="Engine", key="torch_dtype",
        help="Format of a model's weights in memory. Takes effect at the next start.",
    )  # fmt: skip
    threads: int | None = setting(
        None, label="CPU threads", group="Engine", minimum=1, maximum=256, key="num_threads",
        help="Processor cores the engine uses; automatic counts the physical cores. Takes effect at the next start.",
    )  # fmt: skip
    log_lines: int = setting(
        5_000, label="Log lines kept", group="Log", unit="lines", minimum=100, maximum=200_000, log=True,
        help="Oldest lines of the Log panel are dropped beyond this; the log file keeps them.", advanced=True,
    )  # fmt: skip

    def problems(self) -> list[Problem]:
        """Every rule that is broken; empty when usable."""
        return field_problems(self)


def tolerant(data: Mapping[str, Any]) -> Preferences:
    """Preferences from a file of any age: unknown settings are left out, unusable values fall back to the default."""
    known = {f.name for f in fields(Preferences)}
    value = from_dict(Preferences, {k: v for k, v in data.items() if k in known})
    broken = {p.field for p in value.problems()}
    return replace(value, **{name: getattr(Preferences(), name) for name in broken})


class Settings(QObject):
    """The preferences in force; `change` writes them to disk at once."""

    changed = Signal(object)
    """Preferences."""

    def __init__(self, folders: Folders, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.folders = folders
        self.path = folders.config / "preferences.json"
        self.problem: WorkbenchError | None = None
        """Why the file could not be read at the start; None when all is well."""
        self.value = self._load()

    def _load(self) -> Preferences:
        if not self.path.exists():
            return Preferences()
        try:
            return tolerant(read_json(self.path, kind=_KIND, version=_VERSION))
        except (WorkbenchError, TypeError, OSError) as error:
            kept = self.path.with_suffix(".damaged.json")
            self.problem = FileError(
                "The settings could not be read; the defaults are used.", hint=f"The old file is kept as {kept}.", details=str(error)
            )
            try:
                os.replace(self.path, kept)
            except OSError as second:
                self.problem.details += f"\n{second}"
            return Preferences()

    def change(self, **values: Any) -> None:
        """Replace some preferences. Raises `FileError` when they cannot be written; they hold for this session all the same."""
        self.set(replace(self.value, **values))

    def set(self, value: Preferences) -> None:
        """Replace all preferences; see `change`."""
        if value == self.value:
            return
        self.value = value
        self.changed.emit(value)
        write_json(self.path, to_dict(value), kind=_KIND, version=_VERSION)
