"""Files that survive a crash: written beside, flushed, then renamed; JSON with a version and named migrations."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.core.errors import FileError

_OLD, _PART = re.compile(r"\.(.+)\.old"), re.compile(r"\..+\.[a-z0-9_]{8}\.part")
Migration = Callable[[dict[str, Any]], dict[str, Any]]


def write_error(path: Path, error: OSError) -> FileError:
    """What went wrong while `path` was written, and what to do about it."""
    if error.errno == errno.ENOSPC:
        free = shutil.disk_usage(path.parent if path.parent.exists() else path.anchor or ".").free
        return FileError(
            f"The disk is full: {path.name} was not written ({free / 1e6:.0f} MB free).",
            hint="Free some space; what was there before is untouched.",
        )
    reason = error.strerror or error
    return FileError(f"{path} cannot be written: {reason}.", hint="Check the folder's permissions, or choose another one.")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder; renamed to `path` when the block ends well, removed when it raises."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        os.close(handle)
    except OSError as error:
        raise write_error(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise write_error(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary sibling folder that takes `path`'s place when the block ends well; the old one stays otherwise."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _settle(_aside(path), path)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        _take_place(temporary, path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise write_error(path, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A path of the same name in a hidden folder beside `path`, for what is looked at before `move_in`; what is left there goes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    except OSError as error:
        raise write_error(path, error) from error
    try:
        yield folder / path.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def move_in(new: Path, path: Path) -> None:
    """`new`, a file or folder on the same disk, takes `path`'s place; the old one stays when it cannot. Raises `FileError`."""
    try:
        if new.is_dir():
            _settle(_aside(path), path)
            _take_place(new, path)
        else:
            os.replace(new, path)
    except OSError as error:
        raise write_error(path, error) from error


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _take_place(new: Path, path: Path) -> None:
    old = _aside(path)
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def recover_inside(folder: Path) -> None:
    """Put right what a crash left in a folder that this process alone writes: a folder that was moved aside and not yet
    replaced comes back, half-written files and folders go. Raises `FileError` when the file system refuses."""
    try:
        for left in sorted(folder.glob(".*")):
            if (aside := _OLD.fullmatch(left.name)) and left.is_dir():
                _settle(left, folder / aside[1])
            elif _PART.fullmatch(left.name):
                shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(folder, error) from error


def _settle(old: Path, path: Path) -> None:
    """`atomic_folder` moves the old folder aside and the new one in; killed between the two, only the old one is there."""
    if old.exists() and not path.exists():
        os.replace(old, path)
    shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Mapping[str, Any], *, kind: str, version: int) -> None:
    """`data` with its kind and version, atomically."""
    write_text(path, json.dumps({"kind": kind, "version": version, **data}, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path, *, kind: str, version: int, migrations: Mapping[int, Migration] | None = None) -> dict[str, Any]:
    """The data of a file written by `write_json`. `migrations[v]` turns version v into v + 1.

    Raises `FileError` when the file is missing, no JSON, of another kind, or newer than this program.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"{path} does not exist.", hint="Check the path.") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error
    except (ValueError, RecursionError) as error:  # broken UTF-8 or JSON, numbers or nesting beyond Python's limits
        raise FileError(f"{path} is not readable JSON ({error}).", hint="The file is damaged; restore it or delete it.") from error
    if not isinstance(data, dict) or data.pop("kind", None) != kind:
        raise FileError(f"{path} is not a {kind} file.", hint="Choose another file.")
    found = data.pop("version", None)
    if not isinstance(found, int) or found > version:
        raise FileError(f"{path} has version {found}; this program reads up to {version}.", hint="Update the program.")
    while found < version:
        if found not in (migrations or {}):
            raise FileError(f"{path} has version {found}, which cannot be read any more.", hint="Recreate the file.")
        data = (migrations or {})[found](data)
        found += 1
    checked: dict[str, Any] = data
    return checked
