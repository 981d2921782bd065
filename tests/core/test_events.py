"""Events as JSON lines."""

from __future__ import annotations

import copy
import json
import time
from dataclasses import FrozenInstanceError, dataclass

import pytest

from workbench.core.events import Event, Notice, Phase, Progress


@dataclass(frozen=True, kw_only=True)
class Tick(Event):
    name = "tick"
    index: int


def test_json_has_the_name_first_then_the_fields() -> None:
    line = Progress(message="Loading", done=3, total=10, unit="tensors").to_json()
    assert json.loads(json.dumps(line)) == {"event": "progress", "message": "Loading", "done": 3, "total": 10, "unit": "tensors"}
    assert next(iter(line)) == "event"


def test_metrics_appear_only_when_there_are_some() -> None:
    assert Tick(index=1).to_json() == {"event": "tick", "index": 1}
    assert Tick(index=1, metrics={"loss": 0.5}).to_json() == {"event": "tick", "index": 1, "metrics": {"loss": 0.5}}


def test_unknown_totals_are_null() -> None:
    assert json.loads(json.dumps(Progress(message="x").to_json()))["total"] is None


def test_only_progress_may_be_dropped() -> None:
    assert Progress.coalesce
    assert not any(kind.coalesce for kind in (Event, Notice, Phase, Tick))


def test_events_are_stamped_and_frozen() -> None:
    before = time.perf_counter()
    event = Notice(message="x")
    assert before <= event.at <= time.perf_counter()
    with pytest.raises(FrozenInstanceError):
        event.message = "y"  # type: ignore[misc]
    assert copy.deepcopy(event) == event


def test_events_do_not_share_their_metrics() -> None:
    assert Tick(index=1).metrics is not Tick(index=2).metrics
