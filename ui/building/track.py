"""What is known of a run from scratch, or of two side by side, from what it said. Qt-free."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ui.training.run_track import RunTrack
from workbench.core.events import Event

RECENT: Final = 50
"""Newest differences of a pair that its noise is taken from."""
PAIR: Final = ("loss_a", "loss_b", "loss_difference", "eval_loss_a", "eval_loss_b")


@dataclass
class BuildTrack(RunTrack):
    """Fed with every event of a run. `guessed`: the number of steps is an estimate, as the run is as long as a time."""

    guessed: bool = False
    folder: Path | None = None
    """Of the run, or of the pair, once something was saved."""
    tokens: int = 0
    """Read so far, by each run."""
    pair: dict[str, float] = field(default_factory=dict)
    """The newest of each metric that compares two runs."""
    speeds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    differences: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def _on_event(self, event: Event) -> None:
        self.pair.update({name: value for name in PAIR if (value := event.metrics.get(name)) is not None})
        path = getattr(event, "path", None)
        if event.name == "save" and path is not None:
            self.folder = path.parent.parent if getattr(event, "run", "") else path.parent
        if event.name == "pair" and "loss_difference" in event.metrics:
            self.differences.append(event.metrics["loss_difference"])

    def _on_step(self, event: Event) -> None:
        super()._on_step(event)
        run: Any = getattr(event, "run", "")
        if run != "B":  # both read the same
            self.tokens += getattr(event, "tokens", 0)
        if self.speed is not None:
            self.speeds.append(self.speed)

    @property
    def typical_speed(self) -> float | None:
        """The median of the newest measured speeds, in tokens per second."""
        return sorted(self.speeds)[len(self.speeds) // 2] if self.speeds else None

    @property
    def noise(self) -> float | None:
        """Standard error of the mean of the newest differences; None of fewer than ten."""
        count = len(self.differences)
        if count < 10:
            return None
        mean = sum(self.differences) / count
        return math.sqrt(sum((d - mean) ** 2 for d in self.differences) / (count - 1) / count)

    def place(self) -> str:
        if not self.guessed or not self.of:
            return super().place()
        return f"step {self.step:,} of about {self.of:,}"

    def figures(self) -> str:
        if "loss_a" not in self.pair:
            return super().figures()
        parts = [f"A {self.pair['loss_a']:.3f}", f"B {self.pair.get('loss_b', math.nan):.3f}"]
        if "loss_difference" in self.pair:
            parts.append(f"B − A {self.pair['loss_difference']:+.3f}".replace("-", "−"))
        if self.speed is not None:
            parts.append(f"{self.speed:,.0f} tokens/s each")
        return " · ".join(parts)
