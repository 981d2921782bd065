"""What lies on the disk: sizes, models and adapters, told by names and first bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workbench.core import layouts

MADE = "model"
"""Folder, inside a run's, of the model that it made."""


@dataclass(frozen=True)
class ModelEntry:
    """A model on this machine. `name` is what commands take; `format` names a checkpoint format."""

    name: str
    path: Path
    bytes: int
    format: str
    recent: bool = False


@dataclass(frozen=True)
class AdapterEntry:
    """An adapter folder in PEFT's format. `base` is the model it was trained on, as its config says; "" when unknown."""

    name: str
    path: Path
    bytes: int
    base: str
    modified: float


def model_format(path: Path) -> str | None:
    """The checkpoint format of a model that is there with its weights, None for anything else. Reads no weights."""
    form = layouts.layout_of(path)
    if form is None or path.is_file() or any(path.glob("*.safetensors")):
        return form
    return None


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    total = 0
    for file in [path] if path.is_file() else files_below(path):
        with suppress(OSError):  # it may go away while we look
            total += file.stat().st_size
    return total


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below `folder`; folders that go away meanwhile are passed over, which `Path.glob` does not do."""
    for parent, _, names in os.walk(folder, followlinks=False):
        yield from (Path(parent, name) for name in names)


def named_below(root: Path, name: str) -> Iterator[Path]:
    """The files below `root` with this name; folders right below it may be links."""
    with suppress(OSError):
        for child in root.iterdir():
            yield from (file for file in files_below(child) if file.name == name)


def models_below(root: Path) -> Iterator[tuple[str, Path]]:
    """(name, path) of the models in a models folder: files and folders right in it, and those of an owner's folder below it.

    `owner/repo` is a folder, `owner/repo:file.gguf` a file inside one, as the hub's downloads are laid out and asked for.
    """
    for path in _visible(root):
        if model_format(path) is not None:
            yield path.name, path
            continue
        for repo in _visible(path):
            name = f"{path.name}/{repo.name}"
            if model_format(repo) is not None:
                yield name, repo
            yield from ((f"{name}:{file.name}", file) for file in _visible(repo) if layouts.layout_of(file) == "gguf")


def model_label(path: Path) -> str:
    """What a model is called on screen: its file or folder; one that a run made by its run's name, one of a pair by both."""
    run = path.parent
    if path.name != MADE or not (run / "run.json").is_file():
        return path.name
    return f"{run.parent.name} {run.name}" if (run.parent / "pair.json").is_file() else run.name


def models_made(runs: Path) -> Iterator[tuple[str, Path]]:
    """(name, path) of the models that runs below `runs` have made, alone or in a pair; the newest first."""
    for folder in sorted(_visible(runs), key=lambda f: f.name, reverse=True):
        for path in (folder / MADE, folder / "A" / MADE, folder / "B" / MADE):
            if model_format(path) is not None and model_label(path) != MADE:
                yield model_label(path), path


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(folder.glob("[!.]*")) if folder.is_dir() else []
    except OSError:  # removed, or not readable
        return []


def sha256_of(path: Path) -> str:
    """The file's SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
