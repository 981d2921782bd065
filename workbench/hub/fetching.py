"""Bringing a model here: what has arrived is kept and gone on with, and nothing is seen as a model before it is whole.

downloads/owner--repo/<first digits of the digest>-<name>[.part]     on its way
downloads/owner--repo/request.json                                   what was asked for, so that it can be gone on with
models/owner/repo/<name>, hub.json                                   whole, checked; config.json comes last
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from workbench.core.control import Control
from workbench.core.errors import BusyError, DownloadError, FileError, WorkbenchError
from workbench.core.events import Progress
from workbench.core.format import bytes_text
from workbench.core.layouts import HF_CONFIG, INDEX
from workbench.core.store import read_json, write_json
from workbench.hub.client import Hub
from workbench.hub.describe import LARGEST_FILE, HubFile, HubPage, Offer, parse_spec
from workbench.hub.failures import disk_error, explain
from workbench.hub.line import Line, Stopped, follow
from workbench.hub.progress import Tally
from workbench.hub.transfer import bring, key_of, matches

SPARE_BYTES = 64_000_000
"""Left free beside the model: logs, settings, a first run."""
REQUEST, RECORD = ".request.json", "hub.json"
_KIND, _VERSION = "workbench download", 1


@dataclass(frozen=True)
class Unfinished:
    """A download that did not end: `spec` goes on with it, `done` of `total` bytes are here."""

    spec: str
    done: int
    total: int


@dataclass(frozen=True)
class Places:
    """Folders of one disk: where models lie, where they are on their way, where older versions go."""

    models: Path
    downloads: Path
    trash: Path


def download(hub: Hub, spec: str, places: Places, control: Control | None = None) -> Generator[Progress, None, Path]:
    """Bring `owner/repo[:file.gguf]` into `places.models` and return the folder or file; go on where an earlier try ended.

    Every file is held against the hub's SHA-256 (or git id). Raises `DownloadError` (offline, refused, gated, damaged,
    stopped), `FileError` (disk full, not writable) or `BusyError` (another process is fetching it).
    """
    repo, file = parse_spec(spec)
    control = control or Control()
    page = yield from hub.look(repo, control)
    offer = page.choose(file)
    for large in (f for f in offer.files if f.size > LARGEST_FILE):
        raise DownloadError(
            f"{large.name} of {repo} has {bytes_text(large.size)}, and the hub gives files above {bytes_text(LARGEST_FILE)} only by Xet.",
            hint=f"Get it with: hf download {repo}, then open its folder.",
        )
    job = _Job(hub, repo, page, offer, places)
    with _held(job, places.downloads):
        try:
            yield from follow(job.run, control, job.tally.event)
        except Stopped:
            hint = "Fetch it again at any time: it goes on where it ended."
            raise DownloadError(f"The download of {offer.spec} was stopped.", hint=hint) from None
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:  # the hub's own errors are OSErrors without a number
                raise disk_error(error, offer.spec, places.downloads.parent) from error
            raise explain(error, offer.spec, hub.endpoint) from error
    return job.target


def unfinished(downloads: Path) -> list[Unfinished]:
    """Downloads that can be gone on with."""
    found = []
    for request in sorted(downloads.glob(f"*/*{REQUEST}")):
        with suppress(WorkbenchError, OSError, TypeError, ValueError, KeyError):
            data = read_json(request, kind=_KIND, version=_VERSION)
            done = sum(_size(path) for path in _parts(request.parent, data["keys"]))
            found.append(Unfinished(str(data["spec"]), done, int(data["total"])))
    return found


def discard(spec: str, downloads: Path) -> None:
    """Forget what an unfinished download has brought. Raises `BusyError` while its repository is being fetched from."""
    folder = downloads / _folder(parse_spec(spec)[0])
    request = folder / _request_name(spec)
    try:
        with FileLock(_lock(folder), timeout=0, thread_local=False):
            keys: Any = ()
            with suppress(WorkbenchError):
                keys = read_json(request, kind=_KIND, version=_VERSION).get("keys", ())
            for part in (*_parts(folder, keys), request):
                part.unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()
    except Timeout:
        raise BusyError(f"{spec} is being fetched.", hint="Stop that first.") from None


def _request_name(spec: str) -> str:
    return hashlib.sha256(spec.encode()).hexdigest()[:12] + REQUEST


def _parts(folder: Path, keys: Any) -> list[Path]:
    """Where the files of a download are, whole or on their way. `keys` come from a file, so they name nothing outside `folder`."""
    names = [str(key) for key in keys if Path(str(key)).name == str(key)]
    return [folder / f"{name}{end}" for name in names for end in ("", ".part")]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _folder(repo: str) -> str:
    return repo.replace("/", "--")  # the hub allows no "--" in a name


def _lock(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")  # not with_suffix: qwen2.5-0.5b and qwen2.5-7b are two repositories


@contextmanager
def _held(job: _Job, downloads: Path) -> Iterator[None]:
    """Only one process fetches a repository."""
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        with FileLock(_lock(job.work), timeout=0, thread_local=False):
            yield
    except Timeout:
        raise BusyError(
            f"{job.page.model.id} is already being fetched by another window or command.", hint="Wait until it is done."
        ) from None
    except OSError as error:
        raise disk_error(error, job.offer.spec, downloads.parent) from error


class _Job:
    """One download; `run` is the part that blocks."""

    def __init__(self, hub: Hub, repo: str, page: HubPage, offer: Offer, places: Places) -> None:
        self.hub, self.page, self.offer, self.places = hub, page, offer, places
        self.home = places.models / repo  # as it was asked for: where files go is not the hub's to say
        self.work = places.downloads / _folder(repo)
        self.target = self.home / offer.files[0].base if offer.format == "gguf" else self.home
        self.keys = [key_of(file, page) for file in offer.files]
        self.tally = Tally(f"Downloading {offer.spec}", offer.bytes)

    def run(self, line: Line) -> None:
        if self._is_here(line):
            return
        self.work.mkdir(parents=True, exist_ok=True)
        asked = {"spec": self.offer.spec, "total": self.offer.bytes, "keys": self.keys}
        write_json(self.work / _request_name(self.offer.spec), asked, kind=_KIND, version=_VERSION)
        self._drop_other_versions()
        self._require_space()
        self.tally.message = f"Downloading {self.offer.spec}"
        for file in self._in_order():
            bring(self.hub, self.page, file, self.work, line, self.tally)
            if file.name == INDEX:
                self._check_index()
        line.check()
        self._install()

    def _in_order(self) -> list[HubFile]:
        """Small files first: what is wrong with them is known before the weights come."""
        return sorted(self.offer.files, key=lambda f: f.size)

    def _is_here(self, line: Line) -> bool:
        """Whether an earlier download is there with every byte as it should be."""
        recorded = read_record(self.home)
        places = [self.home / f.base for f in self.offer.files]
        whole = all(
            recorded.get(f.base) == f.digest and p.is_file() and p.stat().st_size == f.size
            for f, p in zip(self.offer.files, places, strict=True)
        )
        if not whole:
            return False
        self.tally.message = f"Checking {self.offer.spec}"
        if all(matches(p, f, line, self.tally) for f, p in zip(self.offer.files, places, strict=True)):
            return True
        self.tally.found(-self.tally.done)
        return False

    def _drop_other_versions(self) -> None:
        """What was brought of files that have changed on the hub since is of no use."""
        mine = {file.base for file in self.offer.files}
        for found in self.work.iterdir():
            key = found.name.removesuffix(".part")
            if key not in self.keys and key.partition("-")[2] in mine:
                found.unlink()

    def _require_space(self) -> None:
        here = sum(_size(path) for path in _parts(self.work, self.keys))
        needed = max(0, self.offer.bytes - here) + SPARE_BYTES
        free = shutil.disk_usage(self.work).free
        if free < needed:
            room = f"{bytes_text(needed)} are needed and {bytes_text(free)} are free in {self.places.downloads}"
            raise FileError(
                f"The disk is too full for {self.offer.spec}: {room}.",
                hint="Free some space, or set WORKBENCH_HOME to a folder on another disk.",
            )

    def _check_index(self) -> None:
        """The index names the shards; each of them must be among what is brought."""
        file = next(f for f in self.offer.files if f.name == INDEX)
        named: Any = None
        with suppress(ValueError, RecursionError):
            named = json.loads((self.work / key_of(file, self.page)).read_text(encoding="utf-8")).get("weight_map")
        missing = sorted(set(named.values()) - {f.name for f in self.offer.files}) if isinstance(named, dict) else [INDEX]
        if missing:
            raise DownloadError(
                f"{self.page.model.id} is not complete on the hub: {missing[0]} is missing.", hint="Look for another copy of the model."
            )

    def _install(self) -> None:
        """Files move in one after the other, config.json last: before it, the folder is no model to anyone."""
        self.home.mkdir(parents=True, exist_ok=True)
        record = read_record(self.home)
        if self.offer.format == "hf" and (self.home / HF_CONFIG).exists():
            self._set_aside(record)
        for file in sorted(self.offer.files, key=lambda f: f.name == HF_CONFIG):
            record[file.base] = file.digest
            if file.name == HF_CONFIG:
                self._write_record(record)
            os.replace(self.work / key_of(file, self.page), self.home / file.base)
        self._write_record(record)
        (self.work / _request_name(self.offer.spec)).unlink(missing_ok=True)
        with suppress(OSError):  # parts of another file of this repository stay
            self.work.rmdir()

    def _write_record(self, record: dict[str, str]) -> None:
        write_json(self.home / RECORD, {"repo": self.page.model.id, "files": record}, kind=_KIND, version=_VERSION)

    def _set_aside(self, record: dict[str, str]) -> None:
        """An older version of the folder goes to the trash; GGUF files of the same repository stay."""
        trash = self.places.trash / f"{time.strftime('%Y%m%d-%H%M%S')}-{_folder(self.page.model.id)}"
        trash.mkdir(parents=True, exist_ok=True)
        (self.home / HF_CONFIG).rename(trash / HF_CONFIG)
        for old in self.home.iterdir():
            if old.is_file() and old.suffix != ".gguf" and old.name != RECORD:
                old.rename(trash / old.name)
                record.pop(old.name, None)


def read_record(folder: Path) -> dict[str, str]:
    """Name -> digest of the files that were downloaded into this folder; empty when none were, or the record is damaged."""
    with suppress(WorkbenchError, TypeError, ValueError, AttributeError):
        files = read_json(folder / RECORD, kind=_KIND, version=_VERSION).get("files")
        return {str(name): str(digest) for name, digest in files.items()} if isinstance(files, dict) else {}
    return {}
