"""The editor of a `choice` field: which kind, and below it the options of that kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtWidgets import QVBoxLayout, QWidget

from ui.forms.editors import Editor
from ui.forms.help import entry_html
from ui.widgets.combo import OptionCombo
from workbench.core.fields import FieldInfo, describe
from workbench.core.registry import Choice

if TYPE_CHECKING:
    from ui.forms.form import ConfigForm

MakeForm = Callable[[type, Any], "ConfigForm"]


class ChoiceEditor(Editor):
    """A drop-down of kinds. `nested` holds the options of the kind shown; each kind's options are remembered while the form lives."""

    swapped = Signal()
    """Another kind's options are shown: tab order and search must look again."""

    def __init__(self, info: FieldInfo, make_form: MakeForm) -> None:
        super().__init__(info)
        assert info.registry is not None
        self.registry = info.registry
        self._make_form = make_form
        self._kind = ""
        self._baseline: Any = None
        self._forms: dict[str, ConfigForm] = {}
        self.combo = OptionCombo()
        for entry in self.registry:
            self.combo.addItem(entry.label, entry.name)
            self.combo.setItemData(self.combo.count() - 1, f"<div>{entry_html(entry)}</div>", Qt.ItemDataRole.ToolTipRole)
        self.combo.activated.connect(self._picked)
        self._row.addWidget(self.combo)
        self.nested = QWidget(self)  # with a parent from the start: else it flashes up as a window of its own
        self._stack = QVBoxLayout(self.nested)
        self._stack.setContentsMargins(0, 0, 0, 0)
        self.nested.hide()

    @property
    def form(self) -> ConfigForm | None:
        """The form of the shown kind's options; None for a kind without options."""
        return self._forms.get(self._kind)

    def value(self) -> Choice[Any]:
        form = self.form
        options = form.value if form is not None else self.registry[self._kind].options()
        return Choice(self.registry, self._kind, options)

    def set_value(self, value: Any) -> None:
        assert isinstance(value, Choice)
        self._show(value.kind, value.options)

    def set_baseline(self, choice: Choice[Any] | None) -> None:
        """Options are told to be changed against those of `choice`; against their defaults for every other kind."""
        self._baseline = choice
        for kind, form in self._forms.items():
            form.set_baseline(choice.options if choice is not None and choice.kind == kind else None)

    def commit(self) -> None:
        if self.form is not None:
            self.form.commit()

    def stops(self) -> list[QWidget]:
        return [self.combo, *(self.form.stops() if self.form is not None else [])]

    def describe(self, name: str, description: str) -> None:
        self.combo.setAccessibleName(name)
        self.combo.setAccessibleDescription(description)

    def _show(self, kind: str, options: Any = None) -> None:
        """`options` None: those the kind had when it was last shown, or its defaults."""
        old = self.form
        changed = kind != self._kind
        self._kind = kind
        self.combo.setCurrentIndex(self.combo.findData(kind))
        entry = self.registry[kind]
        if describe(entry.options) and kind not in self._forms:
            form = self._make_form(entry.options, options)
            form.changed.connect(self._options_changed)
            if self._baseline is not None and self._baseline.kind == kind:
                form.set_baseline(self._baseline.options)
            self._forms[kind] = form
            self._stack.addWidget(form)
        elif self.form is not None and options is not None:
            self.form.set_value(options)
        if changed:
            if old is not None:
                old.hide()
            if self.form is not None:
                self.form.show()
            self.nested.setVisible(self.form is not None)
            self.swapped.emit()

    @Slot()
    def _picked(self) -> None:
        kind = self.combo.currentData()
        if kind != self._kind:
            self.commit()
            self._show(kind)
            self.edited.emit()

    @Slot(object)
    def _options_changed(self, _options: object) -> None:
        self.edited.emit()
