"""The weights of the loaded model in few bits: the scheme, the modules, what it saves; done and undone. Imports the engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from PySide6.QtCore import Signal, Slot
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QLabel, QLineEdit, QVBoxLayout, QWidget

from ui.forms.form import ConfigForm
from ui.jobs.line import JobLine
from ui.quantizing.choice import command, with_chosen
from ui.quantizing.tree import ModuleTree
from ui.services import Services
from ui.theme import MEDIUM, SMALL, monospace
from ui.widgets.button import Button
from ui.widgets.columns import Columns
from ui.widgets.text import Muted, line_of, wrapping
from workbench.core.errors import WorkbenchError
from workbench.core.fields import Problem
from workbench.core.format import bytes_text
from workbench.quantization import SKIPPED, QuantizationConfig, QuantizationPlan, QuantizationReport

LANE: Final = "model"
WIDE: Final = 720
_EMPTY: Final = "Load a model to see what each of its modules takes, and to keep some of them in fewer bits."
_HELP: Final = (
    "Keeps the checked modules in few bits. The chat goes on with them at once: its next message is read again. The weights as they "
    "were loaded stay in their file, and one click brings them back."
)


class WeightsPage(QWidget):
    """The settings, the tree, and one button each to quantize, to put single modules back, and to go back altogether."""

    quality_wanted = Signal()

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self._plan: QuantizationPlan | None = None
        self.config = QuantizationConfig()
        self.form = ConfigForm(QuantizationConfig, exclude=("modules", "skip"), compact=True)
        self.saving = QLabel()
        self.saving.setObjectName("saving")
        self.told = wrapping()
        self.line = JobLine(services, "Quantize", "Keep the checked modules in few bits.", stop_tip="Leave the weights as they are.")
        self.quantize_button, self.message = self.line.button, self.line.message
        self.back_button = Button("Back to full precision", "All weights as they were loaded.")
        self.put_back_button = Button("Put selected back", "The selected modules in full precision again; the others stay as they are.")
        self.usual_button = Button("Usual modules", "Check all matrices but the embedding and the head; no norms.")
        self.quality_button = Button("Measure quality…", "What these weights do to the model's predictions.")
        self.empty = Muted(_EMPTY)
        self.tree = ModuleTree(services.theme)
        self.command = QLineEdit(readOnly=True)
        self.copy_button = Button("Copy", "Put the command on the clipboard.")
        self._build()
        self._connect()
        self._follow_model()

    def _build(self) -> None:
        self.columns = Columns(WIDE, shares=(2, 3))
        self.columns.left.addWidget(self.form)
        self.columns.left.addStretch(1)
        font = self.saving.font()
        font.setPointSizeF(font.pointSizeF() * 1.25)
        font.setWeight(font.Weight.DemiBold)
        self.saving.setFont(font)
        for part in (self.saving, self.told):
            self.columns.right.addWidget(part)
        self.line.buttons.insertWidget(1, self.back_button)
        self.columns.right.addWidget(self.line)
        self.columns.right.addStretch(1)
        self.columns.right.setSpacing(MEDIUM)
        self.command.setFont(monospace(self.command.font()))
        self.command.setAccessibleName("The same on the command line")
        self.command.setToolTip("The same on the command line.")
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(MEDIUM)
        page.addWidget(Muted(_HELP))
        page.addWidget(self.columns)
        page.addWidget(self.empty)
        self._below = QWidget()
        below = QVBoxLayout(self._below)
        below.setContentsMargins(0, SMALL, 0, 0)
        below.setSpacing(MEDIUM)
        below.addLayout(line_of(self.usual_button, self.put_back_button, 1, self.quality_button))
        below.addWidget(self.tree, 1)
        line = line_of(self.copy_button)
        line.insertWidget(0, self.command, 1)
        below.addLayout(line)
        page.addWidget(self._below, 1)
        page.addStretch(0)

    def _connect(self) -> None:
        bus = self._services.bus
        bus.model_changed.connect(self._on_model)
        bus.job_started.connect(self.refresh)
        bus.job_finished.connect(self.refresh)
        self.form.changed.connect(self._on_form)
        self.tree.chosen_changed.connect(self._on_chosen)
        self.tree.itemSelectionChanged.connect(self.refresh)
        self.line.wanted.connect(self.quantize)
        self.line.changed.connect(self._replan)
        self.back_button.clicked.connect(self.to_full_precision)
        self.put_back_button.clicked.connect(self.put_selected_back)
        self.usual_button.clicked.connect(self.choose_usual)
        self.quality_button.clicked.connect(self.quality_wanted)
        self.copy_button.clicked.connect(self._copy)

    # ---- what is there -----------------------------------------------------------------------------------------------

    @property
    def _session(self) -> Any:
        """The session when it has a model; else None."""
        session = self._services.session
        return session if session is not None and session.model is not None else None

    @property
    def running(self) -> bool:
        return self.line.running

    @Slot(object)
    def _on_model(self, _summary: object) -> None:
        self._follow_model()

    def _follow_model(self) -> None:
        """Show the model in use; its own settings where it was quantized with some."""
        session = self._session
        if session is not None and session.quantization_config is not None:
            self.config = session.quantization_config
        if self.form.value != self.config:
            self.form.set_value(self.config)
        self._replan()

    @Slot(object)
    def _on_form(self, config: QuantizationConfig) -> None:
        self.config = QuantizationConfig(scheme=config.scheme, modules=self.config.modules, skip=self.config.skip)
        self._replan()

    @Slot(object)
    def _on_chosen(self, chosen: frozenset[str]) -> None:
        if self._plan is not None:
            self.config = with_chosen(self.config, self._plan.rows, chosen)
            self._replan()

    @Slot()
    def choose_usual(self) -> None:
        """The modules that are quantized unless somebody says otherwise."""
        self.config = QuantizationConfig(scheme=self.config.scheme)
        self._replan()

    def _replan(self) -> None:
        session = self._session
        self._plan = None
        if session is not None and not self.form.problems:
            try:
                self._plan = session.plan_quantization(self.config)
            except WorkbenchError as error:
                self.line.say_error(error.message, error.hint)
        if self._plan is not None:
            now = session.quantization
            same = now is not None and session.quantization_config in (None, self.config)
            self.tree.show_plan(self._plan.rows, {row.name: row for row in now.rows} if now is not None and same else {})
            self.command.setText(command(session.model.name, self.config))
            self.command.setCursorPosition(0)
        self.refresh()

    # ---- the buttons -------------------------------------------------------------------------------------------------

    @Slot()
    def quantize(self) -> None:
        """Quantize as shown."""
        if self._hindrance() == "":
            self._start(self.config, "Quantizing the weights")

    @Slot()
    def to_full_precision(self) -> None:
        """The weights as they were loaded."""
        if not self.running and self._session is not None:
            self._start(None, "Back to full precision")

    @Slot()
    def put_selected_back(self) -> None:
        """The selected modules in full precision, at once; the others stay quantized."""
        if self._plan is None or self.running:
            return
        left = self.tree.chosen - self.tree.selected
        self.config = with_chosen(self.config, self._plan.rows, left)
        self._start(self.config if left else None, "Putting modules back")

    def _start(self, config: QuantizationConfig | None, title: str) -> None:
        self.line.start(title, partial(self._session.quantize, config), LANE, self._on_done)
        self.refresh()

    def _on_done(self, report: QuantizationReport | None) -> None:
        if report is not None:
            self._services.bus.model_changed.emit(self._session.model)

    @Slot()
    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.command.text())

    # ---- as things are now -------------------------------------------------------------------------------------------

    @Slot()
    def refresh(self) -> None:
        """Buttons and words."""
        session, running = self._session, self.line.running
        loaded = session is not None
        self.form.setEnabled(not running)
        self.empty.setVisible(not loaded)
        self._below.setVisible(loaded)
        self.tree.setEnabled(not running)
        for part in (self.saving, self.told):
            part.setVisible(loaded)
        report = session.quantization if loaded else None
        in_force = report is not None
        same = in_force and session.quantization_config == self.config
        self.back_button.setEnabled(in_force and session.quantization_config is not None and not running)
        self.quality_button.setEnabled(in_force and not running)
        put_back = in_force and bool(self.tree.selected & self.tree.chosen) and not running
        self.put_back_button.setEnabled(put_back)
        self.usual_button.setEnabled(not running and (self.config.skip, self.config.modules) != (SKIPPED, ("*",)))
        if running:
            return
        reason = self._hindrance()
        self.line.show_ready(reason or ("Quantized" if same else ""))
        if not reason and in_force and not same:
            self.quantize_button.set_words("Quantize anew", "Start from full precision again, with these settings.")
        self._tell(report if in_force and (same or session.quantization_config is None) else None)

    def _hindrance(self) -> str:
        """What keeps the model from being quantized as shown, in a button's words."""
        problems: list[Problem] = self.form.problems
        blocker = self._services.jobs.blocker(LANE)
        tests: tuple[tuple[bool, Callable[[], str]], ...] = (
            (self._services.session is None, lambda: "The engine is loading"),
            (self._session is None, lambda: "Load a model first"),
            (bool(problems), lambda: str(problems[0])),
            (self._plan is None or not self._plan.chosen, lambda: "Check a module"),
            (blocker is not None, lambda: f"Busy: {blocker.title}" if blocker is not None else ""),
            (self._saved_quantized(), lambda: "Its file is quantized"),
        )
        return next((words() for hindered, words in tests if hindered), "")

    def _saved_quantized(self) -> bool:
        """Whether the loaded file itself holds codes, so that there is nothing to start from."""
        session = self._session
        return session is not None and session.quantization is not None and session.quantization_config is None

    def _tell(self, report: QuantizationReport | None) -> None:
        """`report`: what is in use, where that is what is shown."""
        if self._plan is None:
            self.saving.setText("")
            self.told.setText("")
            return
        before, after = self._plan.bytes_before, self._plan.bytes_after
        if report is not None:
            after = report.bytes_after
        self.saving.setText(f"{bytes_text(before)} → {bytes_text(after)}")
        share = f"{before / after:.1f} × smaller"
        count = f"{len(self._plan.chosen)} of {len(self._plan.rows)} modules"
        if report is None:
            self.told.setText(f"As chosen: {share}, {count}. Not done yet; bytes are counted from the shapes.")
            return
        errors = [row.error for row in report.rows if row.error is not None]
        worst = max((row for row in report.rows if row.error is not None), key=lambda row: row.error or 0.0, default=None)
        moved = f" Weights moved by {sum(errors) / len(errors):.2%} on average" if errors else ""
        most = f", most in {worst.name} ({worst.error:.2%})." if worst is not None and worst.error is not None else ""
        self.told.setText(f"In use, measured: {share}, {count}.{moved}{most}")
