"""What is known of a run from what it said. Qt-free, and without the engine's classes: events are told apart by their name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from workbench.core.events import Event, Phase, Progress
from workbench.core.format import duration_text

LOSS, EVAL_LOSS, SPEED = "loss", "eval_loss", "train_tokens_per_second"


@dataclass
class RunTrack:
    """Fed with every event of a run; `of` is 0 before the first step."""

    step: int = 0
    of: int = 0
    eta_seconds: float | None = None
    first_loss: float | None = None
    loss: float | None = None
    eval_loss: float | None = None
    speed: float | None = None
    doing: str = ""
    saved_step: int = 0
    saved: Path | None = None

    def follow(self, events: Iterable[Event]) -> None:
        """Take in a batch of events, oldest first."""
        for event in events:
            self._on_event(event)
            if event.name == "step":
                self._on_step(event)
            elif event.name == "eval":
                self.eval_loss = event.metrics.get(EVAL_LOSS, self.eval_loss)
            elif event.name == "save":
                self.saved_step, self.saved = getattr(event, "step", 0), getattr(event, "path", None)
            elif isinstance(event, Progress):
                count = f" {event.done:,.0f}" + (f" of {event.total:,.0f}" if event.total else "") + f" {event.unit}"
                self.doing = event.message + (count.rstrip() if event.done else "")
            elif isinstance(event, Phase):
                self.doing = ""

    def _on_event(self, event: Event) -> None:
        """Every event, for tracks that know of more kinds."""

    def _on_step(self, event: Event) -> None:
        self.step, self.of = getattr(event, "step", 0), getattr(event, "of", 0)
        self.eta_seconds = getattr(event, "eta_seconds", None)
        self.loss = event.metrics.get(LOSS, self.loss)
        self.first_loss = self.loss if self.first_loss is None else self.first_loss
        self.speed = event.metrics.get(SPEED, self.speed)
        self.doing = ""

    def place(self) -> str:
        """ "step 12 of 60", or what is being done before the first step."""
        return f"step {self.step:,} of {self.of:,}" if self.of else self.doing

    def left(self) -> str:
        """ "1 min 05 s left", or nothing while that is not known."""
        return f"{duration_text(self.eta_seconds)} left" if self.eta_seconds is not None and self.step < self.of else ""

    def figures(self) -> str:
        """Loss, validation loss and speed, as far as they were measured."""
        parts = []
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        if self.eval_loss is not None:
            parts.append(f"validation {self.eval_loss:.3f}")
        if self.speed is not None:
            parts.append(f"{self.speed:,.0f} tokens/s")
        return " · ".join(parts)

    def outcome(self) -> str:
        """ "Loss 3.210 → 1.480, validation 1.602"."""
        if self.loss is None or self.first_loss is None:
            return ""
        validation = f", validation {self.eval_loss:.3f}" if self.eval_loss is not None else ""
        return f"Loss {self.first_loss:.3f} → {self.loss:.3f}{validation}."
