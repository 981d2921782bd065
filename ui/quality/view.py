"""Caches and weights held against the exact ones: what to compare, on how much text, and what came of it. Imports the engine."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import Slot
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from ui.caching.named import OFF, OTHER, name_of
from ui.forms.form import ConfigForm
from ui.jobs.line import JobLine
from ui.quality.table import QualityTable, rows_csv, rows_markdown
from ui.services import Services
from ui.theme import MEDIUM, SMALL
from ui.widgets.button import Button
from ui.widgets.columns import Columns
from ui.widgets.labels import MutedLabel
from ui.widgets.text import Muted
from ui.widgets.toggle import TickBox
from workbench.caches import CACHE_PRESETS, CacheConfig
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event
from workbench.core.fields import to_dict
from workbench.core.store import write_text
from workbench.quality import LABELS, QualityConfig, QualityEvent, QualityReport, QualityRequest, QualityRow, QualitySide
from workbench.quantization import SCHEMES, QuantizationConfig

LANE: Final = "background"
WIDE: Final = 700
_HELP: Final = (
    "Lets the model read a text through each cache, or with each kind of weights, and holds every prediction against the exact ones on the "
    "same tokens. Every query reads the cache as decoding would: a prompt that is merely read never sees its own codes."
)
_EMPTY: Final = "Nothing was measured yet. Choose what to compare and press Measure; rows appear as they are known."


class QualityView(QWidget):
    """Has no scroll area of its own: whoever shows it decides what scrolls."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self._rows: dict[tuple[str, int], QualityRow] = {}
        self._text = ""
        self.form = ConfigForm(QualityConfig, compact=True)
        self.boxes: dict[str, TickBox] = {}
        self.line = JobLine(
            services, "Measure", "Read the text once for each setting that is checked.",
            stop_tip="What was read is kept, and not read again.", stopped="Stopped; Measure goes on with what is missing.",
        )  # fmt: skip
        self.run_button, self.status, self.message = self.line.button, self.line.status, self.line.message
        self.copy_button = Button("Copy table", "Put the table on the clipboard, as Markdown.")
        self.save_button = Button("Save…", "Write every figure into a CSV file.")
        self.command_button = Button("Copy command", "The same measurement of the first setting, for the command line.")
        self.empty = Muted(_EMPTY)
        self.table = QualityTable()
        self.notes = Muted("\n".join(f"{label.capitalize()}: {text}" for label, text in LABELS.items()))
        self._build()
        self._connect()
        self.refresh()

    def _build(self) -> None:
        self.columns = Columns(WIDE, shares=(1, 1))
        self.columns.left.addWidget(self.form)
        self.columns.left.addStretch(1)
        self.columns.right.addWidget(MutedLabel("What is compared"))
        for name, preset in CACHE_PRESETS.items():
            if name != "exact":
                self._add_box(name, f"Cache: {preset.label}", preset.help, checked=True)
        self._add_box(OTHER, "Cache: as the chat has it", "The cache that is set for the chat, where it is none of those above.")
        for entry in SCHEMES:
            self._add_box(f"weights.{entry.name}", f"Weights: {entry.label}", entry.help)
        self._add_box("weights", "Weights: as quantized now", "With the modules that are checked on the Quantize page.")
        self.columns.right.setSpacing(SMALL)
        self.columns.right.addStretch(1)
        page = QVBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(MEDIUM)
        page.addWidget(Muted(_HELP))
        page.addWidget(self.columns)
        for button in (self.command_button, self.copy_button, self.save_button):
            self.line.buttons.addWidget(button)
        for part in (self.line, self.empty, self.table, self.notes):
            page.addWidget(part)
        page.addStretch(1)
        for part in (self.table, self.notes):
            part.hide()

    def _add_box(self, name: str, label: str, tip: str, checked: bool = False) -> None:
        box = self.boxes[name] = TickBox(label)
        box.setToolTip(tip)
        box.setChecked(checked)
        box.toggled.connect(self.refresh)
        self.columns.right.addWidget(box)

    def _connect(self) -> None:
        self.form.changed.connect(self.refresh)
        self.line.wanted.connect(self.run)
        self.line.changed.connect(self.refresh)
        self.copy_button.clicked.connect(self._copy)
        self.save_button.clicked.connect(self._ask_where)
        self.command_button.clicked.connect(self._copy_command)
        self._services.bus.model_changed.connect(self._on_model)
        self._services.runtime.changed.connect(self.refresh)

    # ---- what is compared --------------------------------------------------------------------------------------------

    @property
    def _session(self) -> Any:
        """The session when it has a model; else None."""
        session = self._services.session
        return session if session is not None and session.model is not None else None

    def ask_about_what_is_in_use(self) -> None:
        """Check what the chat uses now, and nothing else."""
        self.refresh()
        for name, box in self.boxes.items():
            box.setChecked(not box.isHidden() and name in (OTHER, "weights", name_of(self._services.runtime.cache)))

    def sides(self) -> tuple[QualitySide, ...]:
        """Everything that is checked."""
        found = []
        for name, box in self.boxes.items():
            if box.isHidden() or not box.isChecked():
                continue
            label = box.text().partition(": ")[2]
            if name in CACHE_PRESETS:
                found.append(QualitySide(name=label, cache=CACHE_PRESETS[name].config))
            elif name == OTHER:
                found.append(QualitySide(name="The chat's cache", cache=self._services.runtime.cache))
            elif name == "weights":
                found.append(QualitySide(name="Weights in use", weights=self._session.quantization_config))
            else:
                scheme = SCHEMES.choose(name.removeprefix("weights."))
                found.append(QualitySide(name=label, weights=QuantizationConfig(scheme=scheme)))
        return tuple(found)

    # ---- the run -----------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        return self.line.running

    @Slot()
    def run(self) -> None:
        """Begin, or go on with what was stopped."""
        if self._hindrance():
            return
        self._rows = {}
        request = QualityRequest(sides=self.sides(), config=self.form.value, folder=self._session.home / "quality")
        self.line.start("Measuring quality", partial(self._session.quality, request), LANE, self._on_done, self._on_events)

    def _on_events(self, events: list[Event]) -> None:
        rows = [event.row for event in events if isinstance(event, QualityEvent)]
        for row in rows:
            self._rows[row.side, row.context] = row
        if rows:
            self._show_rows()

    def _on_done(self, report: QualityReport) -> None:
        self._text = report.text
        for row in report.rows:
            self._rows[row.side, row.context] = row
        self._show_rows()

    def _show_rows(self) -> None:
        self.table.show_rows(sorted(self._rows.values(), key=lambda row: row.context))
        for part in (self.table, self.notes):
            part.setVisible(bool(self._rows))
        self.empty.setVisible(not self._rows)

    # ---- as things are -----------------------------------------------------------------------------------------------

    @Slot(object)
    def _on_model(self, _summary: object) -> None:
        self.refresh()

    @Slot()
    def refresh(self) -> None:
        """Boxes, buttons and words as things are now."""
        session, running = self._session, self.line.running
        cache = self._services.runtime.cache
        self.boxes[OTHER].setVisible(name_of(cache) == OTHER)
        self.boxes["weights"].setVisible(session is not None and session.quantization_config is not None)
        assert OFF not in self.boxes
        for part in (self.form, *self.boxes.values()):
            part.setEnabled(not running)
        for button in (self.copy_button, self.save_button):
            button.setEnabled(bool(self._rows) and not running)
        self.command_button.setEnabled(session is not None and bool(self.sides()))
        reason = self._hindrance()
        self.line.show_ready(reason, "" if reason else self._forecast())

    def _hindrance(self) -> str:
        session, problems = self._session, self.form.problems
        if self._services.session is None:
            return "The engine is loading"
        if session is None:
            return "Load a model first"
        if problems:
            return str(problems[0])
        return "" if self.sides() else "Check something to compare"

    def _forecast(self) -> str:
        config: QualityConfig = self.form.value
        texts = sum(-(-config.tokens // (n - 1)) + 4 * config.retrieval for n in config.contexts)
        return f"Reads {texts} texts {2 + len(self.sides())} times each. What was read before with the same settings is not read again."

    # ---- taken along -------------------------------------------------------------------------------------------------

    @Slot()
    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(rows_markdown(self.table.rows))

    @Slot()
    def _copy_command(self) -> None:
        sides = self.sides()
        if sides and self._session is not None:
            QGuiApplication.clipboard().setText(command(self._session.model.name, sides[0], self.form.value))

    @Slot()
    def _ask_where(self) -> None:
        dialog = QFileDialog(self.window(), "Save the figures", "quality.csv", "Tables (*.csv)")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.fileSelected.connect(self.save)
        dialog.open()

    @Slot(str)
    def save(self, path: str) -> None:
        """Write every figure as CSV; an error is told in the page."""
        try:
            write_text(Path(path), rows_csv(self.table.rows))
        except WorkbenchError as error:
            self.line.say_error(error.message, error.hint)


def command(model: str, side: QualitySide, config: QualityConfig) -> str:
    """`score --compare` of one side at the longest context."""
    words = ["python", "-m", "workbench", "score", model, config.text or "TEXT.txt", "--compare", "--window", str(max(config.contexts))]
    name = name_of(side.cache)
    if side.weights is not None:
        words += ["--quantize", side.weights.scheme.kind]
    elif name != OTHER:
        words += ["--cache", name]
    else:
        words += ["--cache", "exact", *(part for change in _changes(side.cache) for part in ("--cache-set", change))]
    return shlex.join(words)


def _changes(cache: CacheConfig) -> list[str]:
    """Every setting that is not the default, as `--cache-set` takes it."""
    plain, found = to_dict(CacheConfig()), []
    for name, value in to_dict(cache).items():
        if value == plain[name]:
            continue
        if not isinstance(value, dict):
            found.append(f"{name}={','.join(map(str, value)) if isinstance(value, (list, tuple)) else value}")
            continue
        found.append(f"{name}={value['kind']}")
        found += [f"{name}.{option}={chosen}" for option, chosen in value.items() if option != "kind" and chosen is not None]
    return found
