"""The Build page: a model from scratch, from its architecture to its first words; alone, or beside a variant."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PySide6.QtCore import QMimeData, Qt, QTimer, Slot
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QScrollArea, QSizePolicy, QStackedWidget, QVBoxLayout, QWidget

from ui import icons
from ui.building.result_card import ResultCard
from ui.jobs.worker import JobFailure
from ui.panels import PANELS, PanelPlace
from ui.services import Services
from ui.theme import LARGE, MEDIUM, SMALL
from ui.training.drop_files import DropFiles
from ui.training.run_card import RunCard
from ui.widgets.button import Button
from ui.widgets.segmented import SegmentedControl
from ui.widgets.text import Muted
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event

if TYPE_CHECKING:
    from ui.building.setup import Setup
    from ui.building.stage import Stage
    from ui.building.track import BuildTrack

READY: Final = "Start training"
READY_PAIR: Final = "Train A and B"
EXPORT: Final = "model.export"
SETTINGS, RUN = "settings", "run"
_WAITING: Final = "Choices appear as soon as the engine is ready."


@PANELS.register(
    "build",
    label="Build",
    help="Trains a model from scratch: your architecture, your text; alone or beside a variant.",
    place=PanelPlace("centre", order=15, icon="build"),
)
class BuildPanel(QWidget):
    """Two pages, the settings and the run; below them, always in view, the run's progress and the one button that starts it."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self._engine_failed = False
        self._reason = ""
        self._asked: Any = None
        """A preset's name or a config that was asked for before the engine was there."""
        self._request: Any = None
        self._name = ""
        self._to_export: Path | None = None
        self._setup: Setup | None = None
        self._stage: Stage | None = None
        self.waiting = Muted(_WAITING)
        keys = services.actions
        pages = [(SETTINGS, "Settings", "What is built, from what, for how long."), (RUN, "Run", "The run and what the model writes.")]
        self.pages = SegmentedControl(pages)
        self.pages.set_group_name("Page")
        self.pages.set_value(SETTINGS)
        self.run_card = RunCard(services.theme, keys["run.pause"].keys, keys["run.stop"].keys)
        self.result = ResultCard(services.theme)
        self.start_button = Button("", "", primary=True)
        icons.bind(self.start_button, "play", services.theme, "on_accent")
        self._build()
        self._connect()
        if services.session is not None:
            self._on_engine(services.session)
        self.refresh()

    # ---- layout --------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.stack = QStackedWidget()
        self._scrolls = (self._scroll(self.waiting), self._scroll(self.result))
        for scroll in self._scrolls:
            self.stack.addWidget(scroll)
        head = QHBoxLayout()
        head.setContentsMargins(LARGE, MEDIUM, LARGE, SMALL)
        self.headline = QLabel("Build a model from scratch")
        font = self.headline.font()
        font.setWeight(font.Weight.DemiBold)
        self.headline.setFont(font)
        head.addWidget(self.headline, 1)
        head.addWidget(self.pages)
        self.footer = QWidget()
        footer = QVBoxLayout(self.footer)
        footer.setContentsMargins(LARGE, MEDIUM, LARGE, LARGE - SMALL)
        footer.setSpacing(MEDIUM)
        self.start_button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        for widget in (self.run_card, self.start_button):
            footer.addWidget(widget)
        self.line = QFrame(frameShape=QFrame.Shape.HLine, frameShadow=QFrame.Shadow.Plain)
        self.line.setForegroundRole(self.palette().ColorRole.Mid)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(head)
        layout.addWidget(self.stack, 1)
        layout.addWidget(self.line)
        layout.addWidget(self.footer)
        self.drops = DropFiles(self, "Drop to train on these files", self._services, self._usable_files, self._take_files)

    @staticmethod
    def _scroll(inside: QWidget) -> QScrollArea:
        scroll = QScrollArea(widgetResizable=True, frameShape=QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        BuildPanel._fill(scroll, inside)
        return scroll

    @staticmethod
    def _fill(scroll: QScrollArea, *inside: QWidget) -> None:
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(LARGE, MEDIUM, LARGE, LARGE)
        column.setSpacing(LARGE - SMALL)
        for widget in inside:
            column.addWidget(widget)
        column.addStretch(1)
        old = scroll.takeWidget()
        scroll.setWidget(content)
        if old is not None:
            old.deleteLater()

    def _connect(self) -> None:
        services, bus = self._services, self._services.bus
        bus.engine_ready.connect(self._on_engine)
        bus.engine_failed.connect(self._on_engine_failed)
        bus.build_requested.connect(self._on_asked)
        bus.job_started.connect(self.refresh)
        bus.job_finished.connect(self.refresh)
        bus.model_changed.connect(self._on_model)
        services.actions.bind("build.start", self._start_by_key)
        self.start_button.clicked.connect(self.start)
        self.pages.chosen.connect(self.show_page)
        self.result.use_wanted.connect(self._use)
        self.result.export_wanted.connect(self._export)
        self.result.resume_wanted.connect(self._resume)
        self.result.dismissed.connect(self.refresh)

    def showEvent(self, event: QShowEvent) -> None:
        self._make()
        super().showEvent(event)

    @Slot(object)
    def _on_engine(self, _session: object) -> None:
        if self.isVisible() or self._asked is not None:
            self._make()
        self.refresh()

    def _make(self) -> None:
        """Settings and run, once the engine is there and somebody looks: until then they would only take memory."""
        if self._setup is not None or self._services.session is None:
            return
        from ui.building.setup import Setup  # the engine's settings: importing them any earlier would import torch
        from ui.building.stage import Stage

        self._setup, self._stage = Setup(self._services), Stage(self._services.theme)
        self._fill(self._scrolls[0], self._setup)
        self._fill(self._scrolls[1], self.result, self._stage)
        self._setup.changed.connect(self.refresh)
        if self._asked is not None:
            self._take(self._asked)
        self.refresh()

    @Slot(object)
    def _on_engine_failed(self, failure: object) -> None:
        self._engine_failed = True
        self.waiting.setText("The engine did not load; the Log says why.")
        self.refresh()

    @property
    def setup(self) -> Setup:
        """The settings; there once the engine is."""
        self._make()
        assert self._setup is not None
        return self._setup

    @property
    def stage(self) -> Stage:
        """The run; there once the engine is."""
        self._make()
        assert self._stage is not None
        return self._stage

    @property
    def track(self) -> BuildTrack:
        """What is known of the run."""
        track: Any = self.run_card.track
        return track

    @Slot(object)
    def show_page(self, page: str) -> None:
        """Go to the settings or to the run."""
        self.pages.set_value(page)
        self.stack.setCurrentWidget(self._scrolls[1 if page == RUN else 0])
        self.refresh()

    # ---- asked from elsewhere ------------------------------------------------------------------------------------

    @Slot(object)
    def _on_asked(self, what: Any) -> None:
        """A preset's name, or an architecture a person toggled: show it here, ready to start."""
        self._services.bus.show_panel.emit("build")
        if self.run_card.job is not None:
            self._services.notify.info("A model is being trained; the settings take the new architecture when it is done.")
        if self._services.session is None or self.run_card.job is not None:
            self._asked = what
            return
        self._take(what)

    def _take(self, what: Any) -> None:
        self._asked = None
        self.show_page(SETTINGS)
        self.setup.take_preset(what) if isinstance(what, str) else self.setup.take_config(what)

    # ---- what is missing -----------------------------------------------------------------------------------------

    def missing(self) -> tuple[str, str]:
        """(words for the button, the reason) of what keeps a run from starting; two empty texts when nothing does."""
        if self._engine_failed:
            return "The engine did not load", "See the Log for the reason."
        if self._services.session is None:
            return "The engine is loading…", "This takes a few seconds after the start."
        problem = ("", "") if self._setup is None else self._setup.problem()
        return problem if problem != ("", "") else self._blocked()

    def _blocked(self) -> tuple[str, str]:
        blocker = self._services.jobs.blocker("train")
        if blocker is None:
            return "", ""
        return f"Wait for “{blocker.title}”", f"“{blocker.title}” is still running."

    @Slot()
    def refresh(self, _news: object = None) -> None:
        """Draw the footer as things are now."""
        running = self.run_card.job is not None
        words, self._reason = self.missing()
        ready = READY_PAIR if self._setup is not None and self._setup.pair else READY
        keys = self._services.actions["build.start"].keys
        settings = self.pages.value == SETTINGS
        self.start_button.setVisible(settings and not running)
        self.footer.setVisible(settings or running)
        self.line.setVisible(settings or running)
        self.start_button.setEnabled(not words)
        self.start_button.set_words(words or ready, self._reason or f"Train with the settings above ({keys}).")
        self.pages.buttons()[1].setEnabled(self._request is not None)
        blocked = self._blocked()[1]
        self.result.resume.setEnabled(not running and not blocked)
        actions = self._services.actions
        reason = "A run is going on." if running else self._reason
        if actions["build.start"].isEnabled() == bool(reason) or actions["build.start"].reason != reason:
            actions.allow("build.start", not reason, reason)

    # ---- the run -------------------------------------------------------------------------------------------------

    def _start_by_key(self) -> None:
        self._services.bus.show_panel.emit("build")
        self.start()

    @Slot()
    def start(self) -> None:
        """Start a run, or a pair of runs, with the settings shown, if nothing is missing."""
        if self.run_card.job is not None or self.missing() != ("", ""):
            return
        self.setup.remember()
        self._name = self.setup.architecture.name
        self._run(self.setup.fresh_request(), self.setup.facts())

    def _run(self, request: Any, facts: str = "", resumed: bool = False) -> None:
        from ui.building.track import BuildTrack
        from workbench.requests import PairRequest

        pair, engine = isinstance(request, PairRequest), self._services.engine
        try:
            job = self._services.jobs.start(
                f"{self._name} from scratch{', A and B' if pair else ''}",
                partial(engine.pretrain_pair if pair else engine.pretrain, request),
                "train",
                on_events=self._on_events,
                on_done=self._on_done,
                on_failed=self._on_failed,
                on_finished=self._on_finished,
            )
        except WorkbenchError as error:
            self._services.notify.exception(error, source="build")
            return
        train = request.a.train if pair else request.train
        self._request = request
        self.result.hide()
        self.stage.begin(request, self._name, facts or self.stage.facts.text(), resumed)
        self.run_card.follow(job, BuildTrack(guessed=train.max_minutes is not None))
        self.setup.set_locked(True)
        self.show_page(RUN)
        self.refresh()

    @Slot(object)
    def _resume(self, folder: Path) -> None:
        """Go on with the run that was stopped, with its own settings."""
        from dataclasses import replace

        if self._request is not None and self.run_card.job is None:
            self._run(replace(self._request, out=folder, resume=True), resumed=True)

    def _on_events(self, events: list[Event]) -> None:
        self.run_card.track.follow(events)
        self.stage.follow(events)

    def _on_done(self, result: Any) -> None:
        from ui.building.words import verdict

        job, track = self.run_card.job, self.track
        words = verdict(result.final or track.pair, result.steps, track.tokens, track.noise) if result.runs and result.steps else ""
        self.stage.say(words)
        asked = getattr(self._request, "a", self._request)
        self.result.show_result(result, track, job.elapsed if job is not None else 0.0, words, asked.model.causal)
        if track.typical_speed is not None:
            self.setup.take_speed(track.typical_speed)

    def _on_failed(self, failure: JobFailure) -> bool:
        self.result.show_failure(failure, self.track)
        return self.isVisible()  # else the message bar says it

    def _on_finished(self) -> None:
        had_focus = self.run_card.isAncestorOf(self.focusWidget()) if self.focusWidget() is not None else False
        self.run_card.leave()
        self.stage.end()
        self.setup.set_locked(False)
        self.show_page(RUN)
        self._scrolls[1].verticalScrollBar().setValue(0)
        if self._asked is not None:
            self._take(self._asked)
        self.refresh()
        if had_focus:
            target = self.result.generate if self.result.model is not None else self.pages.focus_button()
            target.setFocus(Qt.FocusReason.OtherFocusReason)

    # ---- the model -----------------------------------------------------------------------------------------------

    @Slot(object, str)
    def _use(self, path: Path, panel: str) -> None:
        """Load the model and go where it is used."""
        self._services.bus.open_model.emit(path)
        self._services.bus.show_panel.emit(panel)

    @Slot(object)
    def _export(self, path: Path) -> None:
        """The window's own export, for which the model must be loaded."""
        self._to_export = path
        if self._is_loaded(path):
            self._offer_export()
        else:
            self._services.bus.open_model.emit(path)

    @Slot(object)
    def _on_model(self, summary: object) -> None:
        if self._to_export is not None and self._is_loaded(self._to_export):
            QTimer.singleShot(0, self, self._offer_export)  # after everyone has heard of the model

    def _is_loaded(self, path: Path) -> bool:
        summary = getattr(self._services.session, "model", None)
        return summary is not None and path in (summary.path, summary.path.parent)  # a run stands for its model

    @Slot()
    def _offer_export(self) -> None:
        self._to_export = None
        self._services.actions[EXPORT].trigger()

    # ---- files dropped on it -------------------------------------------------------------------------------------

    def _usable_files(self, mime: QMimeData) -> list[str]:
        return [] if self._setup is None or self.run_card.job is not None else self._setup.dropped(mime)

    def _take_files(self, paths: list[str]) -> None:
        self.show_page(SETTINGS)
        self.setup.picker.take(paths)
