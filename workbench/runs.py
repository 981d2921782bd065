"""A training run on disk: what was asked, what was measured, how it ended.

    run folder/
      run.json                 manifest: request, model, versions, hardware, status (versioned, replaced as a whole)
      metrics.jsonl            one event per line, appended and flushed
      checkpoint-<step>/       the state to go on from, and the adapter of that step
      adapter/                 the finished adapter in PEFT's format
      base/                    the model it was trained on, where that was converted and lay nowhere else
      tokenizer/, model/       of a model trained from scratch: its tokenizer, and the finished model as a checkpoint of our own
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import psutil
from filelock import FileLock, Timeout

from workbench.core.errors import BusyError, FileError
from workbench.core.events import Event, Phase
from workbench.core.store import read_json, recover_inside, write_error, write_json, write_text

_KIND, _VERSION = "workbench run", 1
METRICS = "metrics.jsonl"
_RESULTS = ("adapter", "last-good-adapter", "model", "last-good-model")
_PACKAGES = ("llm-workbench", "torch", "numpy", "safetensors", "tiktoken")
_MANIFEST: dict[str, Any] = {"status": str, "message": str, "created": int | float, "request": dict, "model": dict, "data": dict}
_EVENT: dict[str, tuple[Any, Any]] = {"step": (int, 0), "of": (int | None, None), "metrics": (dict, {})}
"""Type and default of what is read here of a recorded event."""
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

    @property
    def model(self) -> Path | None:
        """The folder of the finished model, if one was trained from scratch."""
        return model_of(self.folder)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "folder": str(self.folder), "status": self.status, "created": self.created, "steps": self.steps,
            "of": self.of, "loss": self.loss, "message": self.message, "adapter": None if self.adapter is None else str(self.adapter),
            "trained_model": None if self.model is None else str(self.model), "manifest": dict(self.manifest),
        }  # fmt: skip


class Run:
    """A run being written. Made by `writing`, which holds the folder for this process alone.

    A resumed run begins with its first event after loading: until then its checkpoint may still be refused, and the record
    of what was done before stays as it is.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any], resumed: bool) -> None:
        self.folder = folder
        self.manifest = manifest
        self._repeats = resumed
        self._begun = False
        if not resumed:
            self._begin()
            _unlink(folder / METRICS)  # of a run that left nothing else
        self._log = self._opened()

    def record(self, event: Event) -> None:
        """Append an event that carries metrics or asks to be kept; others leave no trace. Raises `FileError` when the disk is full."""
        if not self._begun and not (isinstance(event, Phase) and event.word == "Loading"):
            self._begin()
        try:
            self._append(event)
        except OSError as error:
            raise write_error(self.folder / METRICS, error) from error

    def _append(self, event: Event) -> None:
        if event.metrics or event.kept:
            data = event.to_json()
            if self._repeats and "step" in data:
                self._forget_from(data["step"])
            self._log.write(json.dumps({**data, "time": time.time()}, default=str) + "\n")
            self._log.flush()

    def update(self, **changes: Any) -> None:
        """Change the manifest, as a whole and at once."""
        self.manifest |= changes
        if self._begun:
            _write(self.folder, self.manifest)

    def broken_off(self, error: BaseException) -> None:
        """Note why the run came to an end before its own: a person who leaves stops it, anything else is a failure."""
        if not self._begun or self.manifest["status"] != RUNNING:
            return
        left = isinstance(error, GeneratorExit | KeyboardInterrupt)
        with suppress(FileError):  # a full disk must not hide the error that brought us here
            self.update(status=STOPPED if left else FAILED, message="" if left else str(error) or type(error).__name__)

    def close(self) -> None:
        with suppress(OSError):  # what a full disk did not take was reported when it was recorded
            self._log.close()

    def _begin(self) -> None:
        self._begun = True
        _write(self.folder, self.manifest)

    def _opened(self) -> TextIO:
        try:
            return open(self.folder / METRICS, "a", encoding="utf-8")
        except OSError as error:
            raise write_error(self.folder / METRICS, error) from error

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
    """Hold `folder` and write a run into it; an exception inside marks the run as failed (stopped, when a person leaves) and
    goes on. A resume that is refused changes nothing.

    Raises `BusyError` when another process (or this one) is writing there, `FileError` when a fresh run would land on what
    an old one made, there is nothing to resume, or the folder cannot be written.
    """
    if resume and not (folder / "run.json").exists():
        require_checkpoint(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder} cannot be made: {error.strerror}.", hint="Choose a folder you may write to.") from error
    try:
        with FileLock(folder / "run.lock", timeout=0, thread_local=False):
            recover_inside(folder)
            if not resume:
                require_unused(folder)
            kept = _read(folder) if resume and (folder / "run.json").exists() else {"created": time.time()}
            manifest = {**kept, "status": RUNNING, "message": "", "request": dict(request), "model": dict(model), **surroundings()}
            run = Run(folder, manifest, resume)
            try:
                yield run
            except BaseException as error:
                run.broken_off(error)
                raise
            finally:
                run.close()
    except Timeout:
        raise BusyError(f"{folder.name} is being written by another run.", hint="Wait for it, stop it, or choose another folder.") from None


def require_checkpoint(folder: Path) -> None:
    """Raise `FileError` unless `folder` holds a checkpoint to go on from. Creates nothing."""
    if not _checkpoints(folder):
        raise FileError(f"{folder} holds no checkpoint to go on from.", hint="Start the run anew, without resume.")


def require_unused(folder: Path) -> None:
    """Raise `FileError` when a run made something there; a folder whose run made neither checkpoint nor result may be used
    again."""
    if _checkpoints(folder):
        raise FileError(f"{folder} already holds a run.", hint="Choose another folder, or resume it.")
    if any((folder / name).exists() for name in _RESULTS):
        raise FileError(f"{folder} already holds an adapter or a model.", hint="Choose another folder.")


def model_of(folder: Path) -> Path | None:
    """The finished model of a run that trained one from scratch; None of any other folder."""
    path = folder / "model"
    return path if (folder / "run.json").is_file() and (path / "workbench.json").is_file() else None


def _checkpoints(folder: Path) -> bool:
    """Whether there are any, one that a crash left aside (see `recover_inside`) included."""
    return any(any(folder.glob(pattern)) for pattern in ("checkpoint-*/state.json", ".checkpoint-*.old/state.json"))


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
    """Read one run. Raises `FileError` when the folder holds none, or its manifest or metrics cannot be read."""
    manifest = _read(folder)
    events = list(read_metrics(folder))
    steps = [e for e in events if e.get("event") == "step"]
    last = steps[-1] if steps else {}
    status, loss = manifest.get("status", INTERRUPTED), last.get("metrics", {}).get("loss")
    if status == RUNNING and not is_held(folder):
        status = INTERRUPTED
    return RunInfo(
        name=folder.name, folder=folder, status=status, created=float(manifest.get("created", 0.0)), steps=int(last.get("step", 0)),
        of=last.get("of"), loss=loss if isinstance(loss, int | float) else None, message=manifest.get("message", ""), manifest=manifest,
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
    """The recorded events, oldest first; a line that is none (cut short by a crash, or edited) is passed over."""
    path = folder / METRICS
    if not path.exists():
        return
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    event = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(event, dict) and all(isinstance(event.get(k, d), t) for k, (t, d) in _EVENT.items()):
                    yield event
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error


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
    path = folder / "run.json"
    manifest = read_json(path, kind=_KIND, version=_VERSION)
    for key, kind in _MANIFEST.items():
        if key in manifest and not isinstance(manifest[key], kind):
            raise FileError(f"{path} is damaged: {key} is {manifest[key]!r}.", hint="Correct or delete the file.")
    return manifest


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
