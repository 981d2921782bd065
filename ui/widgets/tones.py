"""The theme's colours for a widget that was not given the theme: told from its palette, so a switch needs no wiring."""

from __future__ import annotations

from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QWidget

from ui.theme import DARK, LIGHT, Colours


def colours_of(widget: QWidget) -> Colours:
    """Colours of the theme the widget is drawn in. Ask again on `QEvent.Type.PaletteChange`."""
    return DARK if widget.palette().color(QPalette.ColorRole.Window).lightnessF() < 0.5 else LIGHT
