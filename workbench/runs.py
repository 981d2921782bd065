"""A training run on disk: what was asked, what was measured, how it ended.

    run folder/
      run.json                 manifest: request, model, versions, hardware, status (versioned, replaced as a whole)
      metrics.jsonl            one event per line, appended and flushed
      checkpoint-<step>/       the state to go on from, and the adapter of that step
      adapter/                 the finished adapter in PEFT's format
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import psutil
from filelock import FileLock, Timeout

from workbench.core.errors import BusyError, FileError
from workbench.core.events import Event
from workbench.core.store import read_json, write_json, write_text

_KIND, _VERSION = "workbench run", 1
METRICS = "metrics.jsonl"
_PACKAGES = ("llm-workbench", "torch", "numpy", "safetensors", "tiktoken")
RUNNING, DONE, STOPPED, FAILED, INTERRUPTED = "running", "done", "stopped", "failed", "interrupted"


@dataclass(frozen=True)
class RunInfo:
    """A run as lists show it. `status` "interrupted": it said running, but no process holds it any more."""

    name: str
    folder: Path
    status: str
    created: float
    steps: int
    of: int | None
    loss: float | None
    message: str
    manifest: Mapping[str, Any]

    @property
    def adapter(self) -> Path | None:
        """The finished adapter's folder, if there is one."""
        path = self.folder / "adapter"
        return path if (path / "adapter_config.json").is_file() else None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "folder": str(self.folder), "status": self.status, "created": self.created, "steps": self.steps,
            "of": self.of, "loss": self.loss, "message": self.message, "adapter": None if self.adapter is None else str(self.adapter),
            "manifest": dict(self.manifest),
        }  # fmt: skip


class Run:
    """A run being written. Made by `writing`, which holds the folder for this process alone."""

    def __init__(self, folder: Path, manifest: dict[str, Any], resumed: bool) -> None:
        self.folder = folder
        self.manifest = manifest
        self._repeats = resumed
        self._log = self._opened()

    def record(self, event: Event) -> None:
        """Append an event that carries metrics; others leave no trace on disk."""
        if event.metrics:
            data = event.to_json()
            if self._repeats and "step" in data:
                self._forget_from(data["step"])
            self._log.write(json.dumps({**data, "time": time.time()}, default=str) + "\n")
            self._log.flush()

    def update(self, **changes: Any) -> None:
        """Change the manifest, as a whole and at once."""
        self.manifest |= changes
        _write(self.folder, self.manifest)

    def close(self) -> None:
        self._log.close()

    def _opened(self) -> TextIO:
        return open(self.folder / METRICS, "a", encoding="utf-8")

    def _forget_from(self, step: int) -> None:
        """A resumed run does the steps since its last checkpoint again: what was recorded of them gives way, and so does a
        line that a crash cut short."""
        self._repeats = False
        self._log.close()
        kept = [json.dumps(e) + "\n" for e in read_metrics(self.folder) if int(e.get("step", 0)) < step]
        write_text(self.folder / METRICS, "".join(kept))
        self._log = self._opened()


@contextmanager
def writing(folder: Path, request: Mapping[str, Any], model: Mapping[str, Any], *, resume: bool) -> Iterator[Run]:
    """Hold `folder` and write a run into it; an exception inside marks the run as failed and goes on.

    Raises `BusyError` when another process (or this one) is writing there, `FileError` when a fresh run would land on an
    old one or the folder cannot be written.
    """
    if not resume and (folder / "run.json").exists():
        raise FileError(f"{folder} already holds a run.", hint="Choose another folder, or resume it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder} cannot be made: {error.strerror}.", hint="Choose a folder you may write to.") from error
    try:
        with FileLock(folder / "run.lock", timeout=0, thread_local=False):
            kept = _read(folder) if resume and (folder / "run.json").exists() else {"created": time.time()}
            manifest = {**kept, "status": RUNNING, "message": "", "request": dict(request), "model": dict(model), **surroundings()}
            _write(folder, manifest)
            run = Run(folder, manifest, resume)
            try:
                yield run
            except BaseException as error:
                run.update(status=FAILED, message=str(error) or type(error).__name__)
                raise
            finally:
                run.close()
    except Timeout:
        raise BusyError(f"{folder.name} is being written by another run.", hint="Wait for it, stop it, or choose another folder.") from None


def surroundings() -> dict[str, Any]:
    """Versions and hardware, for those who repeat the run."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    hardware = {"machine": platform.machine(), "cores": os.cpu_count(), "memory_bytes": psutil.virtual_memory().total}
    return {"versions": versions, "hardware": hardware, "system": platform.platform()}


def fresh_folder(root: Path, label: str) -> Path:
    """A folder below `root` that does not exist yet, named by date, time and label."""
    stem = f"{time.strftime('%Y-%m-%d-%H%M%S')}-{label}"
    names = (stem if not number else f"{stem}-{number}" for number in range(1000))
    return next(root / name for name in names if not (root / name).exists())


def open_run(folder: Path) -> RunInfo:
    """Read one run. Raises `FileError` when the folder holds none."""
    manifest = _read(folder)
    events = list(read_metrics(folder))
    steps = [e for e in events if e.get("event") == "step"]
    last = steps[-1] if steps else {}
    status = manifest.get("status", INTERRUPTED)
    if status == RUNNING and not is_held(folder):
        status = INTERRUPTED
    return RunInfo(
        name=folder.name, folder=folder, status=status, created=float(manifest.get("created", 0.0)), steps=int(last.get("step", 0)),
        of=last.get("of"), loss=last.get("metrics", {}).get("loss"), message=str(manifest.get("message", "")), manifest=manifest,
    )  # fmt: skip


def list_runs(root: Path) -> list[RunInfo]:
    """Every readable run below `root`, newest first; folders that hold none are passed over."""
    found = []
    for manifest in root.glob("*/run.json"):
        try:
            found.append(open_run(manifest.parent))
        except FileError:
            continue  # a damaged manifest: `runs show` says what is wrong with it
    return sorted(found, key=lambda r: r.created, reverse=True)


def read_metrics(folder: Path) -> Iterator[dict[str, Any]]:
    """The recorded events, oldest first; a last line that a crash cut short is passed over."""
    path = folder / METRICS
    if not path.exists():
        return
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue


def is_held(folder: Path) -> bool:
    """Whether a process is writing the run now."""
    if not (folder / "run.lock").exists():
        return False
    try:
        with FileLock(folder / "run.lock", timeout=0, thread_local=False):
            return False
    except Timeout:
        return True


def _write(folder: Path, manifest: Mapping[str, Any]) -> None:
    write_json(folder / "run.json", manifest, kind=_KIND, version=_VERSION)


def _read(folder: Path) -> dict[str, Any]:
    return read_json(folder / "run.json", kind=_KIND, version=_VERSION)
