"""How long to train and with which numbers: minutes or steps, the few that matter, everything else folded away."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from PySide6.QtCore import Signal, Slot
from PySide6.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from ui.building.remembered import MINUTES, first_request
from ui.building.words import length_words
from ui.forms import ConfigForm
from ui.forms.editors import OptionalNumberEditor
from ui.theme import SMALL
from ui.training.look_inside import FIELD as LOOK
from ui.training.look_inside import LookInside
from ui.widgets.section import CollapsibleSection
from ui.widgets.segmented import SegmentedControl
from ui.widgets.text import Muted
from workbench.core.fields import Problem, describe
from workbench.data import DataConfig
from workbench.training import PretrainConfig

BUDGETS: Final = ("max_minutes", "max_steps")
EPOCHS: Final = "num_train_epochs"
MAIN: Final = (*BUDGETS, "learning_rate", "per_device_train_batch_size", "max_length", "seed")
DATA_FIELDS: Final = ("format", "roles", "validation_fraction", "max_rows")
"""What of reading data matters to a run from scratch: everything is learnt, nothing is too long."""


def all_but(config_type: type, names: tuple[str, ...]) -> set[str]:
    """Every field but these."""
    return {i.name for i in describe(config_type)} - set(names)


class LengthPart(QWidget):
    """Budget and numbers. `changed` comes only from a person's hand."""

    changed = Signal()

    def __init__(self, train: PretrainConfig, data: DataConfig) -> None:
        super().__init__()
        self._minutes, self._steps = train.max_minutes or MINUTES, train.max_steps or PretrainConfig().max_steps
        self.budget = SegmentedControl([
            ("max_minutes", "Minutes", "Train for a time: as many steps as fit into it, and the learning rate follows the clock."),
            ("max_steps", "Steps", "Train for a number of updates, however long they take."),
        ])  # fmt: skip
        self.budget.set_group_name("Length of the run")
        self.budget.chosen.connect(self._choose_budget)
        self.main = ConfigForm(PretrainConfig, train, compact=True, exclude=all_but(PretrainConfig, MAIN))
        for name in BUDGETS:
            editor = self.main.editor(name)
            assert isinstance(editor, OptionalNumberEditor)
            editor.by_hand.hide()  # which of the two counts is chosen above
        self.main.set_baseline(first_request().train)
        self.length = Muted()
        self.length.setContentsMargins(12, 0, 0, 0)
        self.look = LookInside(train.probe_every)
        self.more_train = ConfigForm(PretrainConfig, train, exclude={*MAIN, LOOK, EPOCHS})
        self.more_data = ConfigForm(DataConfig, data, exclude=all_but(DataConfig, DATA_FIELDS))
        self.more = CollapsibleSection("More settings", expanded=False, quiet=True)
        self.forms = (self.main, self.more_data, self.more_train)
        self._build()
        for form in self.forms:
            form.changed.connect(self._edited)
            form.problems_changed.connect(self._told)
        self.look.changed.connect(self._edited)
        self._show()

    def _build(self) -> None:
        line = QHBoxLayout(spacing=SMALL)
        label = QLabel("Train for")
        label.setBuddy(self.budget.buttons()[0])
        line.addSpacing(12)
        line.addWidget(label)
        line.addWidget(self.budget)
        line.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL)
        layout.addLayout(line)
        for widget in (self.main, self.length, self.look, self.more):
            layout.addWidget(widget)
        for form in (self.more_data, self.more_train):
            for section in form.sections.values():
                section.set_expanded(True)
            self.more.body_layout.addWidget(form)

    # ---- values --------------------------------------------------------------------------------------------------

    @property
    def train(self) -> PretrainConfig:
        """The run as shown."""
        rest = {n: getattr(self.more_train.value, n) for n in self.more_train.rows}
        return replace(self.main.value, **rest, probe_every=self.look.value)

    def data(self, sources: tuple[str, ...]) -> DataConfig:
        """How `sources` are to be read."""
        return replace(self.more_data.value, sources=sources)

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with any field; empty when all are usable. Whether there are sources is asked elsewhere."""
        found = [p for form in self.forms for p in form.problems if p.field in form.rows]
        return [*found, Problem(LOOK, self.look.problem)] if self.look.problem else found

    def set_value(self, train: PretrainConfig, data: DataConfig) -> None:
        """Show other settings; no signal."""
        self.main.set_value(train)
        self.more_train.set_value(train)
        self.more_data.set_value(data)
        self.look.set_value(train.probe_every)
        self._show()

    def set_locked(self, locked: bool) -> None:
        """Nothing can be changed while a run uses it."""
        for widget in (*self.forms, self.budget, self.look):
            widget.setEnabled(not locked)

    def show_length(self, tokens: int, seconds: float | None) -> None:
        """What the budget comes to, as far as the data and the machine are known."""
        self.length.setText(length_words(self.train, tokens, seconds) if not self.problems else "")
        self.length.setVisible(bool(self.length.text()))

    # ---- changes -------------------------------------------------------------------------------------------------

    @Slot(object)
    def _choose_budget(self, name: str) -> None:
        now = self.main.value
        self._minutes, self._steps = now.max_minutes or self._minutes, now.max_steps or self._steps
        by_time = name == "max_minutes"
        new = replace(now, max_minutes=self._minutes if by_time else None, max_steps=now.max_steps or self._steps)
        if new != now:
            self.main.set_value(new)
            self._edited()

    @Slot()
    def _edited(self, _value: object = None) -> None:
        self._show()
        self.changed.emit()

    @Slot(object)
    def _told(self, _problems: object) -> None:
        self.changed.emit()

    def _show(self) -> None:
        value: Any = self.main.value
        budget = "max_steps" if value.max_minutes is None else "max_minutes"
        self.budget.set_value(budget)
        for name in BUDGETS:
            self.main.rows[name].setVisible(name == budget)
