"""What can be done with one field of a form."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QMenu

from ui.forms.help import plain_value
from ui.forms.row import FieldRow

if TYPE_CHECKING:
    from ui.forms.form import ConfigForm


def field_menu(form: ConfigForm, row: FieldRow, menu: QMenu | None = None) -> QMenu:
    """Reset, explain, copy the key; added to `menu` (the text menu of its line) or on its own."""
    menu = menu or QMenu(row)
    info = row.info
    if form.has_default(info):
        word = "default" if form.baseline is None else "the original"
        reset = menu.addAction(f"Reset to {word} ({plain_value(info, form.default_of(info))})")
        reset.setEnabled(row.mark.kind != "" and row.editor.isEnabled())
        reset.triggered.connect(partial(_reset, form, row.name))
    menu.addAction("Reset all settings here").triggered.connect(partial(_reset, form.root(), None))
    menu.addAction("Explain (F1)").triggered.connect(partial(_explain, form, row))
    key = info.key or info.name
    menu.addAction(f"Copy key “{key}”").triggered.connect(partial(_copy, key))
    return menu


def _reset(form: ConfigForm, name: str | None, _checked: bool = False) -> None:
    form.reset(name)


def _explain(form: ConfigForm, row: FieldRow, _checked: bool = False) -> None:
    form.explain(row)


def _copy(key: str, _checked: bool = False) -> None:
    QGuiApplication.clipboard().setText(key)
