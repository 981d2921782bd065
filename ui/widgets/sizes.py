"""Sizes that all widgets share."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from ui.theme import GRID


def control_height(widget: QWidget) -> int:
    """Height of a control in the widget's font: 24 px at the usual size."""
    return max(widget.fontMetrics().height() + 10, 6 * GRID)
