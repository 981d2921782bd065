"""Two runs side by side in one chart: both losses, and below them, over the same steps, their difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QSplitter, QVBoxLayout, QWidget

from ui.plots.live_plot import LivePlot
from workbench.core.events import Event
from workbench.core.metrics import EVAL_LOSS_A, EVAL_LOSS_B, LOSS_A, LOSS_B, LOSS_DIFFERENCE, PLOTS, PlotInfo

LOSSES: Final = (LOSS_A, LOSS_B, EVAL_LOSS_A, EVAL_LOSS_B)
COLOURS: Final = {LOSS_A.name: 0, LOSS_B.name: 1, EVAL_LOSS_A.name: 0, EVAL_LOSS_B.name: 1}
DIFFERENCE_COLOUR: Final = 2
AXIS_WIDTH: Final = 58
SHARES: Final = (3, 2)


class PairPlot(QWidget):
    """Fed with events; drawn by `refresh`, as its owner's clock says."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        info = PLOTS[LOSS_A.plot]
        waiting = "The curves begin with the first step."
        self.losses = LivePlot(info, LOSSES, empty_text=waiting, colours=COLOURS)
        title = f"{LOSS_DIFFERENCE.label} ({info.unit}): below 0, B is ahead"
        strip = PlotInfo(LOSS_DIFFERENCE.plot, title, LOSS_DIFFERENCE.label, "", overlay=False)
        self.difference = LivePlot(strip, [LOSS_DIFFERENCE], empty_text=waiting, colours={LOSS_DIFFERENCE.name: DIFFERENCE_COLOUR})
        self.difference.add_reference("equal", 0.0, "", estimated=False)
        self.difference.share_width(self.losses)
        for plot in (self.losses, self.difference):
            plot.canvas.axes[1].setWidth(AXIS_WIDTH)  # the steps of both stand above each other
        split = QSplitter(Qt.Orientation.Vertical, childrenCollapsible=False)
        for index, plot in enumerate((self.losses, self.difference)):
            split.addWidget(plot)
            split.setStretchFactor(index, SHARES[index])
        split.setSizes([100 * share for share in SHARES])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(split)

    def clear(self) -> None:
        """Forget every point."""
        self.losses.clear()
        self.difference.clear()

    def follow(self, events: Iterable[Event]) -> bool:
        """Take in what compares two runs; True when there was something."""
        points: dict[str, tuple[list[float], list[float]]] = {}
        for event in events:
            for name, value in _compared(event):
                xs, ys = points.setdefault(name, ([], []))
                xs.append(float(getattr(event, "step", 0)))
                ys.append(value)
        for name, (xs, ys) in points.items():
            plot = self.difference if name == LOSS_DIFFERENCE.name else self.losses
            plot.extend(name, xs, ys)
        return bool(points)

    def refresh(self) -> None:
        """Redraw what has changed."""
        self.losses.refresh()
        self.difference.refresh()


def _compared(event: Event) -> list[tuple[str, float]]:
    """The metrics of a pair in `event`. Only the event that compares both counts where there is one for each run too."""
    if event.name != "pair":
        return []
    metrics: Mapping[str, float] = event.metrics
    return [(m.name, metrics[m.name]) for m in (*LOSSES, LOSS_DIFFERENCE) if m.name in metrics]
