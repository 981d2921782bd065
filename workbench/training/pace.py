"""How far a run is: by its updates, or by the clock."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from workbench.training.schedule import Schedule, warmup_steps

Clock = Callable[[], float]


class Pace(ABC):
    """Says before each update (number `step`, from 0) how much of the run is done. The answer for a step never changes, so
    that two runs that share a pace stay side by side."""

    @abstractmethod
    def factor(self, step: int, schedule: Schedule, warmup_ratio: float) -> float:
        """Share of the peak learning rate that this update uses."""

    @abstractmethod
    def over(self, step: int) -> bool:
        """Whether the run ends before this update."""

    @abstractmethod
    def planned(self, step: int) -> int:
        """Updates of the whole run, as far as is known at this one."""

    @abstractmethod
    def left(self, step: int, seconds_each: float) -> float:
        """Seconds that are left, if an update takes `seconds_each`."""

    def spent(self, step: int) -> float:
        """Seconds of the budget that were used before this update."""
        return 0.0

    def resume(self, step: int, spent: float) -> None:
        """Go on at this update, after so many seconds of the budget; where no clock counts there is nothing to do. Of runs that
        share a pace the one that had spent most counts."""
        return

    def away(self, seconds: float) -> None:
        """So much time went by without work; it does not count."""
        return


class StepPace(Pace):
    """A fixed number of updates."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def factor(self, step: int, schedule: Schedule, warmup_ratio: float) -> float:
        return schedule.factor(step, self.steps, warmup_steps(self.steps, warmup_ratio))

    def over(self, step: int) -> bool:
        return step >= self.steps

    def planned(self, step: int) -> int:
        return self.steps

    def left(self, step: int, seconds_each: float) -> float:
        return seconds_each * (self.steps - step)


class ClockPace(Pace):
    """As many updates as fit into `seconds`, from the first question on. An update that has begun is finished."""

    def __init__(self, seconds: float, clock: Clock = time.perf_counter) -> None:
        self.seconds = seconds
        self._clock = clock
        self._begun: float | None = None
        self._spent: dict[int, float] = {}

    def spent(self, step: int) -> float:
        if step not in self._spent:
            now = self._clock()
            if self._begun is None:
                self._begun = now
            self._spent[step] = now - self._begun
            self._spent.pop(step - 64, None)
        return self._spent[step]

    def resume(self, step: int, spent: float) -> None:
        self._spent.setdefault(step, spent)
        begun = self._clock() - spent
        self._begun = begun if self._begun is None else min(self._begun, begun)

    def away(self, seconds: float) -> None:
        if self._begun is not None:
            self._begun += seconds

    def factor(self, step: int, schedule: Schedule, warmup_ratio: float) -> float:
        return schedule.factor(self.spent(step), self.seconds, self.seconds * warmup_ratio)

    def over(self, step: int) -> bool:
        return self.spent(step) >= self.seconds

    def planned(self, step: int) -> int:
        spent = self.spent(step)
        return max(step, math.ceil(step * self.seconds / spent)) if spent > 0 else step + 1

    def left(self, step: int, seconds_each: float) -> float:
        return max(0.0, self.seconds - self.spent(step))
