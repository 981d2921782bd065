"""Why INT8 skips the norms, as an experiment with switches. Imports the engine: to be made once it is there."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QFileDialog, QProgressBar, QVBoxLayout, QWidget

from ui.forms.form import ConfigForm
from ui.jobs.runner import Job
from ui.jobs.worker import JobFailure
from ui.quantizing.norm_ranges import NormRanges
from ui.quantizing.roundings_table import RoundingsTable, sentence
from ui.services import Services
from ui.theme import MEDIUM, SMALL
from ui.widgets.button import Button
from ui.widgets.columns import Columns
from ui.widgets.message import Message
from ui.widgets.text import Muted, line_of
from workbench.core.errors import WorkbenchError
from workbench.core.format import bytes_text, duration_text
from workbench.studies import STUDIES, StudyResult, write
from workbench.studies.norm_int8 import NormInt8Options

STUDY: Final = "norm-int8"
LANE: Final = "background"
WIDE: Final = 860
_EMPTY: Final = (
    "Nothing was measured yet. Run lets the loaded model, and a small one with LayerNorm, read a text once for every way to round; "
    "the table, the range of each norm's inputs and the verdict appear here."
)


class NormExperiment(QWidget):
    """Switches, Run and Stop, and what came of it. Has no scroll area of its own: whoever shows it decides what scrolls."""

    finished = Signal(object)
    """StudyResult."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self._job: Job | None = None
        self.result: StudyResult | None = None
        self.form = ConfigForm(NormInt8Options)
        self.form.changed.connect(self._refresh)
        self.run_button = Button("Run", "Measure every chosen rounding.", primary=True)
        self.run_button.clicked.connect(self.run_or_stop)
        self.save_button = Button("Save…", "Write the table, the answer and a figure into a folder.")
        self.save_button.clicked.connect(self.ask_save)
        self.status = Muted()
        self.bar = QProgressBar(textVisible=False)
        self.bar.setAccessibleName("Progress of the experiment")
        self.bar.setMaximumHeight(6)
        self.message = Message(services.theme)
        self.empty = Muted(_EMPTY)
        self.table = RoundingsTable()
        self.ranges: list[NormRanges] = []
        self.bytes = Muted()
        self.notes = Muted()
        self._build()
        services.bus.model_changed.connect(self._on_model)
        self._refresh()

    def _build(self) -> None:
        self.columns = Columns(WIDE, shares=(2, 5))
        left, right = self.columns.left, self.columns.right
        left.addWidget(self.form)
        left.addLayout(line_of(self.run_button, self.save_button, 1))
        left.addWidget(self.bar)
        left.addWidget(self.status)
        left.addStretch(1)
        self._charts = QVBoxLayout(spacing=MEDIUM)
        for part in (self.message, self.empty, self.table):
            right.addWidget(part)
        right.addLayout(self._charts)
        right.addWidget(self.bytes)
        right.addWidget(self.notes)
        right.addStretch(1)
        right.setSpacing(MEDIUM)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(MEDIUM + SMALL)
        page.addWidget(Muted(STUDIES[STUDY].help))
        page.addWidget(self.columns)
        page.addStretch(1)
        for part in (self.message, self.table, self.bytes, self.notes, self.bar):
            part.hide()

    # ---- the run -------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self._job is not None

    @Slot()
    def run_or_stop(self) -> None:
        """Begin, or stop what is running."""
        if self._job is not None:
            self._job.stop(save=False)
            self._refresh()
            return
        session = self._services.session
        if session is None or not self.run_button.isEnabled():
            return
        self.message.hide()
        try:
            self._job = self._services.jobs.start(
                STUDIES[STUDY].label,
                partial(session.study, STUDY, self.form.value),
                LANE,
                on_done=self._on_done,
                on_failed=self._on_failed,
                on_finished=self._on_finished,
            )
        except WorkbenchError as error:
            self._services.notify.exception(error, source="quantize")
            return
        self._job.changed.connect(self._follow)
        self._refresh()

    @Slot()
    def _follow(self) -> None:
        if self._job is None:
            return
        progress = self._job.progress
        words = "Stopping" if self._job.stopping else progress.message or self._job.state
        if progress.unit and progress.total:
            words += f", {progress.done:,.0f} of {progress.total:,.0f} {progress.unit}"
        if progress.eta_seconds is not None and not self._job.stopping:
            words += f", about {duration_text(progress.eta_seconds)} left"
        self.status.setText(words)
        self.bar.setRange(0, 1000 if progress.total else 0)
        if progress.total:
            self.bar.setValue(round(1000 * progress.done / progress.total))

    def _on_done(self, result: StudyResult | None) -> None:
        if result is not None:
            self.show_result(result)
            self.finished.emit(result)

    def _on_failed(self, failure: JobFailure) -> bool:
        self.message.say("error", failure.message, hint=failure.hint, details=failure.details)
        self.message.show()
        return failure.expected

    def _on_finished(self) -> None:
        stopped = self._job is not None and self._job.state == "Stopped"
        self._job = None
        self._refresh()
        if stopped:
            self.status.setText("Stopped.")

    @Slot(object)
    def _on_model(self, _summary: object) -> None:
        self._refresh()

    @Slot()
    def _refresh(self) -> None:
        """Buttons and words as things are now."""
        running = self._job is not None
        self.bar.setVisible(running)
        self.form.setEnabled(not running)
        self.save_button.setVisible(self.result is not None)
        self.save_button.setEnabled(not running)
        if running:
            assert self._job is not None
            self.run_button.set_words("Stop", "Stop at the next rounding; nothing is shown then.")
            self.run_button.setEnabled(not self._job.stopping)
            self._follow()
            return
        reason, note = self._hindrance()
        self.run_button.set_words(reason or "Run", note or "Measure every chosen rounding.")
        self.run_button.setEnabled(not reason)
        self.status.setText(note)

    def _hindrance(self) -> tuple[str, str]:
        """(what keeps it from running as a button's words, what a person should know before)."""
        options = self.form.value
        session = self._services.session
        if problems := self.form.problems:
            return "Choose what to round", str(problems[0])
        if session is None:
            return "The engine is loading", ""
        summary = session.model
        if summary is None and not options.contrast:
            return "Load a model", "There is no model to measure on. Load one, or switch the small model on."
        if summary is None:
            return "", "No model is loaded, so that the small model alone is measured."
        return "", f"Measures {summary.name}{' and the small model' if options.contrast else ''}; other work may go on meanwhile."

    # ---- what came of it -----------------------------------------------------------------------------------------

    def show_result(self, result: StudyResult) -> None:
        """Table, ranges and verdict."""
        self.result = result
        self.empty.hide()
        *evidence, conclusion = result.verdict.split("\n")
        self.message.say("info", conclusion, "\n".join(f"• {line}" for line in evidence))
        self.table.show_rows(result.rows)
        norms, sizes = result.tables[1].rows, result.tables[2].rows
        models = list(dict.fromkeys(str(row["model"]) for row in norms))
        while len(self.ranges) < len(models):
            self.ranges.append(NormRanges())
            self._charts.addWidget(self.ranges[-1])
        for number, chart in enumerate(self.ranges):
            chart.setVisible(number < len(models))
            if number < len(models):
                chart.show_rows(models[number], [row for row in norms if row["model"] == models[number]])
        self.bytes.setText(" ".join(self._saving(row) for row in sizes))
        self.notes.setText("\n".join(result.notes))
        for part in (self.message, self.table, self.bytes, self.notes):
            part.show()

    @staticmethod
    def _saving(row: Any) -> str:
        parts = f"{bytes_text(row['norm_bytes'])} of norm parameters ({row['norms']}) in {bytes_text(row['model_bytes'])}"
        return f"{sentence(row['model'])}: {parts}; int8 would save {bytes_text(row['saved'])}, {row['share']:.2g} %."

    @Slot()
    def ask_save(self) -> None:
        """Ask for a folder and write the answer there."""
        folder = QFileDialog.getExistingDirectory(self, "Save the experiment into a folder")
        if folder:
            self.save(Path(folder))

    def save(self, folder: Path) -> None:
        """Write the answer as files."""
        if self.result is None:
            return
        try:
            paths = write(self.result, folder)
        except (WorkbenchError, OSError) as error:
            self._services.notify.exception(error, source="quantize")
            return
        self._services.notify.info(f"{len(paths)} files were written into {folder}.", source="quantize")
