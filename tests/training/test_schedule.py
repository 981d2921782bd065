"""Learning-rate schedules against their formulas and against transformers."""

from __future__ import annotations

import pytest

from workbench.training.schedule import SCHEDULES, warmup_steps


@pytest.mark.parametrize("name", SCHEDULES)
def test_rises_from_zero_to_the_peak(name: str) -> None:
    schedule = SCHEDULES[name]
    assert [schedule.factor(step, 100, 4) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1.0]
    assert schedule.factor(0, 100, 0) == 1.0


@pytest.mark.parametrize(("name", "middle", "end"), [("constant", 1.0, 1.0), ("linear", 0.5, 0.0), ("cosine", 0.5, 0.0)])
def test_falls_as_its_name_says(name: str, middle: float, end: float) -> None:
    schedule = SCHEDULES[name]
    assert schedule.factor(60, 110, 10) == pytest.approx(middle)
    assert schedule.factor(110, 110, 10) == pytest.approx(end)
    assert schedule.factor(500, 110, 10) == pytest.approx(end)


def test_warm_up_is_rounded_up() -> None:
    assert [warmup_steps(60, r) for r in (0.0, 0.05, 0.051, 1.0)] == [0, 3, 4, 60]


@pytest.mark.parity
@pytest.mark.parametrize(("ours", "theirs"), [("constant", "constant_with_warmup"), ("linear", "linear"), ("cosine", "cosine")])
@pytest.mark.parametrize(("steps", "warmup"), [(20, 0), (20, 1), (37, 5), (10, 10), (1, 0)])
def test_equals_transformers(ours: str, theirs: str, steps: int, warmup: int) -> None:
    import torch
    import transformers

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3e-4)
    reference = transformers.get_scheduler(theirs, optimizer, warmup, steps)
    for step in range(steps):
        assert 3e-4 * SCHEDULES[ours].factor(step, steps, warmup) == pytest.approx(reference.get_last_lr()[0], rel=1e-9, abs=1e-15)
        optimizer.step()
        reference.step()
