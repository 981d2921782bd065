"""A push button in the height of the form's editors."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QGuiApplication, QPalette
from PySide6.QtWidgets import QPushButton, QSizePolicy, QStyleOptionButton, QToolTip

from ui.theme import DARK, GRID, LIGHT, MEDIUM, SMALL, Colours
from ui.widgets.sizes import control_height


class Button(QPushButton):
    """A push button in the panel's height; `primary` is filled with the accent. Gives way to a narrow panel."""

    def __init__(self, text: str, tooltip: str, *, primary: bool = False) -> None:
        super().__init__(text.replace("&", "&&"))
        self._primary = primary
        self._tinting = False
        self.setToolTip(tooltip)
        self.setAccessibleName(text)
        self.setAccessibleDescription(tooltip)
        self._tint()

    def set_words(self, text: str, tooltip: str) -> None:
        """Another label and explanation."""
        self.setText(text.replace("&", "&&"))
        self.setToolTip(tooltip)
        self.setAccessibleName(text)
        self.setAccessibleDescription(tooltip)

    def set_primary(self, primary: bool) -> None:
        self._primary = primary
        self._tint()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange):
            self._tint()

    def _tint(self) -> None:
        if self._tinting:
            return  # a style sheet changes the font, which is told here
        self._tinting = True
        self._apply()
        self._tinting = False

    def _apply(self) -> None:
        height = control_height(self) + (SMALL if self._primary else 0)
        if self.minimumHeight() != height:
            self.setMinimumHeight(height)
        sheet = _primary_sheet(_application_colours()) if self._primary else ""
        if sheet != self.styleSheet():
            self.setStyleSheet(sheet)
            if not sheet:  # a switch of the theme meanwhile leaves the sheet's colours in the palette
                self.setPalette(QPalette())


class ElidingButton(Button):
    """A button whose words end in an ellipsis where it is too narrow for them; whole in the tooltip then, and to assistive tools."""

    def __init__(self, text: str, tooltip: str, *, primary: bool = False) -> None:
        super().__init__(text, tooltip, primary=primary)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def minimumSizeHint(self) -> QSize:
        return QSize(12 * GRID, super().minimumSizeHint().height())

    def initStyleOption(self, option: QStyleOptionButton) -> None:
        super().initStyleOption(option)
        room = self.width() - 2 * MEDIUM
        option.text = self.fontMetrics().elidedText(option.text, Qt.TextElideMode.ElideRight, room, Qt.TextFlag.TextShowMnemonic)  # type: ignore[attr-defined]

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ToolTip and self.sizeHint().width() > self.width():
            QToolTip.showText(event.globalPos(), f"{self.accessibleName()}\n{self.toolTip()}", self)  # type: ignore[attr-defined]
            return True
        return super().event(event)


def _application_colours() -> Colours:
    """For a widget whose own palette a style sheet has coloured."""
    return DARK if QGuiApplication.palette().color(QPalette.ColorRole.Window).lightnessF() < 0.5 else LIGHT


def _primary_sheet(c: Colours) -> str:
    return f"""
        QPushButton {{ background: {c.accent}; color: {c.on_accent}; border: 1px solid {c.accent}; border-radius: 4px;
            padding: 0 {MEDIUM}px; font-weight: 600; }}
        QPushButton:hover {{ border-color: {c.text}; }}
        QPushButton:focus {{ border: 2px solid {c.text}; }}
        QPushButton:pressed {{ border: 2px solid {c.on_accent}; }}
        QPushButton:disabled {{ background: {c.raised}; color: {c.muted}; border-color: {c.border}; font-weight: 400; }}"""
