"""A dock with a quiet title bar: icon, name, float and hide."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Slot
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QDockWidget, QHBoxLayout, QLabel, QToolButton, QWidget

from ui import icons
from ui.theme import GRID, MEDIUM, SMALL, Colours, Theme


class _TitleBar(QWidget):
    def __init__(self, dock: QDockWidget, icon: str, theme: Theme) -> None:
        super().__init__(dock)
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setObjectName("dockTitle")
        self._dock, self._theme, self._icon_name = dock, theme, icon
        self._icon = QLabel()
        self._text = QLabel(dock.windowTitle())
        bold = QFont(self._text.font())
        bold.setWeight(QFont.Weight.DemiBold)
        self._text.setFont(bold)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(MEDIUM, SMALL // 2, SMALL, SMALL // 2)
        layout.setSpacing(SMALL + 2)
        layout.addWidget(self._icon)
        layout.addWidget(self._text, 1)
        self._float = self._button("float", f"Float or dock {dock.windowTitle()}")
        self._float.clicked.connect(self._toggle_floating)
        self._hide = self._button("close", f"Hide {dock.windowTitle()}")
        self._hide.clicked.connect(dock.hide)
        layout.addWidget(self._float)
        layout.addWidget(self._hide)
        theme.changed.connect(self._apply)
        self._apply(theme.colours)

    def _button(self, icon: str, name: str) -> QToolButton:
        button = QToolButton(autoRaise=True, iconSize=QSize(3 * GRID, 3 * GRID), focusPolicy=Qt.FocusPolicy.TabFocus)
        button.setAccessibleName(name)
        button.setToolTip(name)
        icons.bind(button, icon, self._theme, "muted")
        return button

    @Slot()
    def _toggle_floating(self) -> None:
        self._dock.setFloating(not self._dock.isFloating())

    @Slot(object)
    def _apply(self, c: Colours) -> None:
        self._icon.setPixmap(icons.icon(self._icon_name, c, "muted").pixmap(4 * GRID, 4 * GRID))
        self.setStyleSheet(f"#dockTitle {{ background: {c.raised}; border-bottom: 1px solid {c.border}; }}")


class PanelDock(QDockWidget):
    """One panel at an edge of the window."""

    def __init__(self, name: str, label: str, icon: str, panel: QWidget, theme: Theme) -> None:
        super().__init__(label)
        self.setObjectName(f"dock.{name}")
        self.setAccessibleName(label)
        self._title = _TitleBar(self, icon, theme)
        self._no_title = QWidget(self)
        self.setTitleBarWidget(self._title)
        self._no_title.hide()
        self.setWidget(panel)

    def show_title(self, shown: bool) -> None:
        """With the title bar, or without (then a tab names the panel, and is dragged to float it)."""
        wanted = self._title if shown else self._no_title
        if self.titleBarWidget() is not wanted:
            self.titleBarWidget().hide()
            self.setTitleBarWidget(wanted)
            wanted.show()
