"""What the cache holds, layer by layer and slot by slot, as a picture: exact, or how far what is stored is from what came in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPoint, QRect, Qt
from PySide6.QtGui import QColor, QFontMetrics, QHelpEvent, QImage, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QToolTip, QVBoxLayout, QWidget

from ui.plots.block_plot import MAP, ColourScale
from ui.theme import SMALL
from ui.widgets.text import Muted
from ui.widgets.tones import colours_of

KEYS, VALUES = "keys", "values"
LOWEST: Final = 1e-6
"""The smallest share of error that has a colour of its own."""
_SHADES: Final = 256
_EXACT: Final = 0
_UNKNOWN: Final = 1
_FIRST: Final = 2


def shades(errors: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Indices into the colour table, [layers, slots], and the errors that the first and the last colour stand for. Qt-free."""
    known = errors[~exact & np.isfinite(errors)]
    low, high = (max(float(known.min()), LOWEST), max(float(known.max()), LOWEST)) if known.size else (0.0, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.log(np.maximum(errors, LOWEST) / max(low, LOWEST)) / max(math.log(high / low) if low else 0.0, 1e-9)
    found = _FIRST + np.clip(np.nan_to_num(place), 0, 1) * (_SHADES - 1 - _FIRST)
    found = np.where(np.isfinite(errors), found, _UNKNOWN)
    return np.where(exact, _EXACT, found).astype(np.uint8), (low, high)


class SlotMapView(QWidget):
    """Layers downwards, slots to the right. The tool tip tells a slot's state; the scale below what the colours mean."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("What the cache holds, by layer and position")
        self.picture = _Picture()
        self.scale = ColourScale()
        self.words = Muted()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL)
        for part in (self.picture, self.scale, self.words):
            layout.addWidget(part)
        self.scale.hide()

    def show_slots(self, layers: Sequence[Any], what: str) -> None:
        """`layers` are `SlotMap`s; `what` is "keys" or "values"."""
        self.picture.show_slots(layers, what)
        low, high = self.picture.ends
        self.scale.set_ends(f"{low:.1g}" if high else "", f"{high:.1g}" if high else "")
        self.scale.setVisible(bool(high))
        self.words.setText(self._said())
        self.setAccessibleDescription(self.words.text())

    def _said(self) -> str:
        exact = self.picture.exact
        if not exact.size:
            return ""
        share = float(exact.mean())
        if share == 1:
            return "Every slot is exact (grey)."
        text = f"{share:.0%} of the slots are exact (grey); the others are encoded"
        if self.picture.ends[1]:
            return f"{text}, coloured by ‖x − x̃‖² ⁄ ‖x‖²."
        return f"{text} (blue). Switch on “Measure the error of each token” to see how far each is off."


class _Picture(QWidget):
    def __init__(self) -> None:
        super().__init__()
        self.exact = np.zeros((0, 0), dtype=bool)
        self.errors = np.zeros((0, 0))
        self.ends = (0.0, 0.0)
        self.what = KEYS
        self._image = QImage()
        self.setMinimumHeight(120)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)

    def show_slots(self, layers: Sequence[Any], what: str) -> None:
        self.what = what
        if not layers:
            self.exact, self.errors, self.ends, self._image = np.zeros((0, 0), dtype=bool), np.zeros((0, 0)), (0.0, 0.0), QImage()
            self.update()
            return
        self.exact = np.array([m.exact for m in layers], dtype=bool).reshape(len(layers), -1)
        field = "key_error" if what == KEYS else "value_error"
        self.errors = np.array([getattr(m, field) for m in layers], dtype=np.float64).reshape(len(layers), -1)
        indices, self.ends = shades(self.errors, self.exact)
        self._paint_image(indices)
        self.setFixedHeight(max(120, min(220, 5 * len(layers))) + self.fontMetrics().height() + SMALL)
        self.update()

    def _paint_image(self, indices: np.ndarray) -> None:
        if not indices.size:
            self._image = QImage()
            return
        colours = colours_of(self)
        table = [QColor(colours.border).rgb(), QColor(colours.accent).rgb()]
        parts = np.linspace(0.15, 1, _SHADES - _FIRST)
        table += [pg.colormap.get(MAP).map(float(part), mode="qcolor").rgb() for part in parts]
        data = np.ascontiguousarray(indices)
        image = QImage(data.data, data.shape[1], data.shape[0], data.shape[1], QImage.Format.Format_Indexed8)
        image.setColorTable(table)
        self._image = image.copy()  # the array's memory goes away

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and self.exact.size:
            self._paint_image(shades(self.errors, self.exact)[0])
            self.update()

    @property
    def _area(self) -> QRect:
        left = QFontMetrics(self.font()).horizontalAdvance("layer 00 ")
        return QRect(left, 0, max(1, self.width() - left), max(1, self.height() - self.fontMetrics().height() - SMALL))

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        area, colours = self._area, colours_of(self)
        painter.setPen(QColor(colours.muted))
        if self._image.isNull():
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter, "Nothing cached yet – send a message")
            return
        painter.drawImage(area, self._image)
        left = QRect(0, 0, area.left() - SMALL, area.height())
        layers, slots = self.exact.shape
        sides = Qt.AlignmentFlag.AlignRight
        painter.drawText(left, sides | Qt.AlignmentFlag.AlignTop, "layer 0")
        painter.drawText(left, sides | Qt.AlignmentFlag.AlignBottom, str(layers - 1))
        below = QRect(area.left(), area.bottom() + 1, area.width(), self.height() - area.bottom() - 1)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, "position 0")
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, f"{slots - 1:,}")

    def slot_at(self, point: QPoint) -> tuple[int, int] | None:
        """(layer, slot) under a point; None beside the picture."""
        area = self._area
        if not area.contains(point) or not self.exact.size:
            return None
        layers, slots = self.exact.shape
        return (point.y() - area.top()) * layers // area.height(), (point.x() - area.left()) * slots // area.width()

    def told(self, layer: int, slot: int) -> str:
        """A slot's state in words."""
        where = f"{self.what.capitalize()} of layer {layer}, position {slot:,}: "
        if self.exact[layer, slot]:
            return where + "exact"
        error = self.errors[layer, slot]
        return where + ("encoded" if not np.isfinite(error) else f"encoded, {error:.2%} of its square norm lost")

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and isinstance(event, QHelpEvent):
            found = self.slot_at(event.pos())
            QToolTip.showText(event.globalPos(), self.told(*found) if found else "", self)
            return True
        return super().event(event)
