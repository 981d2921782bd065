"""The line above a plot: title, newest value, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QFont
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QSizePolicy, QToolButton, QWidget

from ui.theme import SMALL, tabular
from ui.widgets.labels import ElidingLabel
from workbench.core.metrics import MetricInfo


class PlotHeader(QWidget):
    """Signals say what a person wants; the plot does it."""

    follow_wanted = Signal()
    log_wanted = Signal(bool)
    copy_image_wanted = Signal()
    copy_values_wanted = Signal()
    save_wanted = Signal(str)
    """"png", "svg" or "csv"."""

    def __init__(self, title: str, metrics: list[MetricInfo]) -> None:
        super().__init__()
        name = QLabel(title)
        bold = QFont(name.font())
        bold.setWeight(QFont.Weight.DemiBold)
        name.setFont(bold)
        name.setToolTip("<br>".join(f"<b>{escape(m.label)}</b>: {escape(m.help)}" for m in metrics))
        self.reading = ElidingLabel()
        self.reading.setFont(tabular(self.reading.font()))
        self.reading.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.reading.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.follow_button = QToolButton(text="Follow", autoRaise=True)
        self.follow_button.setToolTip("Show the newest points again (double-click on the plot, or Home)")
        self.follow_button.setAccessibleName(f"{title}: follow the newest points")
        self.follow_button.clicked.connect(self.follow_wanted)
        self.follow_button.hide()
        self.menu_button = QToolButton(text="⋯", autoRaise=True)
        self.menu_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.menu_button.setStyleSheet("QToolButton::menu-indicator { image: none; }")
        self.menu_button.setToolTip("View and export")
        self.menu_button.setAccessibleName(f"{title}: view and export")
        self.menu = self._make_menu()
        self.menu_button.setMenu(self.menu)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SMALL)
        row.addWidget(name)
        row.addWidget(self.reading, 1)
        row.addWidget(self.follow_button)
        row.addWidget(self.menu_button)

    @property
    def tools(self) -> tuple[QToolButton, QToolButton]:
        """What has no place in a picture of the plot."""
        return self.follow_button, self.menu_button

    def _make_menu(self) -> QMenu:
        menu = QMenu(self)
        _add(menu, "Follow the newest points", self.follow_wanted.emit)
        self.log_action = menu.addAction("Logarithmic axis")
        self.log_action.setCheckable(True)
        self.log_action.toggled.connect(self.log_wanted)
        menu.addSeparator()
        _add(menu, "Copy image", self.copy_image_wanted.emit)
        _add(menu, "Copy values", self.copy_values_wanted.emit)
        _add(menu, "Save as PNG…", lambda: self.save_wanted.emit("png"))
        _add(menu, "Save as SVG…", lambda: self.save_wanted.emit("svg"))
        _add(menu, "Save values as CSV…", lambda: self.save_wanted.emit("csv"))
        return menu


def _add(menu: QMenu, text: str, slot: Callable[[], object]) -> QAction:
    action = menu.addAction(text)
    action.triggered.connect(lambda _checked=False: slot())
    return action
