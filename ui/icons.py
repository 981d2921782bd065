"""Line icons drawn for this window, tinted from the theme; re-tinted when it changes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QByteArray, QObject, QRectF, QSize, Qt, Slot
from PySide6.QtGui import QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from ui.theme import Colours, Theme

FOLDER: Final = Path(__file__).resolve().parents[1] / "resources" / "icons"
_SIZES: Final = (16, 20, 32, 48)


def names() -> tuple[str, ...]:
    """Every icon there is."""
    return tuple(sorted(p.stem for p in FOLDER.glob("*.svg")))


@cache
def _source(name: str) -> str:
    return (FOLDER / f"{name}.svg").read_text(encoding="utf-8")


def pixmap(name: str, colour: str, size: int) -> QPixmap:
    """The icon `size` pixels square, its `currentColor` replaced by `colour` (#rrggbb)."""
    drawn = QPixmap(QSize(size, size))
    drawn.fill(Qt.GlobalColor.transparent)
    renderer = QSvgRenderer(QByteArray(_source(name).replace("currentColor", colour).encode()))
    painter = QPainter(drawn)
    renderer.render(painter, QRectF(0, 0, size, size))
    painter.end()
    return drawn


@cache
def _icon(name: str, normal: str, disabled: str) -> QIcon:
    made = QIcon()
    for size in _SIZES:
        made.addPixmap(pixmap(name, normal, size), QIcon.Mode.Normal)
        made.addPixmap(pixmap(name, disabled, size), QIcon.Mode.Disabled)
    return made


def icon(name: str, colours: Colours, role: str = "text") -> QIcon:
    """The icon in the colour that `role` names in `Colours` ("text", "accent_text", "error", …)."""
    return _icon(name, getattr(colours, role), colours.disabled)


class _Tint(QObject):
    """Lives as a child of the thing with the icon, so that its connection ends with it."""

    def __init__(self, target: Any, name: str, theme: Theme, role: str) -> None:
        super().__init__(target)
        self.setObjectName("tint")
        self._target, self._name, self._role = target, name, role
        theme.changed.connect(self._apply)
        self._apply(theme.colours)

    @Slot(object)
    def _apply(self, colours: Colours) -> None:
        self._target.setIcon(icon(self._name, colours, self._role))


def bind(target: Any, name: str, theme: Theme, role: str = "text") -> None:
    """Give a button or action its icon now and after every change of the theme. A second call replaces the first."""
    for old in target.findChildren(_Tint):
        old.setParent(None)
        old.deleteLater()
    _Tint(target, name, theme, role)


def app_icon() -> QIcon:
    """The program's own icon, in its own colours."""
    return QIcon(str(FOLDER / "app.svg"))
