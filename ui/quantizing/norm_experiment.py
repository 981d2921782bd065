"""Why INT8 skips the norms, as an experiment with switches. Imports the engine: to be made once it is there."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from ui.forms.form import ConfigForm
from ui.jobs.line import JobLine
from ui.quantizing.norm_ranges import NormRanges
from ui.quantizing.roundings_table import RoundingsTable, sentence
from ui.services import Services
from ui.theme import MEDIUM, SMALL
from ui.widgets.button import Button
from ui.widgets.columns import Columns
from ui.widgets.message import Message
from ui.widgets.text import Muted
from workbench.core.errors import WorkbenchError
from workbench.core.format import bytes_text
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
        self.result: StudyResult | None = None
        self.form = ConfigForm(NormInt8Options)
        self.form.changed.connect(self._refresh)
        self.line = JobLine(services, "Run", "Measure every chosen rounding.", stop_tip="Stop at the next rounding; nothing is shown then.")
        self.run_button, self.status, self.bar = self.line.button, self.line.status, self.line.bar
        self.line.wanted.connect(self.run)
        self.line.changed.connect(self._refresh)
        self.save_button = Button("Save…", "Write the table, the answer and a figure into a folder.")
        self.save_button.clicked.connect(self.ask_save)
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
        self.line.buttons.insertWidget(1, self.save_button)
        left.addWidget(self.line)
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
        for part in (self.message, self.table, self.bytes, self.notes):
            part.hide()

    # ---- the run -------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self.line.running

    @Slot()
    def run(self) -> None:
        """Measure every chosen rounding."""
        session = self._services.session
        if session is not None and self.run_button.isEnabled():
            self.line.start(STUDIES[STUDY].label, partial(session.study, STUDY, self.form.value), LANE, self._on_done)

    def _on_done(self, result: StudyResult | None) -> None:
        if result is not None:
            self.show_result(result)
            self.finished.emit(result)

    @Slot(object)
    def _on_model(self, _summary: object) -> None:
        self._refresh()

    @Slot()
    def _refresh(self) -> None:
        """Buttons and words as things are now."""
        running = self.line.running
        self.form.setEnabled(not running)
        self.save_button.setVisible(self.result is not None)
        self.save_button.setEnabled(not running)
        self.line.show_ready(*self._hindrance())

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
