"""A part of a form that folds away."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QSize, Qt, Signal, Slot
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from ui.theme import GRID
from ui.widgets.tones import colours_of


class CollapsibleSection(QWidget):
    """A header with an arrow, and `body` below it. `quiet` draws the header as secondary text; `indent` moves only the header."""

    toggled = Signal(bool)

    def __init__(self, title: str, parent: QWidget | None = None, *, expanded: bool = True, quiet: bool = False, indent: int = 0) -> None:
        super().__init__(parent)
        self._wanted = expanded
        self._forced = False
        self._badge_is_problem = False
        self._quiet = quiet
        self.header = QToolButton(text=title, checkable=True, checked=expanded, autoRaise=True)
        self.header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.header.setIconSize(QSize(12, 12))
        self.header.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.header.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.header.setToolTip(f"Show or hide {title}")
        self.header.setAccessibleName(title)
        if not quiet:
            font = QFont(self.header.font())
            font.setWeight(QFont.Weight.DemiBold)
            self.header.setFont(font)
        self.badge = QLabel()
        self.badge.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._line = QFrame(frameShape=QFrame.Shape.HLine, frameShadow=QFrame.Shadow.Plain)
        self._line.setVisible(not quiet)
        row = QHBoxLayout()
        row.setContentsMargins(indent, 0, 0, 0)
        row.setSpacing(GRID)
        row.addWidget(self.header)
        row.addWidget(self._line, 1)
        row.addWidget(self.badge)
        self.body = QWidget(self)
        self.body_layout = QVBoxLayout(self.body)
        self.body_layout.setContentsMargins(0, 0, 0, 0)
        self.body_layout.setSpacing(GRID)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(GRID // 2)
        layout.addLayout(row)
        layout.addWidget(self.body)
        self.header.clicked.connect(self.set_expanded)
        self._tint()
        self._show()

    @property
    def title(self) -> str:
        return self.header.text()

    @property
    def expanded(self) -> bool:
        return self._wanted or self._forced

    @Slot(bool)
    def set_expanded(self, expanded: bool) -> None:
        if expanded != self._wanted:
            self._wanted = expanded
            self._show()
            self.toggled.emit(expanded)

    def set_forced(self, forced: bool) -> None:
        """Open as long as a search asks for it, whatever the person chose before; their choice comes back afterwards."""
        if forced != self._forced:
            self._forced = forced
            self._show()

    def set_badge(self, text: str, problem: bool = False) -> None:
        """A few words at the right end of the header ("2 changed", "1 problem")."""
        if (text, problem) == (self.badge.text(), self._badge_is_problem):
            return
        self._badge_is_problem = problem
        self.badge.setText(text)
        self.header.setAccessibleDescription(text)
        self._tint()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._tint()

    def _show(self) -> None:
        self.body.setVisible(self.expanded)
        self.header.setChecked(self.expanded)
        self.header.setArrowType(Qt.ArrowType.DownArrow if self.expanded else Qt.ArrowType.RightArrow)

    def _tint(self) -> None:
        colours = colours_of(self)
        self.badge.setStyleSheet(f"color: {colours.error if self._badge_is_problem else colours.muted};")
        self._line.setStyleSheet(f"color: {colours.border};")
        text = colours.muted if self._quiet else colours.text
        self.header.setStyleSheet(
            f"QToolButton {{ border: none; padding: 2px 4px 2px 0; color: {text}; }} "
            f"QToolButton:focus {{ color: {colours.accent_text}; text-decoration: underline; }}"
        )
