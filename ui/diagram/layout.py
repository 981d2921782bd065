"""Where everything of the diagram lies: a description and a width in, boxes and lines out. Data flows from top to bottom.

The residual stream is the straight line at the left; a branch leaves it to the right and comes back at a ⊕. Norms on the
stream are as wide as the block, norms on a branch are not, so their place is seen without reading.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from PySide6.QtCore import QPointF, QRectF

from ui.diagram.spec import Attention, Mlp, Part, Spec
from ui.diagram.trace import Join, Step

STREAM_X: Final = 24.0
BRANCH_X: Final = 50.0
EDGE: Final = 6.0
LANE: Final = 18.0
"""Room at the right for the line that ties embedding and head."""
NARROW: Final = 190.0
"""Below this width a box has its marks on a line of their own."""
SHAPE: Final = 26.0
"""Width of the MLP's shape."""
BOLD: Final = 1.12
"""How much wider a title is than plain text."""
LEAST_WIDTH: Final = 210.0
"""A narrower picture is drawn smaller, so that its words still fit."""
LEAST_SCALE: Final = 0.5
GAPS: Final = (14.0, 10.0, 8.0, 6.0, 4.0)


@dataclass(frozen=True)
class Box:
    """`indent` is the room that its words leave at the left."""

    rect: QRectF
    part: Part
    on_stream: bool = False
    indent: float = 0.0


@dataclass(frozen=True)
class Heads:
    """Query heads as squares, each group over the bar of the key/value head it shares."""

    rect: QRectF
    heads: int
    kv_heads: int


@dataclass(frozen=True)
class Chip:
    """A short word in a rounded frame; `role` "mark", "scale" or "count"."""

    rect: QRectF
    text: str
    role: str


@dataclass(frozen=True)
class Line:
    points: tuple[QPointF, ...]
    arrow: bool = False
    role: str = "flow"


@dataclass(frozen=True)
class Plus:
    centre: QPointF


@dataclass(frozen=True)
class Frame:
    """Around the block that is repeated."""

    rect: QRectF
    label: str


@dataclass(frozen=True)
class Tie:
    """From the embedding to the head along the right edge: one matrix for both."""

    points: tuple[QPointF, ...]
    label: str


@dataclass(frozen=True)
class Shape:
    """The MLP as a shape: one that widens and narrows, or two that are multiplied (gated)."""

    rect: QRectF
    gated: bool


Item = Box | Heads | Chip | Line | Plus | Frame | Tie | Shape


@dataclass(frozen=True)
class Picture:
    items: tuple[Item, ...]
    width: float
    height: float


@dataclass
class _Pen:
    """What the layout works with: the items so far and the height reached."""

    spec: Spec
    width: float
    line: float
    advance: Callable[[str], float]
    gap: float
    items: list[Item] = field(default_factory=list)
    y: float = EDGE

    @property
    def right(self) -> float:
        """Of the boxes; the tie has its lane beyond."""
        return self.width - EDGE - (LANE if self.spec.tied else 0)

    @property
    def row(self) -> float:
        return self.line + 8

    def add(self, *items: Item) -> None:
        self.items.extend(items)


def lay_out(spec: Spec, width: float, line: float, advance: Callable[[str], float], gap: float) -> Picture:
    """`line` is the height of a line of text, `advance` the width of a text, `gap` the room between boxes; all in pixels."""
    pen = _Pen(spec, width, line, advance, gap)
    top = _stream_box(pen, spec.embedding, EDGE)
    start = pen.y
    if spec.scale is not None:
        _flow(pen)
        _scale(pen, spec.scale, pen.y + pen.line / 2)
        pen.y += pen.line
    for part in spec.added:
        _added(pen, part)
    _below(pen, spec.embedding_norm)
    _block(pen)
    for part in (spec.final_norm, spec.transform):
        _below(pen, part)
    _flow(pen)
    bottom = _stream_box(pen, spec.head, EDGE)
    _below(pen, spec.softcap, small=True)
    stream = Line((QPointF(STREAM_X, start), QPointF(STREAM_X, bottom.top())), arrow=True)
    if spec.tied:
        x = width - EDGE - 5
        _tie = (
            QPointF(top.right(), top.center().y()),
            QPointF(x, top.center().y()),
            QPointF(x, bottom.center().y()),
            QPointF(bottom.right(), bottom.center().y()),
        )
        pen.add(Tie(_tie, "tied"))
    return Picture((stream, *pen.items), width, pen.y + EDGE)


def best_fit(spec: Spec, width: float, height: float, line: float, advance: Callable[[str], float]) -> tuple[Picture, float]:
    """The airiest layout that fits, and the scale it is to be drawn at (1 unless even the tightest is too high)."""
    most = min(1.0, max(LEAST_SCALE, width / LEAST_WIDTH))
    for gap in GAPS:
        picture = lay_out(spec, width / most, line, advance, gap)
        if picture.height * most <= height:
            return picture, most
    scale = max(LEAST_SCALE, min(most, height / picture.height))
    return lay_out(spec, width / scale, line, advance, GAPS[-1]), scale


def _flow(pen: _Pen) -> None:
    pen.y += pen.gap


def _below(pen: _Pen, part: Part | None, small: bool = False) -> None:
    """A further box on the stream, where there is one; a small one lies close to the box above."""
    if part is None:
        return
    if small:
        pen.y += 2
    else:
        _flow(pen)
    _stream_box(pen, part, EDGE)


def _stream_box(pen: _Pen, part: Part, left: float, right: float | None = None) -> QRectF:
    rect = QRectF(left, pen.y, (pen.right if right is None else right) - left, pen.line + 5 if part.role in ("norm", "cap") else pen.row)
    pen.add(Box(rect, part, on_stream=True))
    pen.y = rect.bottom()
    return rect


def _added(pen: _Pen, part: Part) -> None:
    """A box whose value is added to the stream from the side."""
    _flow(pen)
    rect = QRectF(BRANCH_X, pen.y, pen.right - BRANCH_X, pen.row)
    middle = QPointF(STREAM_X, rect.center().y())
    pen.add(Box(rect, part), Line((QPointF(rect.left(), middle.y()), QPointF(STREAM_X + 7, middle.y())), arrow=True), Plus(middle))
    pen.y = rect.bottom()


def _block(pen: _Pen) -> None:
    spec = pen.spec
    pen.y += pen.gap + pen.line / 2
    frame_top = pen.y
    at = len(pen.items)
    pen.y += pen.line / 2 + 2
    steps = spec.block if spec.block is not None else (Step("attention"), Step("mlp"))
    for step in steps:
        if isinstance(step, Join):
            _join(pen, step)
        elif step.op == "scale":
            _scale(pen, step, pen.y + pen.line)
            pen.y += 2 * pen.line
        else:
            _flow(pen)
            _box(pen, spec.part(step.op), EDGE + 6, pen.right - 6, pen.y, on_stream=True)
            pen.y = _bottom(pen)
    pen.y += max(4.0, pen.gap - 2)
    frame = QRectF(EDGE, frame_top, pen.right - EDGE, pen.y - frame_top)
    times = f"× {spec.n_layers} · {spec.placement}"
    pen.items.insert(at, Frame(frame, times))


def _bottom(pen: _Pen) -> float:
    boxes = [i.rect.bottom() for i in pen.items if isinstance(i, Box)]
    return boxes[-1]


def _join(pen: _Pen, join: Join) -> None:
    left, right = BRANCH_X, pen.right - 8
    fork = pen.y + max(3.0, pen.gap / 2)
    pen.y = fork + pen.gap
    x = (left + right) / 2
    pen.add(Line((QPointF(STREAM_X, fork), QPointF(x, fork), QPointF(x, pen.y)), arrow=True))
    for step in join.shared:
        _branch_step(pen, step, left, right)
    lanes = _lanes(left, right, len(join.branches))
    top = pen.y
    if len(lanes) > 1:
        split = fork if not join.shared else top - pen.gap / 2
        start = STREAM_X if not join.shared else x
        if not join.shared:
            pen.items.pop()  # each lane has its own line from the fork
        for one, other in lanes:
            middle = (one + other) / 2
            pen.add(Line((QPointF(start, split), QPointF(middle, split), QPointF(middle, top)), arrow=True))
    ends: list[tuple[float, float]] = []
    for branch, (one, other) in zip(join.branches, lanes, strict=True):
        pen.y = top
        for step in branch:
            _branch_step(pen, step, one, other)
        ends.append(((one + other) / 2, pen.y - pen.gap))
    end = max(y for _, y in ends) + pen.gap + 3
    for middle, bottom in ends:
        pen.add(Line((QPointF(middle, bottom), QPointF(middle, end), QPointF(STREAM_X + 7, end)), arrow=True))
    for step in join.stream:
        _scale(pen, step, (fork + end) / 2)
    pen.add(Plus(QPointF(STREAM_X, end)))
    pen.y = end + 9


def _lanes(left: float, right: float, count: int) -> list[tuple[float, float]]:
    width = (right - left - 8 * (count - 1)) / count
    return [(left + n * (width + 8), left + n * (width + 8) + width) for n in range(count)]


def _branch_step(pen: _Pen, step: Step, left: float, right: float) -> None:
    """One box of a branch and the line to what follows it."""
    if step.op == "scale":
        width = pen.advance(_times(step)) + 10
        middle = (left + right) / 2
        pen.add(Chip(QRectF(middle - width / 2, pen.y, width, pen.line + 2), _times(step), "scale"))
        bottom = pen.y + pen.line + 2
    else:
        _box(pen, pen.spec.part(step.op), left, right, pen.y)
        bottom = _bottom(pen)
    pen.add(Line((QPointF((left + right) / 2, bottom), QPointF((left + right) / 2, bottom + pen.gap))))
    pen.y = bottom + pen.gap


def _box(pen: _Pen, part: Part, left: float, right: float, top: float, on_stream: bool = False) -> None:
    width = right - left
    if not isinstance(part, Attention):
        height = pen.line + 5 if part.role == "norm" else pen.row
        box = QRectF(left, top, width, height)
        shape = _shape(pen, part, box) if isinstance(part, Mlp) else None
        pen.add(Box(box, part, on_stream, indent=shape.rect.width() + 6 if shape is not None else 0.0))
        if shape is not None:
            pen.add(shape)
        return
    inner = QRectF(left + 7, top + pen.line + 7, width - 14, pen.line)
    chips, below = _chips(pen, part.marks, inner, beside=width >= NARROW)
    height = pen.line + 7 + pen.line + (below - inner.bottom() if below > inner.bottom() else 0) + 6
    pen.add(Box(QRectF(left, top, width, height), part, on_stream))
    used = min((c.rect.left() for c in chips if c.rect.top() < inner.bottom()), default=inner.right() + 6) - 6
    pen.add(Heads(QRectF(inner.left(), inner.top(), max(used - inner.left(), 24), inner.height()), part.heads, part.kv_heads), *chips)


def _shape(pen: _Pen, part: Mlp, box: QRectF) -> Shape | None:
    """Before the title, where that leaves it whole."""
    if box.width() - 14 - SHAPE - 6 < pen.advance(part.title) * BOLD:
        return None
    return Shape(QRectF(box.left() + 7, box.top() + 5, SHAPE, box.height() - 10), part.gated)


def _chips(pen: _Pen, marks: tuple[str, ...], inner: QRectF, beside: bool) -> tuple[list[Chip], float]:
    """Marks from the right on the line of the heads while they take no more than its half, then on lines below."""
    chips: list[Chip] = []
    x, y = inner.right(), inner.top() if beside else inner.bottom() + 3
    least = inner.left() + inner.width() * 0.5 if beside else inner.left()
    for mark in marks:
        width = min(pen.advance(mark) * 0.92 + 10, inner.width())
        if x - width < least and (x < inner.right() or beside):
            x, y = inner.right(), (inner.bottom() + 3 if y < inner.bottom() else y + pen.line + 3)
            least = inner.left()
        chips.append(Chip(QRectF(x - width, y, width, pen.line), mark, "mark"))
        x -= width + 4
    return chips, max((c.rect.bottom() for c in chips), default=inner.bottom())


def _scale(pen: _Pen, step: Step, y: float) -> None:
    """A factor on the stream."""
    width = pen.advance(_times(step)) + 6
    left = max(STREAM_X - width / 2, 1.0)
    pen.add(Chip(QRectF(left, y - pen.line / 2, width, pen.line), _times(step), "scale"))


def _times(step: Step) -> str:
    return f"×{step.factor:.2f}" if step.factor < 10 else f"×{step.factor:.1f}"
