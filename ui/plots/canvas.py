"""The drawing area of a plot: axes, grid, mouse and keys."""

from __future__ import annotations

import time
from typing import Any

import pyqtgraph as pg
from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QContextMenuEvent, QFocusEvent, QFont, QKeyEvent, QMouseEvent, QPaintEvent, QResizeEvent

from ui.plots.axes import UnitAxis
from ui.theme import Colours
from ui.widgets.labels import MutedLabel
from workbench.core.metrics import Axis, PlotInfo


class Canvas(pg.PlotWidget):  # type: ignore[misc]
    """Says what a person asks for by mouse and keyboard. Measures what painting costs, so that its owner can pace it."""

    reset_wanted = Signal()
    zoomed = Signal()
    x_moved = Signal()
    resized = Signal()
    left = Signal()
    stepped = Signal(int)
    """-1 or 1: the cross-hair should go to the previous or next point."""
    menu_wanted = Signal(object)

    def __init__(self, info: PlotInfo, axis: Axis, x_label: str | None, empty_text: str) -> None:
        bottom = UnitAxis("bottom", "s" if axis == "time" else "step")
        left = UnitAxis("left", info.unit)
        super().__init__(axisItems={"bottom": bottom, "left": left})
        self.axes = (bottom, left)
        self.paint_seconds = 0.0
        """CPU time of all paintings since the owner has set it to zero: one change may be painted more than once."""
        item = self.getPlotItem()
        item.hideButtons()
        item.setMenuEnabled(False)
        item.showGrid(x=True, y=True, alpha=0.14)
        self.view: pg.ViewBox = item.getViewBox()
        self.view.disableAutoRange()
        self.view.sigRangeChangedManually.connect(lambda _mouse: self.zoomed.emit())
        self.view.sigXRangeChanged.connect(lambda _view, _range: self.x_moved.emit())
        bottom.setLabel(x_label or ("time (min:s)" if axis == "time" else "step"))
        if info.unit != "B":  # byte ticks carry their own unit
            left.setLabel(f"{info.y_label} ({info.unit})" if info.unit and info.unit != info.y_label else info.y_label)
        self.setFrameShape(self.Shape.NoFrame)
        self.setCacheMode(self.CacheModeFlag.CacheNone)  # a cached background would lie in an SVG as a bitmap
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setMinimumSize(120, 80)
        self.setAccessibleName(f"{info.title} plot")
        self.empty = MutedLabel(empty_text, self)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.empty.setWordWrap(True)
        self.empty.hide()
        self.empty.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)

    def restyle(self, colours: Colours, ratio: float, font: QFont) -> None:
        self.setBackground(colours.base)
        for axis in self.axes:
            axis.setPen(pg.mkPen(colours.border, width=ratio))
            axis.setTextPen(colours.muted)
            axis.setTickFont(font)
            if axis.labelText:
                axis.setLabel(axis.labelText, **{"font-size": f"{font.pointSizeF()}pt", "color": colours.muted})

    def set_empty(self, empty: bool) -> None:
        """Say so in place of numbers that would measure nothing."""
        if self.empty.isHidden() == empty:
            self.empty.setVisible(empty)
            for axis in self.axes:
                axis.setStyle(showValues=not empty)

    def set_log(self, log: bool) -> None:
        """Only the labels; the curves hand over logarithms themselves."""
        self.axes[1].setLogMode(x=False, y=log)

    # ---- Qt ------------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        started = time.thread_time()
        super().paintEvent(event)
        self.paint_seconds += time.thread_time() - started

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if hasattr(self, "empty"):
            self.empty.setGeometry(self.rect().adjusted(40, 10, -10, -30))
            self.resized.emit()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.reset_wanted.emit()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.left.emit()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.left.emit()

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        self.menu_wanted.emit(event.globalPos())
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        key: Any = event.key()
        if key in (Qt.Key.Key_Left, Qt.Key.Key_Right):
            self.stepped.emit(-1 if key == Qt.Key.Key_Left else 1)
        elif key == Qt.Key.Key_Home:
            self.reset_wanted.emit()
        elif key == Qt.Key.Key_Escape:
            self.left.emit()
            event.ignore()  # Esc also stops the chat
        else:
            super().keyPressEvent(event)
