"""The run as it goes on: what is trained, for a pair both curves with what differs and who is ahead, and what the model writes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

from PySide6.QtCore import QTimer, Slot
from PySide6.QtGui import QFont, QHideEvent, QShowEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from ui.building.diff_table import DiffTable
from ui.building.timeline import Timeline
from ui.building.words import ONE_SEED
from ui.plots.pair_plot import PairPlot
from ui.theme import LARGE, MEDIUM, SMALL, Theme
from ui.widgets.columns import Columns
from ui.widgets.labels import ElidingLabel
from ui.widgets.text import Muted, wrapping
from workbench.core.events import Event
from workbench.requests import PairRequest, PretrainRequest

CLOCK_MS: Final = 100
PAIR_HEIGHT: Final = 360
SEED_WORDS: Final = "Same data, same seed ({seed}), same batches in the same order."


def waiting_words(train: Any) -> str:
    """When the first sample comes."""
    if train.sample_every is None:
        return "This run writes no samples (More settings, Samples)."
    return f"The first sample comes after step {train.sample_every:,}: what the model would write by itself."


class Stage(QWidget):
    """Empty before the first run."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._started = 0.0
        self._losses: dict[str, float] = {}
        self.title = ElidingLabel()
        bold = QFont(self.title.font())
        bold.setWeight(QFont.Weight.DemiBold)
        self.title.setFont(bold)
        self.facts = Muted()
        self.pair = PairPlot()
        self.pair.setFixedHeight(PAIR_HEIGHT)
        self.diff = DiffTable(theme)
        self.same = Muted()
        self.verdict = wrapping(name="verdict")
        self.verdict.setFont(bold)
        self.pair_part = Columns(spacing=LARGE, shares=(3, 2))
        self.pair_part.left.addWidget(self.pair)
        self.one_seed = Muted(ONE_SEED)
        self.one_seed.hide()
        for widget in (self._head("What differs", bold), self.diff, self.same, self.verdict, self.one_seed):
            self.pair_part.right.addWidget(widget)
        self.pair_part.right.setSpacing(MEDIUM)
        self.pair_part.right.addStretch(1)
        self.timeline = Timeline(theme)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(MEDIUM)
        column = QVBoxLayout(spacing=SMALL)
        column.addWidget(self.title)
        column.addWidget(self.facts)
        layout.addLayout(column)
        layout.addWidget(self.pair_part)
        layout.addWidget(self._head("What it writes", bold))
        layout.addWidget(self.timeline)
        layout.addStretch(1)
        self._clock = QTimer(self, interval=CLOCK_MS)
        self._clock.timeout.connect(self._tick)
        theme.changed.connect(self._wake)

    @staticmethod
    def _head(text: str, font: QFont) -> ElidingLabel:
        label = ElidingLabel(text)
        label.setFont(font)
        return label

    def begin(self, request: PretrainRequest | PairRequest, name: str, facts: str, resumed: bool = False) -> None:
        """A run starts; a resumed one goes on with what is shown."""
        self._started = time.perf_counter()
        pair = isinstance(request, PairRequest)
        a = request.a if isinstance(request, PairRequest) else request
        self.title.set_full_text(f"{name}: A and B" if pair else name)
        self.facts.setText(facts)
        self.pair_part.setVisible(pair)
        self.say("")
        if isinstance(request, PairRequest):
            self.diff.show_configs(request.a.model, request.b.model)
            self.same.setText(SEED_WORDS.format(seed=a.train.seed))
        if not resumed:
            self._losses = {}
            self.pair.clear()
            self.timeline.clear(waiting_words(a.train))

    def follow(self, events: Iterable[Event]) -> None:
        """Take in a batch of events."""
        events = list(events)
        for event in events:
            run = getattr(event, "run", "")
            loss = event.metrics.get(f"loss_{run.lower()}" if run else "loss")
            if loss is not None:
                self._losses[run] = loss
            if event.name == "sample":
                self.timeline.add(event, event.at - self._started, self._losses.get(run))
        if self.pair.follow(events):
            self._wake()

    def end(self) -> None:
        """The run is over: what has not come will not come."""
        if not self.timeline.cards:
            self.timeline.clear("The run ended before its first sample.")

    def say(self, verdict: str) -> None:
        """Which of the two is better, in plain words."""
        self.verdict.setText(verdict)
        for label in (self.verdict, self.one_seed):
            label.setVisible(bool(verdict))

    @Slot()
    def _wake(self) -> None:
        if self.isVisible() and not self._clock.isActive():
            self._clock.start()

    @Slot()
    def _tick(self) -> None:
        if not (self.pair.losses.dirty or self.pair.difference.dirty):
            self._clock.stop()
            return
        self.pair.refresh()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._wake()

    def hideEvent(self, event: QHideEvent) -> None:
        self._clock.stop()
        super().hideEvent(event)


