"""The Fine-tune panel: model, data, method and numbers, a check of the data before the start, the run, and what became of it."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QMimeData, Qt, Slot
from PySide6.QtWidgets import QFrame, QSizePolicy, QVBoxLayout, QWidget

from ui import icons
from ui.finetune.adapter_bar import AdapterBar
from ui.finetune.model_part import ModelPart
from ui.finetune.result_card import ResultCard
from ui.jobs.worker import JobFailure
from ui.models import STARTER
from ui.panels import PANELS, PanelPlace
from ui.services import Services
from ui.theme import LARGE, MEDIUM, SMALL
from ui.training.drop_files import DropFiles
from ui.training.run_card import RunCard
from ui.training.step import StepSection
from ui.widgets.button import Button
from ui.widgets.column import ScrollColumn
from ui.widgets.message import Message
from ui.widgets.text import Muted
from workbench.core.control import Control
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Phase

if TYPE_CHECKING:
    from ui.finetune.setup import Setup

READY = "Start fine-tuning"
_WAITING = "Choices appear as soon as the engine is ready."


def load_adapter(session: Any, path: Path | None, strength: float, control: Control) -> Generator[Event, None, Any]:
    """Let an adapter act on the chat; None: the bare model."""
    yield Phase(word="Loading")
    return session.use_adapter(path, strength)


@PANELS.register(
    "finetune",
    label="Fine-tune",
    help="Trains a LoRA or RsLoRA adapter of the loaded model on your data.",
    place=PanelPlace("right", order=10, icon="finetune"),
)
class FinetunePanel(QWidget):
    """Three numbered parts that scroll; below them, always in view, the run and the one button that starts it."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self._engine_failed = False
        self._reason = ""
        self._trained_on: object = None
        self._setup: Setup | None = None
        self.model_step = StepSection(1, "Model")
        self.data_step = StepSection(2, "Data")
        self.method_step = StepSection(3, "Method and numbers")
        self.model = ModelPart(services.actions, services.theme)
        self.model_step.body_layout.addWidget(self.model)
        self._waiting = [Muted(_WAITING), Muted(_WAITING)]
        for step, words in zip((self.data_step, self.method_step), self._waiting, strict=True):
            step.body_layout.addWidget(words)
        self.heal = Message(services.theme)
        """Why the model needs a fine-tune, when it was converted; until a run has been made, or another model is loaded."""
        self.heal.hide()
        keys = services.actions
        self.adapter = AdapterBar(services.theme)
        self.run_card = RunCard(services.theme, keys["run.pause"].keys, keys["run.stop"].keys)
        self.result = ResultCard(services.theme)
        self.start_button = Button("", "", primary=True)
        self._primary = False
        self._set_primary(True)
        self._build()
        self._connect()
        if services.session is not None:
            self._on_engine(services.session)
        self.refresh()

    # ---- layout --------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        content = QWidget()
        parts = QVBoxLayout(content)
        parts.setContentsMargins(LARGE - SMALL, LARGE - SMALL, LARGE - SMALL, LARGE)
        parts.setSpacing(LARGE + SMALL)
        parts.addWidget(self.heal)
        for step in (self.model_step, self.data_step, self.method_step):
            parts.addWidget(step)
        parts.addStretch(1)
        self.scroll = ScrollColumn(content)
        self.footer = QWidget()
        footer = QVBoxLayout(self.footer)
        footer.setContentsMargins(LARGE - SMALL, MEDIUM, LARGE - SMALL, LARGE - SMALL)
        footer.setSpacing(MEDIUM)
        self.start_button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        for widget in (self.adapter, self.result, self.run_card, self.start_button):
            footer.addWidget(widget)
        line = QFrame(frameShape=QFrame.Shape.HLine, frameShadow=QFrame.Shadow.Plain)
        line.setForegroundRole(self.palette().ColorRole.Mid)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.scroll, 1)
        layout.addWidget(line)
        layout.addWidget(self.footer)
        self.drops = DropFiles(self, "Drop to learn from these files", self._services, self._usable_files, self._take_files)

    def _connect(self) -> None:
        services, bus = self._services, self._services.bus
        bus.engine_ready.connect(self._on_engine)
        bus.engine_failed.connect(self._on_engine_failed)
        bus.model_changed.connect(self._on_model)
        bus.use_adapter.connect(self.use_adapter)
        bus.heal_requested.connect(self._on_heal)
        bus.adapter_changed.connect(self._on_adapter)
        bus.job_started.connect(self.refresh)
        bus.job_finished.connect(self.refresh)
        services.models.changed.connect(self.refresh)
        services.models.models_changed.connect(self.refresh)
        services.actions.bind("run.start", self.start)
        self.start_button.clicked.connect(self.start)
        self.result.chat_wanted.connect(self._chat_with)
        self.result.model_wanted.connect(self._load)
        self.result.dismissed.connect(self.refresh)
        self.adapter.strength_changed.connect(self._set_strength)
        self.adapter.off_wanted.connect(self._turn_off)

    @Slot(object)
    def _on_engine(self, session: Any) -> None:
        if self._setup is not None:
            return
        from ui.finetune.setup import Setup  # the engine's settings: importing them any earlier would import torch

        for words in self._waiting:
            words.hide()
        self._setup = Setup(self._services, self.data_step, self.method_step, self)
        self._setup.changed.connect(self.refresh)
        self._setup.set_model(session.model)
        self._show_adapter()
        self.refresh()

    @Slot(object)
    def _on_engine_failed(self, failure: object) -> None:
        self._engine_failed = True
        for words in self._waiting:
            words.setText("The engine did not load; the Log says why.")
        self.refresh()

    @property
    def setup(self) -> Setup:
        """The settings; there once the engine is."""
        assert self._setup is not None
        return self._setup

    # ---- what is missing -----------------------------------------------------------------------------------------

    @property
    def _summary(self) -> Any:
        session = self._services.session
        return None if session is None else session.model

    def missing(self) -> tuple[str, str]:
        """(words for the button, the reason) of what keeps a run from starting; two empty texts when nothing does."""
        models = self._services.models
        if self._engine_failed:
            return "The engine did not load", "See the Log for the reason."
        if self._setup is None:
            return "The engine is loading…", "This takes a few seconds after the start."
        if models.activity.busy:
            return "The model is loading…", models.activity.message
        if self._summary is None:
            return "Load a model first", "Get the starter model, or open one of your own."
        problem = self._setup.problem()
        if problem != ("", ""):
            return problem
        blocker = self._services.jobs.blocker("train")
        if blocker is not None:
            return f"Wait for “{blocker.title}”", f"“{blocker.title}” is still running."
        return "", ""

    @Slot()
    def refresh(self, _news: object = None) -> None:
        """Draw the three parts and the start button as things are now."""
        models = self._services.models
        self.model.show_model(self._summary, models.activity, models.library.starter_installed, models.library.catalogue[STARTER].bytes)
        busy = models.activity.busy
        self.model_step.set_state("busy" if busy else "done" if self._summary is not None else "open", models.activity.word)
        running = self.run_card.job is not None
        words, self._reason = self.missing()
        self.start_button.setVisible(not running)
        self.start_button.setEnabled(not words)
        again = READY if self.result.isHidden() else "Start another run"
        keys = self._services.actions["run.start"].keys
        self.start_button.set_words(words or again, self._reason or f"Train with the settings above ({keys}).")
        self._set_primary(self.result.isHidden() or not self.result.usable)
        actions = self._services.actions
        reason = "A run is going on." if running else self._reason
        if actions["run.start"].isEnabled() == bool(reason) or actions["run.start"].reason != reason:
            actions.allow("run.start", not reason, reason)
        if self.result.adapter is None:
            self.result.allow_chat(True)
        else:
            fits = self._summary == self._trained_on
            self.result.allow_chat(fits, "" if fits else "It belongs to another model; load that one first.")

    def _set_primary(self, primary: bool) -> None:
        """One filled button at a time: after a run that is “Chat with it”."""
        if primary != self._primary:
            self._primary = primary
            self.start_button.set_primary(primary)
            icons.bind(self.start_button, "play", self._services.theme, "on_accent" if primary else "text")

    @Slot(object)
    def _on_heal(self, reason: str) -> None:
        """A converted model should be trained: say why, and come to the front, ready to start."""
        how = "Choose text like that it was trained on, and whether an adapter or all weights learn; then start."
        self.heal.say("info", "Heal the converted model", str(reason), how)
        self.heal.show()
        self.scroll.verticalScrollBar().setValue(0)
        self._services.bus.show_panel.emit("finetune")

    @Slot(object)
    def _on_model(self, summary: object) -> None:
        self.heal.hide()
        if self._setup is not None:
            self._setup.set_model(summary)
        if self._services.session is not None and self._services.session.adapter is None and self.adapter.isVisibleTo(self):
            self._services.bus.adapter_changed.emit(())  # the old model's adapter went with it
        self.refresh()

    # ---- the run -------------------------------------------------------------------------------------------------

    @Slot()
    def start(self) -> None:
        """Start a run with the settings shown, if nothing is missing."""
        if self.run_card.job is not None or self.missing() != ("", ""):
            return
        request = self.setup.request()
        self.setup.remember()
        try:
            job = self._services.jobs.start(
                f"Fine-tuning {self._summary.name}",
                partial(self._services.engine.finetune, request),
                "train",
                on_events=self._on_events,
                on_done=self._on_done,
                on_failed=self._on_failed,
                on_finished=self._on_finished,
            )
        except WorkbenchError as error:
            self._services.notify.exception(error, source="fine-tune")
            return
        self._trained_on = self._summary
        self.result.hide()
        self.run_card.follow(job)
        self.setup.set_locked(True)
        self.refresh()

    def _on_events(self, events: list[Event]) -> None:
        self.run_card.track.follow(events)

    def _on_done(self, result: Any) -> None:
        self.heal.hide()
        job = self.run_card.job
        self.result.show_result(result, self.run_card.track, job.elapsed if job is not None else 0.0)

    def _on_failed(self, failure: JobFailure) -> bool:
        self.result.show_failure(failure, self.run_card.track)
        return self.isVisible()  # else the message bar says it

    def _on_finished(self) -> None:
        had_focus = self.run_card.isAncestorOf(self.focusWidget()) if self.focusWidget() is not None else False
        self.run_card.leave()
        self.setup.set_locked(False)
        self.refresh()
        if had_focus:
            target = self.result.chat if self.result.usable else self.start_button
            target.setFocus(Qt.FocusReason.OtherFocusReason)

    # ---- the adapter ---------------------------------------------------------------------------------------------

    @Slot(object)
    def _chat_with(self, path: Path) -> None:
        self._change_adapter(path, 1.0, self._go_chat)

    @Slot(object)
    def use_adapter(self, path: str | Path | None) -> None:
        """Let an adapter folder act on the chat from the next message on, and go there; None: the bare model."""
        if path is None:
            self._turn_off()
        else:
            self._chat_with(Path(path))

    @Slot(object)
    def _load(self, path: Path) -> None:
        """A model all of whose weights were trained takes the place of the one in use."""
        self._services.bus.open_model.emit(path)
        self._services.bus.show_panel.emit("chat")

    @Slot()
    def _turn_off(self) -> None:
        self._change_adapter(None, 0.0, self._tell_adapter)

    def _change_adapter(self, path: Path | None, strength: float, done: Any) -> None:
        title = f"Loading {path.name}" if path is not None else "Turning the adapter off"
        try:  # on the chat's lane: a reply that is being written keeps the weights it began with
            make = partial(load_adapter, self._services.engine, path, strength)
            self._services.jobs.start(title, make, "chat", on_done=done)
        except WorkbenchError as error:
            self._services.notify.exception(error, source="fine-tune")

    def _tell_adapter(self, state: Any) -> None:
        self._services.bus.adapter_changed.emit(() if state is None else (state,))

    def _go_chat(self, state: Any) -> None:
        self._tell_adapter(state)
        self._services.bus.show_panel.emit("chat")

    @Slot(float)
    def _set_strength(self, strength: float) -> None:
        self._services.engine.set_strength(strength)
        self._tell_adapter(self._services.engine.adapter)

    @Slot(object)
    def _on_adapter(self, states: object) -> None:
        self._show_adapter()

    def _show_adapter(self) -> None:
        session = self._services.session
        self.adapter.show_adapter(None if session is None else session.adapter)

    # ---- files dropped on it -------------------------------------------------------------------------------------

    def _usable_files(self, mime: QMimeData) -> list[str]:
        return [] if self._setup is None or self.run_card.job is not None else self._setup.dropped(mime)

    def _take_files(self, paths: list[str]) -> None:
        self.setup.picker.take(paths)
