"""How far a run is, by updates or by the clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.tools import drain, losses
from workbench.core.control import Control
from workbench.data import Dataset
from workbench.model import Transformer
from workbench.training import TrainConfig, train
from workbench.training.pace import ClockPace, StepPace
from workbench.training.schedule import SCHEDULES

Make = Callable[..., Transformer]
LINEAR = SCHEDULES["linear"]


class FakeClock:
    """A second goes by with every look."""

    def __init__(self, step: float = 1.0) -> None:
        self.now, self.step = 100.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def minutes(**changes: object) -> TrainConfig:
    base = {
        "max_minutes": 10 / 60, "learning_rate": 1e-2, "dtype": "float32", "eval_steps": None, "save_steps": None, "max_length": 32,
        "lr_scheduler_type": "linear", "warmup_ratio": 0.2,
    }  # fmt: skip
    return TrainConfig(**{**base, **changes})  # type: ignore[arg-type]


def test_steps_end_and_rise_as_the_schedule_says() -> None:
    pace = StepPace(10)
    assert [pace.over(n) for n in (0, 9, 10)] == [False, False, True]
    assert [pace.factor(n, LINEAR, 0.2) for n in (0, 1, 2, 6)] == [0.0, 0.5, 1.0, 0.5]
    assert (pace.planned(3), pace.left(4, 0.5)) == (10, 3.0)


def test_the_clock_ends_a_run_and_moves_the_rate() -> None:
    pace = ClockPace(10.0, FakeClock())
    seen = [(pace.over(n), pace.factor(n, LINEAR, 0.2)) for n in range(11)]
    assert [over for over, _ in seen] == [False] * 10 + [True]
    assert [rate for _, rate in seen] == pytest.approx([0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125, 0])
    assert pace.planned(5) == 10
    assert pace.left(4, 99.0) == 6.0


def test_the_answer_for_a_step_never_changes() -> None:
    pace = ClockPace(10.0, FakeClock())
    assert [pace.spent(n) for n in (0, 1, 1, 1, 2, 1)] == [0, 1, 1, 1, 2, 1]


def test_the_clock_of_two_that_resume_runs_forward() -> None:
    clock = FakeClock(0.0)
    pace = ClockPace(100.0, clock)
    pace.resume(10, 50.0)
    clock.now += 5.0  # the second run takes its time to load
    pace.resume(10, 50.0)
    assert pace.spent(10) == 50.0
    assert pace.spent(11) == 55.0
    clock.now += 1.0
    assert pace.spent(12) == 56.0


def test_time_away_does_not_count() -> None:
    pace = ClockPace(10.0, FakeClock())
    pace.spent(0)
    pace.away(100.0)
    assert pace.spent(1) == pytest.approx(-99.0)


def test_a_run_of_minutes_is_done_when_the_time_is_up(make_model: Make, data: Dataset) -> None:
    events, result = drain(train(make_model(), data, minutes(), pace=ClockPace(10.0, FakeClock())))
    steps = [e for e in events if e.name == "step"]
    assert (result.reason, result.steps) == ("done", 10)
    assert [e.metrics["learning_rate"] for e in steps] == pytest.approx(
        [1e-2 * f for f in (0, 0.5, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125)]
    )
    assert [e.of for e in steps] == [10] * 10
    assert [e.eta_seconds for e in steps] == [float(n) for n in range(9, -1, -1)]


def test_without_a_pace_the_minutes_are_real_ones(make_model: Make, data: Dataset) -> None:
    _, result = drain(train(make_model(), data, minutes(max_minutes=0.01)))  # 0.6 s
    assert result.reason == "done"
    assert result.steps > 1


def test_a_pause_takes_nothing_from_the_budget(make_model: Make, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    pace = ClockPace(10.0, FakeClock())
    away: list[float] = []
    monkeypatch.setattr(pace, "away", away.append)
    control = Control()
    for event in train(make_model(), data, minutes(), pace=pace, control=control):
        if event.name == "step" and event.step == 3:
            control.pause()
        if event.name == "phase" and event.word == "Paused":
            control.resume()
    assert len(away) == 1


def test_resumed_by_the_clock_equals_never_stopped(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    straight, _ = drain(train(make_model(), data, minutes(), pace=ClockPace(10.0, FakeClock())))
    control = Control()
    first = []
    for event in train(make_model(), data, minutes(), folder=tmp_path, pace=ClockPace(10.0, FakeClock()), control=control):
        if event.name == "step":
            first.append(event.metrics["loss"])
            if event.step == 4:
                control.stop()
    rest, result = drain(train(make_model(), data, minutes(), folder=tmp_path, pace=ClockPace(10.0, FakeClock()), resume=True))
    assert first + losses(rest) == losses(straight)
    assert (result.reason, result.steps) == ("done", 10)
