"""A variant to compare with: B is A with one or several toggles changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtWidgets import QLabel, QMenu, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from ui import icons
from ui.building.diff_table import DiffTable
from ui.building.words import value_text
from ui.forms import ConfigForm
from ui.theme import SMALL, Theme
from ui.widgets.section import CollapsibleSection
from ui.widgets.text import Muted, line_of
from ui.widgets.toggle import ToggleSwitch
from ui.widgets.tones import colours_of
from workbench.core.fields import FieldInfo, Problem, describe
from workbench.core.registry import Choice
from workbench.model import ModelConfig

SAME: Final = ("vocab_size", "causal")
"""What both runs of a pair must share: the tokens, and what is learnt from them."""
WORDS: Final = "Both train on the same batches from the same seed, so their curves differ by the change alone."


def alternatives(info: FieldInfo, now: Any) -> list[tuple[str, Any]]:
    """(label, value) of what else a field may be; empty for numbers and texts, which are typed."""
    if isinstance(now, Choice):
        return [(e.label, now.registry.choose(e.name)) for e in now.registry if e.name != now.kind]
    if info.type is bool:
        return [("on" if not now else "off", not now)]
    return [(o.label, o.name) for o in info.pick_options() if o.name != now]


class VariantPart(QWidget):
    """A switch, a menu of toggles, a small form of the changed ones, and the table A | B. `changed` comes from a person."""

    changed = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._a = ModelConfig(n_layers=1, d_model=8, n_heads=1)
        self._changes: dict[str, Any] = {}
        self.form: ConfigForm | None = None
        self.switch = ToggleSwitch("Compare with a variant")
        self.switch.setToolTip("Train a second model beside it that differs in the toggles you choose.")
        self.switch.toggled.connect(self._switched)
        self.add = QToolButton(text="Change a toggle", popupMode=QToolButton.ToolButtonPopupMode.InstantPopup)
        self.add.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.add.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        self.add.setToolTip("What B does otherwise than A.")
        self.add.setAccessibleName("Change a toggle of the variant")
        icons.bind(self.add, "add", theme)
        self.menu = QMenu(self)
        self.menu.setToolTipsVisible(True)
        self.menu.aboutToShow.connect(self._fill_menu)
        self.add.setMenu(self.menu)
        self.words = Muted(WORDS)
        self.table = DiffTable(theme, removable=True)
        self.table.removed.connect(self._remove)
        self.trouble = QLabel(wordWrap=True, textFormat=Qt.TextFormat.PlainText)
        self.trouble.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.body = QWidget()
        self._layout = QVBoxLayout(self.body)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(SMALL + 2)
        for widget in (self.words, self.table, self.trouble):
            self._layout.addWidget(widget)
        self._layout.addLayout(line_of(self.add, 1))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL + 2)
        layout.addWidget(self.switch)
        layout.addWidget(self.body)
        self._show()

    # ---- values --------------------------------------------------------------------------------------------------

    @property
    def on(self) -> bool:
        return self.switch.isChecked()

    @property
    def changes(self) -> Mapping[str, Any]:
        """Fields of B and their values."""
        if self.form is not None:
            shown = self.form.value
            self._changes = {name: getattr(shown, name) for name in self._changes}
        return dict(self._changes)

    @property
    def config(self) -> ModelConfig:
        """B."""
        return replace(self._a, **self.changes)

    def problem(self) -> tuple[str, str]:
        """(words for a button, the reason) of what keeps the pair from being trained; two empty texts when nothing does."""
        if not self.on:
            return "", ""
        if not self._changes:
            return "Choose what B changes", "A and B are the same architecture; change a toggle of the variant."
        found = self.problems
        if found:
            return "Correct the variant", str(found[0])
        if not self.table.rows:
            return "B does not differ from A", "Change a toggle of the variant, or switch the comparison off."
        return "", ""

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with B; empty while the comparison is off."""
        if not self.on or not self._changes:
            return []
        return self.form.problems if self.form is not None else self.config.problems()

    def set_base(self, a: ModelConfig) -> None:
        """Another A; the changes stay."""
        if a != self._a:
            changes = self.changes
            self._a = a
            self._set(changes)

    def set_value(self, on: bool, changes: Mapping[str, Any]) -> None:
        """Show a stored variant; no signal."""
        self.switch.blockSignals(True)
        self.switch.setChecked(on)
        self.switch.blockSignals(False)
        self._set(changes)

    def set_locked(self, locked: bool) -> None:
        self.setEnabled(not locked)

    # ---- changes -------------------------------------------------------------------------------------------------

    def change(self, name: str, value: Any) -> None:
        """B has another value there, as if a person had chosen it."""
        self._set({**self.changes, name: value})
        self.changed.emit()
        if self.form is not None and not alternatives(self.form.rows[name].info, getattr(self._a, name)):
            self.form.focus_field(name)

    @Slot(str)
    def _remove(self, name: str) -> None:
        self._set({n: v for n, v in self.changes.items() if n != name})
        self.changed.emit()

    def _set(self, changes: Mapping[str, Any]) -> None:
        self._changes = dict(changes)
        if self.form is not None:
            self.form.hide()
            self.form.deleteLater()
            self.form = None
        if self._changes:
            left_out = {i.name for i in describe(ModelConfig)} - set(self._changes)
            b = replace(self._a, **self._changes)
            self.form = ConfigForm(ModelConfig, b, compact=True, exclude=left_out, groups=_groups(self._changes))
            self.form.set_baseline(self._a)
            for section in _around(self.form):  # what was chosen is to be seen
                section.set_expanded(True)
            self.form.changed.connect(self._edited)
            self.form.problems_changed.connect(self._edited)
            self._layout.addWidget(self.form)
        self._show()

    @Slot(object)
    def _edited(self, _what: object) -> None:
        self._show()
        self.changed.emit()

    @Slot(bool)
    def _switched(self, _on: bool) -> None:
        self._show()
        self.changed.emit()

    def _show(self) -> None:
        self.body.setVisible(self.on)
        self.table.show_configs(self._a, self.config)
        found = self.problems
        elsewhere = [p for p in found if self.form is None or not self.form.problem_text(p.field)]
        self.trouble.setText("\n".join(map(str, elsewhere)))
        self.trouble.setVisible(bool(elsewhere))
        self.trouble.setStyleSheet(f"color: {colours_of(self).error};")

    # ---- the menu ------------------------------------------------------------------------------------------------

    @Slot()
    def _fill_menu(self) -> None:
        """Every toggle with what else it may be; what is typed opens its field."""
        self.menu.clear()
        groups: dict[str, list[FieldInfo]] = {}
        for info in describe(ModelConfig):
            if info.name not in SAME:
                groups.setdefault(info.group, []).append(info)
        for group, infos in groups.items():
            self.menu.addSection(group or "Architecture")
            for info in infos:
                self._add_entry(info, getattr(self.config, info.name))

    def _add_entry(self, info: FieldInfo, now: Any) -> None:
        others = alternatives(info, now)
        if not others:
            action = self.menu.addAction(f"{info.label}…")
            action.setToolTip(info.help)
            action.triggered.connect(partial(self._chosen, info.name, now))
            return
        inner = self.menu.addMenu(f"{info.label}: {value_text(info, now)}")
        inner.setToolTipsVisible(True)
        for label, value in others:
            action = inner.addAction(label)
            action.triggered.connect(partial(self._chosen, info.name, value))

    def _chosen(self, name: str, value: Any, _checked: bool = False) -> None:
        self.change(name, value)


def _around(form: ConfigForm) -> set[CollapsibleSection]:
    """The sections that a form's own fields lie in; not those of a kind's options."""
    return {s for s in form.findChildren(CollapsibleSection) if any(s.isAncestorOf(row) for row in form.rows.values())}


def _groups(changes: Mapping[str, Any]) -> list[str]:
    """Groups of the changed fields, each once, in the order of the fields."""
    return list(dict.fromkeys(i.group for i in describe(ModelConfig) if i.name in changes))
