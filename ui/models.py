"""The model controller: the one place that fetches, opens, loads and unloads models, whoever asked for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QObject, Qt, QTimer, Signal, Slot
from PySide6.QtWidgets import QApplication, QFileDialog, QWidget

from ui.actions import Command
from ui.hub.controller import HubController
from ui.jobs.runner import Job
from ui.jobs.worker import JobFailure
from ui.services import Services
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event
from workbench.library import Library, ModelEntry, model_label

STARTER: Final = "starter"
FILTER: Final = "Models (*.gguf *.safetensors config.json);;All files (*)"
RECENT_MENU: Final = "File/Recent models"
RECENT_SHOWN: Final = 8
_IN_A_FOLDER: Final = (".safetensors", ".json")


@dataclass(frozen=True)
class Activity:
    """What is being done about a model: `word` "" (nothing), "Waiting" (for the engine), "Downloading" or "Loading"."""

    word: str = ""
    name: str = ""
    message: str = ""
    done: float = 0
    total: float | None = None
    eta_seconds: float | None = None

    @property
    def busy(self) -> bool:
        return bool(self.word)


ChooseFile = Callable[[QWidget | None, Callable[[str], Any]], Any]


def ask_for_file(parent: QWidget | None, chosen: Callable[[str], Any]) -> None:
    """A file dialog that calls `chosen(path)`; a folder is chosen by the config.json inside it."""
    dialog = QFileDialog(parent, "Open a model: a GGUF file, or a folder's config.json", "", FILTER)
    dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.fileSelected.connect(chosen)
    dialog.open()


class ModelController(QObject):
    """Models on this machine, and what is being done about one. Every panel asks here (or through the commands it binds).

    `choose` is how a person is asked for a file; tests give their own.
    """

    changed = Signal(object)
    """Activity."""
    models_changed = Signal()
    """Another model is on this machine, or the recent ones are others."""

    def __init__(self, services: Services, choose: ChooseFile = ask_for_file) -> None:
        super().__init__(services.bus)
        self._services = services
        self._choose = choose
        self.library = Library(services.settings.folders.home)
        self.hub = HubController(services, self.library, self)
        self.hub.arrived.connect(self._refresh)
        self.activity = Activity()
        self._job: Job | None = None
        self._wanted: str | Path | None = None
        """To be loaded as soon as the engine is there, or the load that is being stopped has ended."""
        self._recent: list[Command] = []
        self._engine_failed = False
        self._add_commands()
        bus = services.bus
        bus.open_model.connect(self.open)
        bus.engine_ready.connect(self._on_engine)
        bus.engine_failed.connect(self._on_engine_failed)
        bus.job_started.connect(self._on_jobs)
        bus.job_finished.connect(self._on_job_finished)
        bus.model_changed.connect(self._on_model)
        self._refresh()
        self._on_jobs()

    def _add_commands(self) -> None:
        add = self._services.actions.add
        size = self.library.catalogue[STARTER].bytes
        add("model.open", "&Open a model…", self.choose, icon="folder", menu="Model", group=0,
            tooltip="Load a GGUF file, or a model folder by its config.json.")  # fmt: skip
        add("model.fetch_starter", f"Get the &starter model ({size / 1e6:.0f} MB)", self.fetch_starter, icon="download", menu="Model",
            group=0, tooltip=f"{self.library.catalogue[STARTER].help} Downloaded once, then loaded at once.")  # fmt: skip
        add("model.find", "&Find and download models…", partial(self._services.bus.show_panel.emit, "models"), icon="search", menu="Model",
            group=0, shortcut="Ctrl+Shift+L", tooltip="Go to the models of this machine and of the Hugging Face hub.")  # fmt: skip
        add("model.unload", "&Unload model", self.unload, menu="Model", group=1, icon="remove",
            tooltip="Forget the model and free its memory.")  # fmt: skip
        add("model.cancel", "S&top loading", self.cancel, menu="Model", group=1, icon="stop", tooltip="Stop the download or the loading.")
        add("model.forget_recent", "&Clear this list", self.forget_recent, menu=RECENT_MENU, group=1, icon="trash",
            tooltip="Empty the list of recent models; the files stay.")  # fmt: skip

    # ---- what is here --------------------------------------------------------------------------------------------

    @property
    def summary(self) -> Any:
        """ModelSummary of the loaded model, or None."""
        session = self._services.session
        return getattr(session, "model", None) if session is not None else None

    def entries(self) -> list[ModelEntry]:
        """The models on this machine; looks at the disk."""
        return self.library.models()

    @property
    def dtype(self) -> str:
        """The format that weights will be loaded in."""
        compute = getattr(self._services.session, "compute", None)
        return str(getattr(compute, "dtype", self._services.settings.value.dtype)).removeprefix("torch.")

    # ---- asked by people -----------------------------------------------------------------------------------------

    @Slot()
    def choose(self) -> None:
        """Ask for a file and open it."""
        self._choose(QApplication.activeWindow(), self._chosen)

    @Slot(str)
    def _chosen(self, path: str) -> None:
        self._services.bus.open_model.emit(Path(path))

    @Slot(object)
    def open(self, model: str | Path) -> None:
        """Load a library name, a folder or a file; a load that is running is stopped for it. The old model stays until the
        new one is whole. What cannot be loaded is said in the message bar."""
        if isinstance(model, Path) and model.suffix in _IN_A_FOLDER and model.is_file():
            model = model.parent
        if self._engine_failed:
            self._services.notify.error("No model can be loaded: the engine did not load.", "See the Log for the reason.")
        elif self._services.session is None:
            self._wanted = model
            self._set(Activity("Waiting", _name(model), "Waiting for the engine"))
        elif self._job is not None:
            self._wanted = model
            self._job.stop(save=False)
        else:
            self._load(model)

    @Slot()
    def fetch_starter(self) -> None:
        """Download the starter model unless it is here, then load it."""
        if self.library.starter_installed:
            self.open(STARTER)
            return
        if self._job is not None:
            self._services.notify.info(f"“{self._job.title}” is still running.", "Stop it first.")
            return
        wanted = self.library.catalogue[STARTER]
        # Beside chat and training: nothing is loaded yet.
        self._start("Downloading", wanted.label, partial(self.library.fetch, STARTER), "background", self._on_fetched)

    @Slot()
    def unload(self) -> None:
        """Forget the loaded model."""
        if self.summary is None:
            return
        try:
            self._services.engine.unload()
        except WorkbenchError as error:
            self._services.notify.exception(error, source="model")
            return
        self._services.bus.model_changed.emit(None)

    def may_remove(self, entry: ModelEntry) -> bool:
        """Whether a model lies in the library's own folder."""
        return entry.path.is_relative_to(self.library.models_folder)

    @Slot(object)
    def remove(self, entry: ModelEntry) -> None:
        """Move a model of the library to its trash."""
        try:
            place = self.library.remove(entry.path)
        except (WorkbenchError, OSError) as error:
            self._services.notify.exception(error, source="model")
            return
        self._services.notify.info(f"{entry.name} was moved to the trash.", f"It is at {place}; move it back to keep it.", source="model")
        self.hub.forget_gone()
        self._refresh()

    @Slot()
    def cancel(self) -> None:
        """Stop the download or the load; the model in use stays."""
        self._wanted = None
        if self._job is not None:
            self._job.stop(save=False)
        else:
            self._set(Activity())

    @Slot()
    def forget_recent(self) -> None:
        """Empty the list of recent models."""
        try:
            self.library.forget_recent()
        except (WorkbenchError, OSError) as error:
            self._services.notify.exception(error, source="model")
        self._refresh()

    # ---- jobs ----------------------------------------------------------------------------------------------------

    def _load(self, model: str | Path) -> None:
        self._start("Loading", _name(model), partial(self._services.engine.load, model), "model", self._on_loaded)

    def _start(self, word: str, name: str, make: Callable[..., Any], lane: str, done: Callable[[Any], None]) -> None:
        try:
            self._job = self._services.jobs.start(
                f"{word} {name}", make, lane, on_events=self._on_events, on_done=done, on_failed=self._on_failed
            )
        except WorkbenchError as error:  # BusyError: a chat or a run is using the model
            self._services.notify.exception(error, source="model")
            self._set(Activity())
            return
        self._set(Activity(word, name, f"{word} {name}"))

    def _on_events(self, events: list[Event]) -> None:
        if self._job is not None and self.activity.busy:
            p, before = self._job.progress, self.activity
            self._set(Activity(before.word, before.name, p.message or before.message, p.done, p.total, p.eta_seconds))

    def _on_fetched(self, path: Path) -> None:
        self._wanted = STARTER  # loaded once this job has left its lane

    def _on_loaded(self, summary: Any) -> None:
        if summary is not None:  # None: it was stopped, and the old model is still there
            self._services.bus.model_changed.emit(summary)

    def _on_failed(self, failure: JobFailure) -> bool:
        # A download that a person stopped ends with an error that nobody needs to read.
        return self._job is not None and self._job.control.stopping and failure.expected

    @Slot(object)
    def _on_job_finished(self, job: Job) -> None:
        if job is self._job:
            self._job = None
            self._set(Activity())
            self._refresh()
            wanted, self._wanted = self._wanted, None
            if wanted is not None:
                self.open(wanted)
        self._on_jobs()

    # ---- the start -----------------------------------------------------------------------------------------------

    @Slot(object)
    def _on_engine(self, session: Any) -> None:
        if self._job is None and self._wanted is not None:
            wanted, self._wanted = self._wanted, None
            self.open(wanted)
        else:
            QTimer.singleShot(0, self, self._load_last)  # after whoever else waits for the engine (the command line's model)
        self._on_jobs()

    @Slot()
    def _load_last(self) -> None:
        """What was used last, so that a returning user chats at once."""
        if self._job is not None or self.summary is not None or not self._services.settings.value.load_last_model:
            return
        recent = self.library.recent()
        target: str | Path | None = recent[0] if recent else STARTER if self.library.starter_installed else None
        if target is not None:
            self.open(self._known_as(target))

    @Slot(object)
    def _on_engine_failed(self, failure: object) -> None:
        self._engine_failed, self._wanted = True, None
        if self._job is None:
            self._set(Activity())
        for id in ("model.open", "model.fetch_starter"):
            self._services.actions.allow(id, False, "The engine did not load; see the Log.")

    # ---- what others see -----------------------------------------------------------------------------------------

    def _set(self, activity: Activity) -> None:
        if activity != self.activity:
            self.activity = activity
            self.changed.emit(activity)
            self._on_jobs()

    @Slot(object)
    def _on_model(self, summary: object) -> None:
        self._refresh()
        self._on_jobs()

    @Slot()
    def _on_jobs(self, _job: object = None) -> None:
        """Which commands are possible now."""
        busy = self.activity.busy
        wanted = {
            "model.unload": (self.summary is not None and not busy, "A model is being loaded." if busy else "No model is loaded."),
            "model.cancel": (busy, "Nothing is being loaded."),
        }
        for id, (possible, reason) in wanted.items():
            command = self._services.actions[id]
            if command.isEnabled() != possible or command.reason != ("" if possible else reason):
                command.allow(possible, reason)

    def _known_as(self, path: str | Path) -> str | Path:
        """A catalogue model by its name rather than by its path."""
        named = {self.library.path_of(m): name for name, m in self.library.catalogue.items()}
        return named.get(path, path) if isinstance(path, Path) else path

    def _refresh(self) -> None:
        """The recent models in the menu, and everyone who lists models."""
        recent: list[Path] = []
        with suppress(OSError):
            recent = self.library.recent()[:RECENT_SHOWN]
        for n in range(len(self._recent), len(recent)):
            command = self._services.actions.add(
                f"model.recent_{n}", f"Recent {n + 1}", partial(self._open_recent, n), tooltip="Load it again.", menu=RECENT_MENU, group=0
            )
            self._recent.append(command)
        for command, path in zip(self._recent, recent, strict=False):
            text = model_label(path).replace("&", "&&")
            command.info = replace(command.info, text=text, tooltip=f"Load {path}")
            command.setText(text)
            command.setData(path)
            command.allow(True)
            command.setVisible(True)
        for command in self._recent[len(recent) :]:
            command.setVisible(False)
            command.allow(False, "It is no longer among the recent models.")
        self._services.actions.allow("model.forget_recent", bool(recent), "No model was opened yet.")
        self.models_changed.emit()

    def _open_recent(self, number: int) -> None:
        self._services.bus.open_model.emit(self._recent[number].data())


def _name(model: str | Path) -> str:
    return model_label(model) if isinstance(model, Path) else str(model)
