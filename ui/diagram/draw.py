"""The diagram on a painter: window, picture file or SVG alike."""

from __future__ import annotations

import math
from typing import Final

from PySide6.QtCore import QLineF, QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontInfo, QFontMetricsF, QPainter, QPainterPath, QPen, QPolygonF

from ui.diagram.layout import Box, Chip, Frame, Heads, Item, Line, Picture, Plus, Shape, Tie
from ui.diagram.spec import Part
from ui.theme import Colours

HUE: Final = {"embedding": 0, "head": 0, "attention": 1, "mlp": 2, "norm": 3, "position": 4, "segment": 4, "cap": 3}
"""Which of the theme's plot colours a role is drawn in; the titles say the same in words."""
_LEAST_SQUARE, _MOST_SQUARE = 3.0, 9.0
_LEAST_OF_DETAIL: Final = 0.7
"""Words that would lose more than the rest are left out; figures are whole or not there."""


def blend(one: str, other: str, share: float) -> QColor:
    """`share` of `other` in `one`."""
    a, b = QColor(one), QColor(other)
    parts = [x + (y - x) * share for x, y in zip(a.getRgbF()[:3], b.getRgbF()[:3], strict=True)]
    return QColor.fromRgbF(*parts)


class Artist:
    """Draws items in the theme's colours; `changed` are the parts to be set off from the model they are compared with."""

    def __init__(self, painter: QPainter, colours: Colours, font: QFont, changed: frozenset[str] = frozenset()) -> None:
        self._p = painter
        self._c = colours
        self._font = QFont(font)
        self._small = QFont(font)
        self._small.setPixelSize(round(QFontInfo(font).pixelSize() * 0.9))  # whole: an SVG rounds it, and words would shift
        self._changed = changed
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)

    def draw(self, picture: Picture) -> None:
        for wanted in (Frame, Line, Tie, Box, Heads, Shape, Chip, Plus):  # lines below boxes
            for item in picture.items:
                if isinstance(item, wanted):
                    self._one(item)

    def _one(self, item: Item) -> None:
        if isinstance(item, Box):
            self._box(item)
        elif isinstance(item, Heads):
            self._heads(item)
        elif isinstance(item, Shape):
            self._shape(item)
        elif isinstance(item, Chip):
            self._chip(item)
        elif isinstance(item, Line):
            self._line(item.points, item.arrow, QPen(QColor(self._c.muted), 1.3))
        elif isinstance(item, Plus):
            self._plus(item)
        elif isinstance(item, Frame):
            self._frame(item)
        else:
            self._tie(item)

    def _hue(self, role: str) -> str:
        return self._c.plots[HUE[role] % len(self._c.plots)]

    def _box(self, item: Box) -> None:
        p, part, hue = self._p, item.part, self._hue(item.part.role)
        changed = part.name in self._changed
        p.setPen(QPen(QColor(self._c.accent_text if changed else blend(self._c.base, hue, 0.75)), 2.2 if changed else 1.1))
        p.setBrush(blend(self._c.base, hue, 0.16))
        p.drawRoundedRect(item.rect, 4, 4)
        self._words(item.rect.adjusted(item.indent, 0, 0, 0), part)

    def _words(self, rect: QRectF, part: Part) -> None:
        p = self._p
        line = QFontMetricsF(self._font).height()
        room = QRectF(rect.left() + 7, rect.top() + (3 if rect.height() > line + 12 else 0), rect.width() - 14, 0)
        room.setHeight(rect.height() if rect.height() <= line + 12 else line + 2)
        title_font = QFont(self._font)
        title_font.setWeight(QFont.Weight.DemiBold if part.role != "norm" else QFont.Weight.Normal)
        metrics = QFontMetricsF(title_font)
        title = metrics.elidedText(part.title, Qt.TextElideMode.ElideRight, room.width())
        p.setFont(title_font)
        p.setPen(QColor(self._c.text))
        align = Qt.AlignmentFlag.AlignVCenter | (Qt.AlignmentFlag.AlignLeft if part.detail else Qt.AlignmentFlag.AlignHCenter)
        p.drawText(room, int(align), title)
        left = metrics.horizontalAdvance(title) + 8
        small = QFontMetricsF(self._small)
        least = 1.0 if any(c.isdigit() for c in part.detail) else _LEAST_OF_DETAIL
        if part.detail and room.width() - left >= least * small.horizontalAdvance(part.detail):
            p.setFont(self._small)
            p.setPen(QColor(self._c.muted))
            detail = small.elidedText(part.detail, Qt.TextElideMode.ElideRight, room.width() - left)
            p.drawText(room, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight), detail)

    def _heads(self, item: Heads) -> None:
        p, rect = self._p, item.rect
        size, groups, each = _square(rect.width(), item.kv_heads, item.heads // item.kv_heads)
        shown = groups * each < item.heads
        hue = self._hue("attention")
        x, bar, between = rect.left(), 3.0, _between(each)
        y = rect.top() + (rect.height() - size - bar - 2) / 2
        p.setPen(Qt.PenStyle.NoPen)
        for _ in range(groups):
            start = x
            p.setBrush(blend(self._c.base, hue, 0.85))
            for _ in range(each):
                p.drawRoundedRect(QRectF(x, y, size, size), 1.5, 1.5)
                x += size + 1
            p.setBrush(QColor(self._c.text))
            p.drawRoundedRect(QRectF(start, y + size + 2, x - 1 - start, bar), 1, 1)
            x += between
        if shown:
            p.setPen(QColor(self._c.muted))
            p.setFont(self._small)
            p.drawText(QRectF(x, rect.top(), 14, rect.height()), int(Qt.AlignmentFlag.AlignVCenter), "…")

    def _shape(self, item: Shape) -> None:
        """Plain: a spindle, thin at both ends. Gated: two that open side by side, a ⊙, and one that closes."""
        p, r, hue = self._p, item.rect, self._hue("mlp")
        p.setPen(QPen(QColor(hue), 1.0))
        p.setBrush(blend(self._c.base, hue, 0.45))
        thin = r.height() * 0.28
        if not item.gated:
            p.drawPolygon(_opening(r.left(), r.center().x(), r.center().y(), thin, r.height()))
            p.drawPolygon(_opening(r.right(), r.center().x(), r.center().y(), thin, r.height()))
            return
        third, half = r.width() * 0.36, (r.height() - 2) / 2
        for middle in (r.top() + half / 2, r.bottom() - half / 2):
            p.drawPolygon(_opening(r.left(), r.left() + third, middle, half * 0.4, half))
        p.drawPolygon(_opening(r.right(), r.right() - third, r.center().y(), thin, r.height()))
        p.setBrush(QColor(self._c.text))
        p.setPen(Qt.PenStyle.NoPen)
        p.drawEllipse(r.center(), 1.8, 1.8)

    def _chip(self, item: Chip) -> None:
        p = self._p
        scale = item.role == "scale"
        p.setPen(QPen(QColor(self._c.muted if scale else self._c.border), 1.0))
        p.setBrush(QColor(self._c.base))
        p.drawRoundedRect(item.rect, item.rect.height() / 2, item.rect.height() / 2)
        p.setFont(self._small)
        p.setPen(QColor(self._c.text))
        text = QFontMetricsF(self._small).elidedText(item.text, Qt.TextElideMode.ElideRight, item.rect.width() - 4)
        p.drawText(item.rect, int(Qt.AlignmentFlag.AlignCenter), text)

    def _line(self, points: tuple[QPointF, ...], arrow: bool, pen: QPen) -> None:
        p = self._p
        p.setBrush(Qt.BrushStyle.NoBrush)
        p.setPen(pen)
        path = QPainterPath(points[0])
        for point in points[1:]:
            path.lineTo(point)
        p.drawPath(path)
        if arrow:
            self._arrow(points[-2], points[-1], pen.color())

    def _arrow(self, start: QPointF, tip: QPointF, colour: QColor) -> None:
        angle = math.radians(QLineF(start, tip).angle())
        back = QPointF(-math.cos(angle) * 6, math.sin(angle) * 6)
        across = QPointF(math.sin(angle) * 3.2, math.cos(angle) * 3.2)
        self._p.setPen(Qt.PenStyle.NoPen)
        self._p.setBrush(colour)
        self._p.drawPolygon(QPolygonF([tip, tip + back + across, tip + back - across]))

    def _plus(self, item: Plus) -> None:
        p, r = self._p, 6.5
        p.setPen(QPen(QColor(self._c.text), 1.3))
        p.setBrush(QColor(self._c.base))
        p.drawEllipse(item.centre, r, r)
        p.drawLine(item.centre + QPointF(-3.4, 0), item.centre + QPointF(3.4, 0))
        p.drawLine(item.centre + QPointF(0, -3.4), item.centre + QPointF(0, 3.4))

    def _frame(self, item: Frame) -> None:
        p = self._p
        pen = QPen(QColor(self._c.muted if "block" not in self._changed else self._c.accent_text), 1.2, Qt.PenStyle.DashLine)
        p.setPen(pen)
        p.setBrush(Qt.BrushStyle.NoBrush)
        p.drawRoundedRect(item.rect, 6, 6)
        metrics = QFontMetricsF(self._small)
        width = metrics.horizontalAdvance(item.label) + 12
        label = QRectF(item.rect.right() - width - 10, item.rect.top() - metrics.height() / 2, width, metrics.height())
        p.fillRect(label, QColor(self._c.base))
        p.setPen(QColor(self._c.text if "block" not in self._changed else self._c.accent_text))
        p.setFont(self._small)
        p.drawText(label, int(Qt.AlignmentFlag.AlignCenter), item.label)

    def _tie(self, item: Tie) -> None:
        p = self._p
        hue = QColor(self._hue("embedding"))
        pen = QPen(hue, 1.6, Qt.PenStyle.DotLine)
        self._line(item.points, False, pen)
        self._arrow(item.points[-2], item.points[-1], hue)
        middle = (item.points[1] + item.points[2]) / 2
        metrics = QFontMetricsF(self._small)
        width = metrics.horizontalAdvance(item.label) + 8
        p.save()
        p.translate(middle)
        p.rotate(90)
        label = QRectF(-width / 2, -metrics.height() / 2, width, metrics.height())
        p.fillRect(label, QColor(self._c.base))
        p.setPen(QColor(self._c.text))
        p.setFont(self._small)
        p.drawText(label, int(Qt.AlignmentFlag.AlignCenter), item.label)
        p.restore()


def _opening(narrow_x: float, wide_x: float, y: float, narrow: float, wide: float) -> QPolygonF:
    """A trapezoid from a narrow edge to a wide one."""
    return QPolygonF(
        [
            QPointF(narrow_x, y - narrow / 2),
            QPointF(wide_x, y - wide / 2),
            QPointF(wide_x, y + wide / 2),
            QPointF(narrow_x, y + narrow / 2),
        ]
    )


def _between(each: int) -> float:
    """Room after a group, beside the pixel after each square."""
    return 3.0 if each > 1 else 1.0


def _square(width: float, groups: int, each: int) -> tuple[float, int, int]:
    """Side of a head's square, how many groups are shown at that size, and how many heads of each."""
    size = ((width + _between(each)) / groups - _between(each)) / each - 1
    if size >= _LEAST_SQUARE:
        return min(size, _MOST_SQUARE), groups, each
    step = _LEAST_SQUARE + 1
    fitting = int((width - 14) // (each * step + _between(each)))
    if fitting >= 1:
        return _LEAST_SQUARE, min(groups, fitting), each
    return _LEAST_SQUARE, 1, max(1, int((width - 14) // step))
