"""The diagram as a widget: fits its room, explains its parts, and can be saved as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from PySide6.QtCore import QEvent, QPointF, QRect, QRectF, QSize, Qt
from PySide6.QtGui import (
    QColor,
    QContextMenuEvent,
    QFontMetricsF,
    QGuiApplication,
    QHelpEvent,
    QImage,
    QKeyEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
)
from PySide6.QtSvg import QSvgGenerator
from PySide6.QtWidgets import QFileDialog, QMenu, QSizePolicy, QToolTip, QWidget

from ui.diagram.draw import Artist
from ui.diagram.layout import GAPS, Box, Picture, best_fit, lay_out
from ui.diagram.spec import Part, Spec, description
from ui.notify import Notifier
from ui.theme import Colours
from ui.widgets.tones import colours_of
from workbench.core.errors import FileError, WorkbenchError

PICTURE_WIDTH: Final = 420
"""Pixels of a saved picture before its scale."""
PICTURE_SCALE: Final = 3


class DiagramView(QWidget):
    """Shows a `Spec`; parts that differ from the reference are set off. Its context menu (also by keyboard) saves pictures."""

    def __init__(self, notify: Notifier, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._notify = notify
        self._spec: Spec | None = None
        self._changed: frozenset[str] = frozenset()
        self._picture: tuple[Picture, float] | None = None
        self._hint: tuple[int, QSize] | None = None
        self.setAccessibleName("Block diagram of the architecture")
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumHeight(120)

    @property
    def spec(self) -> Spec | None:
        return self._spec

    @property
    def changed_parts(self) -> frozenset[str]:
        """Keys of the parts that differ from the reference."""
        return self._changed

    def show_spec(self, spec: Spec, reference: Spec | None = None) -> None:
        """Draw another architecture, compared with `reference`."""
        changed = differences(spec, reference) if reference is not None else frozenset()
        if (spec, changed) == (self._spec, self._changed):
            return
        self._spec, self._changed = spec, changed
        self._hint = None
        self._picture = None
        self.setAccessibleDescription(description(spec))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        if self._spec is None:
            return QSize(320, 300)
        width = self.width() if self.width() > 100 else 320
        if self._hint is None or self._hint[0] != width:  # asked for with every layout of the window
            self._hint = (width, QSize(width, round(self._lay_out(width, GAPS[1]).height)))
        return self._hint[1]

    def _lay_out(self, width: float, gap: float) -> Picture:
        assert self._spec is not None
        metrics = QFontMetricsF(self.font())
        return lay_out(self._spec, width, metrics.height(), metrics.horizontalAdvance, gap)

    def picture(self) -> tuple[Picture, float] | None:
        """What is on screen, and its scale; None while there is nothing to show."""
        if self._picture is None and self._spec is not None:
            metrics = QFontMetricsF(self.font())
            self._picture = best_fit(self._spec, self.width(), self.height(), metrics.height(), metrics.horizontalAdvance)
        return self._picture

    # ---- events --------------------------------------------------------------------------------------------------

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        colours = colours_of(self)
        painter.fillRect(self.rect(), QColor(colours.base))
        if (shown := self.picture()) is not None:
            picture, scale = shown
            painter.translate(0, max(0.0, (self.height() - picture.height * scale) / 2))
            painter.scale(scale, scale)
            Artist(painter, colours, self.font(), self._changed).draw(picture)
            painter.resetTransform()
        if self.hasFocus():
            painter.setPen(QPen(QColor(colours.accent_text), 1.5))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(self.rect().adjusted(1, 1, -1, -1))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._picture = None

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.PaletteChange):
            self._picture = self._hint = None
            self.update()

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            part = self.part_at(QPointF(event.pos()))
            if part is not None and part.tip:
                QToolTip.showText(event.globalPos(), f"<b>{part.title}</b> {part.detail}<br>{part.tip}", self, QRect())
            else:
                QToolTip.hideText()
            return True
        return super().event(event)

    def part_at(self, where: QPointF) -> Part | None:
        """The part drawn at a place of the widget."""
        if (shown := self.picture()) is None:
            return None
        picture, scale = shown
        inside = QPointF(where.x(), where.y() - max(0.0, (self.height() - picture.height * scale) / 2)) / scale
        return next((i.part for i in picture.items if isinstance(i, Box) and i.rect.contains(inside)), None)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Space, Qt.Key.Key_Menu):
            self.menu().popup(self.mapToGlobal(self.rect().center()))
        else:
            super().keyPressEvent(event)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        self.menu().popup(event.globalPos())

    # ---- pictures ------------------------------------------------------------------------------------------------

    def menu(self, *, lasting: bool = False) -> QMenu:
        """What can be done with the picture; a menu for one use, or a `lasting` one for a button."""
        menu = QMenu(self)
        if not lasting:
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        for text, slot in (("Save as SVG…", self._ask_svg), ("Save as PNG…", self._ask_png), ("Copy the picture", self.copy)):
            action = menu.addAction(text)
            action.setEnabled(self._spec is not None or lasting)
            action.triggered.connect(slot)
        return menu

    def _ask_svg(self) -> None:
        self._ask("Save the diagram as SVG", "architecture.svg", "SVG (*.svg)")

    def _ask_png(self) -> None:
        self._ask("Save the diagram as PNG", "architecture.png", "PNG (*.png)")

    def _ask(self, title: str, name: str, kinds: str) -> None:
        dialog = QFileDialog(self.window(), title, name, kinds)
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix(Path(name).suffix[1:])
        dialog.fileSelected.connect(self._save_chosen)
        dialog.open()

    def _save_chosen(self, path: str) -> None:
        try:
            self.save(Path(path))
        except WorkbenchError as error:
            self._notify.exception(error, source="architecture")
        else:
            self._notify.info(f"The diagram was saved as {path}.", source="architecture")

    def save(self, path: Path) -> None:
        """Write the diagram as .svg or .png, in the colours on screen. Raises `FileError` when it cannot be written."""
        colours = colours_of(self)
        if path.suffix.lower() == ".svg":
            good = self._save_svg(path, colours)
        else:
            good = self.image().save(str(path))
        if not good:
            raise FileError(f"{path} could not be written.", hint="Choose another folder or name.")

    def _save_svg(self, path: Path, colours: Colours) -> bool:
        picture = self._lay_out(PICTURE_WIDTH, GAPS[1])
        generator = QSvgGenerator()
        generator.setFileName(str(path))
        generator.setResolution(self.logicalDpiY())  # else words come out smaller than their boxes
        generator.setTitle("Architecture")
        assert self._spec is not None
        generator.setDescription(description(self._spec))
        generator.setSize(QSize(PICTURE_WIDTH, round(picture.height)))
        generator.setViewBox(QRectF(0, 0, PICTURE_WIDTH, picture.height))
        painter = QPainter()
        if not painter.begin(generator):
            return False
        self._paint(painter, picture, colours)
        painter.end()
        return True

    def image(self) -> QImage:
        """The diagram in print quality."""
        picture = self._lay_out(PICTURE_WIDTH, GAPS[1])
        image = QImage(PICTURE_WIDTH * PICTURE_SCALE, round(picture.height * PICTURE_SCALE), QImage.Format.Format_RGB32)
        painter = QPainter(image)
        painter.scale(PICTURE_SCALE, PICTURE_SCALE)
        self._paint(painter, picture, colours_of(self))
        painter.end()
        return image

    def _paint(self, painter: QPainter, picture: Picture, colours: Colours) -> None:
        painter.fillRect(QRectF(0, 0, picture.width, picture.height + 1), QColor(colours.base))
        Artist(painter, colours, self.font()).draw(picture)

    def copy(self) -> None:
        """Put the picture on the clipboard."""
        QGuiApplication.clipboard().setImage(self.image())


def differences(spec: Spec, reference: Spec) -> frozenset[str]:
    """Keys of what is drawn differently: parts, and "block" for the number of blocks or the placement."""
    ours, theirs = _keyed(spec), _keyed(reference)
    found = {key for key, part in ours.items() if part != theirs.get(key)}
    if (spec.n_layers, spec.block, spec.placement) != (reference.n_layers, reference.block, reference.placement):
        found.add("block")
    if spec.scale != reference.scale:
        found.add("embedding")
    return frozenset(found)


def _keyed(spec: Spec) -> dict[str, tuple[object, ...]]:
    return {p.name: (p.title, p.detail, getattr(p, "marks", ())) for p in spec.parts}
