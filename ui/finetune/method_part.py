"""Method and numbers: the adapter with the scale that follows from it, what it trains, and the few numbers of a run that matter."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

from PySide6.QtCore import QEvent, Signal, Slot
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from ui.finetune.check import Priced
from ui.finetune.targets import TargetsEditor
from ui.forms.form import ConfigForm
from ui.forms.help import field_html
from ui.forms.row import FieldRow
from ui.theme import SMALL
from ui.training.look_inside import FIELD as LOOK
from ui.training.look_inside import LookInside
from ui.widgets.section import CollapsibleSection
from ui.widgets.segmented import SegmentedControl
from ui.widgets.text import Muted, decimal, line_of, together, wrapping
from ui.widgets.tones import colours_of
from workbench.adapters import ADAPTERS, LoraConfig
from workbench.adapters.base import adapter_type
from workbench.adapters.counts import TrainableCounts
from workbench.core.errors import WorkbenchError
from workbench.core.fields import Problem, describe, info_of
from workbench.core.format import bytes_text
from workbench.core.registry import Entry
from workbench.data import DataConfig
from workbench.training import TrainConfig

ADAPTER_FIELDS: Final = ("method", "r", "lora_alpha")
WHAT: Final = (
    (False, "An adapter", "Small matrices beside the weights (LoRA): fast, small on disk, and can be taken off again."),
    (True, "All weights", "A copy of the whole model: can change more, takes more memory and time, and becomes a model of its own."),
)
RATES: Final = {False: TrainConfig().learning_rate, True: 5e-5}
COPIES: Final = 5
"""Of all weights: themselves, their gradients, two means of these, and the last good state."""
TARGETS_FIELD: Final = "target_modules"
RUN_FIELDS: Final = ("max_steps", "num_train_epochs", "learning_rate", "per_device_train_batch_size", "max_length")
_FACTOR: Final = re.compile(r"\((α[^)]*)\)")


def formula(entry: Entry[Any]) -> str:
    """The factor in front of the adapter as its kind's equation writes it: α/r."""
    found = _FACTOR.search(entry.equation)
    return found.group(1) if found else "factor"


def scale_words(lora: LoraConfig) -> str:
    """ "scale α/√r = 8.0"."""
    return f"scale {formula(ADAPTERS[lora.method])} = {decimal(lora.scale())}"


def comparison(lora: LoraConfig) -> str:
    """What each method would make of this rank and alpha."""
    scales = [together(f"{e.label} {formula(e)} = {decimal(adapter_type(e.name).scale_rule(lora.lora_alpha, lora.r))}") for e in ADAPTERS]
    return f"With r = {lora.r} and α = {decimal(lora.lora_alpha).removesuffix('.0')}:\n{' · '.join(scales)}"


def counts_words(counts: TrainableCounts) -> str:
    """Both conventions: share of the base, and PEFT's, whose total has the adapter in it."""
    return (
        f"{counts.trainable:,} parameters are trained: {together(f'{counts.percent_of_base:.2f} %')} of the model, "
        f"or {together(f'{counts.percent_of_all:.2f} %')} as PEFT counts (adapter included in the total)."
    )


def full_words(parameters: int) -> str:
    """All of a copy, and what that takes."""
    need = together(bytes_text(COPIES * 4 * parameters))
    return (
        f"All {parameters:,} parameters of a copy are trained, which takes about {need} (estimated); "
        "the model in use stays as it is, and the copy becomes a model of its own."
    )


def length_words(train: TrainConfig, sequences: int, held_out: float) -> str:
    """What the steps come to in sequences and passes over the data, as far as these are known."""
    batch = train.effective_batch
    each = f"{batch} sequence{'s' if batch != 1 else ''} per step"
    training = max(1, round(sequences * (1 - held_out)))
    if train.max_minutes is not None:
        return f"As many steps as fit into {train.max_minutes:g} min, {each}."
    if train.max_steps is None:
        steps = f", about {max(1, round(train.num_train_epochs * training / batch)):,} steps" if sequences else ""
        return f"{decimal(train.num_train_epochs).removesuffix('.0')} passes over the data{steps}, {each}."
    total = train.max_steps * batch
    passes = f", {decimal(total / training)} passes over the data" if sequences else ""
    return f"{train.max_steps:,} × {batch} = {total:,} sequences{passes}."


def _headed(config_type: type, value: Any, exclude: set[str]) -> ConfigForm:
    """A form with a header per group, open; also when there is one group only."""
    groups = [*dict.fromkeys(i.group for i in describe(config_type) if i.name not in exclude), ""]
    form = ConfigForm(config_type, value, groups=groups, exclude=exclude)
    for section in form.sections.values():
        section.set_expanded(True)
    return form


class MethodPart(QWidget):
    """Two small forms with what matters, everything else under “More settings”. `changed` comes only from a person's hand."""

    changed = Signal()

    def __init__(self, lora: LoraConfig, train: TrainConfig, data: DataConfig, full: bool = False) -> None:
        super().__init__()
        self.what = SegmentedControl(WHAT)
        self.what.set_group_name("What is trained")
        self.what.set_value(full)
        self.what.chosen.connect(self._choose)
        self._priced: Priced | None = None
        self._sequences = 0
        self.layer_problem = ""
        hidden = {i.name for i in describe(LoraConfig)} - set(ADAPTER_FIELDS)
        self.adapter = ConfigForm(LoraConfig, lora, compact=True, exclude=hidden)
        self.scale = wrapping(name="scale")
        bold = QFont(self.scale.font())
        bold.setWeight(QFont.Weight.DemiBold)
        self.scale.setFont(bold)
        self.note = Muted()
        self.targets = FieldRow(TARGETS_FIELD, TargetsEditor(info_of(LoraConfig, TARGETS_FIELD)), compact=True)
        self.targets.editor.edited.connect(self._on_edited)
        self.targets.editor.set_value(lora.target_modules)
        self.counts = Muted()
        self.run = ConfigForm(TrainConfig, train, compact=True, exclude={i.name for i in describe(TrainConfig)} - set(RUN_FIELDS))
        self.length = Muted()
        self.more_adapter = _headed(LoraConfig, lora, {*ADAPTER_FIELDS, TARGETS_FIELD})
        self.look = LookInside(train.probe_every)
        self.look.changed.connect(self._on_edited)
        self.more_run = _headed(TrainConfig, train, {*RUN_FIELDS, LOOK})
        self.more_data = _headed(DataConfig, data, {"sources"})
        self.advanced = CollapsibleSection("More settings", expanded=False, quiet=True)
        self.forms = (self.adapter, self.run, self.more_adapter, self.more_run, self.more_data)
        self._build()
        for form in self.forms:
            form.changed.connect(self._on_edited)
            form.problems_changed.connect(self._on_problems)
        self._show()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL)
        indented = (self.scale, self.note, self.counts, self.length)
        for label in indented:
            label.setIndent(0)
            label.setContentsMargins(12, 0, 0, 0)  # where the labels of the forms begin, behind their marks
        line = line_of(QLabel("Train"), self.what, 1)
        line.setContentsMargins(12, 0, 0, 0)
        layout.addLayout(line)
        for widget in (self.adapter, self.scale, self.note, self.targets, self.counts, self.run, self.length, self.look, self.advanced):
            layout.addWidget(widget)
        for part in (self.more_data, self.more_adapter, self.more_run):
            self.advanced.body_layout.addWidget(part)

    # ---- values --------------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """All weights of a copy are trained, not an adapter."""
        return bool(self.what.value)

    @property
    def lora(self) -> LoraConfig:
        """The adapter as shown."""
        shown = {n: getattr(self.more_adapter.value, n) for n in self.more_adapter.rows}
        self.targets.editor.commit()
        return replace(self.adapter.value, target_modules=self.targets.editor.value(), **shown)

    @property
    def train(self) -> TrainConfig:
        """The run as shown."""
        shown = {n: getattr(self.more_run.value, n) for n in self.more_run.rows}
        return replace(self.run.value, **shown, probe_every=self.look.value)

    def data(self, sources: tuple[str, ...]) -> DataConfig:
        """How `sources` are to be read."""
        return replace(self.more_data.value, sources=sources)

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with any field; empty when all are usable."""
        forms = (self.run, self.more_run, self.more_data) if self.full else self.forms
        found = [p for form in forms for p in form.problems]
        found += [Problem(TARGETS_FIELD, self.layer_problem)] if self.layer_problem else []
        return [*found, Problem(LOOK, self.look.problem)] if self.look.problem else found

    def set_priced(self, priced: Priced | None, sequences: int) -> None:
        """What the loaded model is made of, and how many sequences the data have (0: not known)."""
        if (priced, sequences) != (self._priced, self._sequences):
            self._priced, self._sequences = priced, sequences
            self._show()

    def set_locked(self, locked: bool) -> None:
        """Nothing can be changed while a run uses it."""
        for widget in (*self.forms, self.targets, self.look, self.what):
            widget.setEnabled(not locked)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._show()

    # ---- what follows from them ----------------------------------------------------------------------------------

    @Slot(object)
    def _choose(self, full: bool) -> None:
        """Adapters want a larger rate than all weights; one that a person set stays."""
        if self.run.value.learning_rate == RATES[not full]:
            self.run.set_value(replace(self.run.value, learning_rate=RATES[full]))
        self._on_edited()

    @Slot()
    def _on_edited(self, _value: object = None) -> None:
        self._show()
        self.changed.emit()

    @Slot(object)
    def _on_problems(self, _problems: object) -> None:
        self.changed.emit()

    def _show(self) -> None:
        lora, train = self.lora, self.train
        usable = not self.adapter.problems
        self.scale.setText(scale_words(lora) if usable else "scale: correct the numbers above")
        self.note.setText(comparison(lora) if usable else "")
        for widget in (self.adapter, self.scale, self.targets, self.more_adapter):
            widget.setVisible(not self.full)
        self.note.setVisible(usable and not self.full)
        self.run.rows["num_train_epochs"].setVisible(train.max_steps is None)
        self.length.setText(length_words(train, self._sequences, self.more_data.value.validation_fraction))
        self.length.setVisible(not self.run.problems)
        self._show_layers(lora, usable)

    def _show_layers(self, lora: LoraConfig, usable: bool) -> None:
        words, self.layer_problem = "Load a model to see how much is trained.", ""
        if self.full:
            words = words if self._priced is None else full_words(self._priced.parameters)
        elif not lora.target_modules:
            self.layer_problem = "No layer is chosen. Choose all linear layers, or name some."
        elif self._priced is not None and usable:
            try:
                words = counts_words(self._priced.trainable(lora))
            except WorkbenchError as error:
                self.layer_problem = str(error)
        row = self.targets
        row.set_problem(self.layer_problem, lora.target_modules != row.info.default)
        html = field_html(row.info, lora.target_modules, problem=self.layer_problem)
        row.setToolTip(html)
        row.setWhatsThis(html)
        row.editor.describe(row.info.label, f"{self.layer_problem} {row.info.help}".strip())
        self.counts.setText(self.layer_problem or words)
        c = colours_of(self)
        self.counts.setStyleSheet(f"color: {c.error if self.layer_problem else c.muted};")
