"""Jobs: order of callbacks, lanes, words, pausing, the clock, and an end that leaves no thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from PySide6.QtCore import QObject, Qt, QTimer
from pytestqt.qtbot import QtBot

from ui.jobs.runner import BLOCKED_BY, MAX_BATCH, Job
from ui.services import Services
from workbench.core.control import Control
from workbench.core.errors import BusyError, DataError
from workbench.core.events import Event, Phase, Progress


@dataclass(frozen=True, kw_only=True)
class Step(Event):
    name: ClassVar[str] = "step"
    step: int
    of: int = 60
    eta_seconds: float = 9.0


def _steps(count: int) -> Callable[[Control], Generator[Event, None, str]]:
    def work(control: Control) -> Generator[Event, None, str]:
        yield Phase(word="Training")
        for n in range(count):
            yield Step(step=n + 1)
        return "all"

    return work


def _begin(services: Services, qtbot: QtBot, work: Any, lane: str, title: str = "work") -> Job:
    job = services.jobs.start(title, work, lane)
    qtbot.waitUntil(work.begun.is_set)
    return job


def test_events_come_before_the_result_and_the_end_comes_last(services: Services, qtbot: QtBot) -> None:
    said: list[Any] = []
    bus = services.bus
    bus.job_started.connect(lambda job: said.append("bus started"))
    bus.job_finished.connect(lambda job: said.append("bus finished"))
    with qtbot.waitSignal(bus.job_finished, timeout=5000):
        job = services.jobs.start(
            "count", _steps(3000), "train", on_events=lambda batch: said.extend(e.step for e in batch if isinstance(e, Step)),
            on_done=lambda result: said.append(result), on_finished=lambda: said.append("finished"),
        )  # fmt: skip
    assert said[0] == "bus started"
    assert said[1:3001] == list(range(1, 3001))
    assert said[3001:] == ["all", "finished", "bus finished"]
    assert job.state == "Done"
    assert services.jobs.jobs == ()


def test_every_batch_reaches_the_bus(services: Services, qtbot: QtBot) -> None:
    steps: list[int] = []
    services.bus.events.connect(lambda batch: steps.extend(e.step for e in batch if isinstance(e, Step)))
    with qtbot.waitSignal(services.bus.job_finished, timeout=5000):
        services.jobs.start("count", _steps(50), "train")
    assert steps == list(range(1, 51))


@pytest.mark.parametrize("running", BLOCKED_BY)
@pytest.mark.parametrize("wanted", BLOCKED_BY)
def test_lanes(services: Services, qtbot: QtBot, gate: Any, running: str, wanted: str) -> None:
    allowed = "background" in (running, wanted) or {running, wanted} == {"chat", "train"}
    _begin(services, qtbot, gate(), running, "the first")
    if allowed:
        _begin(services, qtbot, gate(), wanted)
        assert len(services.jobs.jobs) == 2
    else:
        with pytest.raises(BusyError, match="the first"):
            services.jobs.start("the second", gate(), wanted)
        assert len(services.jobs.jobs) == 1


def test_a_lane_is_free_again_when_the_job_has_ended(services: Services, qtbot: QtBot) -> None:
    for _ in range(2):
        with qtbot.waitSignal(services.bus.job_finished, timeout=5000):
            services.jobs.start("load", _steps(1), "model")


def test_a_paused_job_says_so_and_goes_on_where_it_was(services: Services, qtbot: QtBot, gate: Any) -> None:
    work = gate("Training")
    job = _begin(services, qtbot, work, "train")
    qtbot.waitUntil(lambda: job.state == "Training")
    job.pause()
    assert job.state == "Paused"
    assert job.running
    job.resume()
    assert job.state == "Training"
    with qtbot.waitSignal(services.bus.job_finished, timeout=5000):
        work.through.set()
    assert job.state == "Done"
    assert job.result == "through"


def test_stopping_a_paused_job_ends_it(services: Services, qtbot: QtBot, gate: Any) -> None:
    job = _begin(services, qtbot, gate(), "train")
    job.pause()
    with qtbot.waitSignal(services.bus.job_finished, timeout=5000):
        job.stop(save=False)
        assert job.stopping
    assert job.state == "Stopped"
    assert job.control.save_on_stop is False


def test_a_result_that_names_its_reason_decides_the_word(services: Services, qtbot: QtBot) -> None:
    @dataclass
    class Result:
        reason: str

    for reason, word in (("done", "Done"), ("stopped", "Stopped"), ("failed", "Failed")):
        with qtbot.waitSignal(services.bus.job_finished, timeout=5000) as ended:
            services.jobs.start("run", lambda control, reason=reason: Result(reason), "train")
        assert ended.args[0].state == word


def test_progress_and_steps_are_followed(services: Services, qtbot: QtBot, gate: Any) -> None:
    job = _begin(services, qtbot, gate(), "train")
    qtbot.waitUntil(lambda: job.progress.done == 12)
    assert (job.progress.total, job.progress.unit) == (60, "steps")
    with qtbot.waitSignal(services.bus.job_finished, timeout=5000) as ended:
        services.jobs.start("count", _steps(7), "background")
    progress = ended.args[0].progress
    assert (progress.done, progress.total, progress.eta_seconds) == (7, 60, 9.0)


def test_the_time_left_follows_from_the_time_spent(services: Services, qtbot: QtBot, gate: Any) -> None:
    job = _begin(services, qtbot, gate(), "background")
    for done, at in ((0, 10.0), (25, 15.0)):
        job.follow(Progress(message="fetch", done=done, total=100, at=at))
    assert job.progress.eta_seconds == pytest.approx(15.0)
    job.follow(Progress(message="unpack", done=1, total=2, at=16.0))
    assert job.progress.eta_seconds is None  # other work has just begun: nothing is known yet


class TestFailures:
    def test_a_failed_job_says_why(self, services: Services, qtbot: QtBot) -> None:
        def work(control: Control) -> Generator[Event, None, None]:
            yield Phase(word="Training")
            raise DataError("No rows.", hint="Choose another file.")

        heard: list[Any] = []
        with qtbot.waitSignal(services.bus.job_finished, timeout=5000) as ended, qtbot.waitSignal(services.notify.posted) as shown:
            services.jobs.start("tune", work, "train", on_done=heard.append, on_failed=heard.append)
        job = ended.args[0]
        assert job.state == "Failed"
        assert [f.message for f in heard] == ["No rows."]
        assert (shown.args[0].level, shown.args[0].hint) == ("error", "Choose another file.")

    def test_a_panel_that_shows_the_failure_itself_spares_the_bar(self, services: Services, qtbot: QtBot) -> None:
        def work(control: Control) -> None:
            raise DataError("No rows.")

        shown: list[Any] = []
        services.notify.posted.connect(shown.append)
        with qtbot.waitSignal(services.bus.job_finished, timeout=5000):
            services.jobs.start("tune", work, "train", on_failed=lambda failure: True)
        qtbot.waitUntil(lambda: services.notify.log.rowCount() == 1)
        assert shown == []

    def test_an_error_in_a_callback_is_reported_and_the_job_still_ends(self, services: Services, qtbot: QtBot) -> None:
        def broken(batch: list[Event]) -> None:
            raise RuntimeError("in the panel")

        with qtbot.captureExceptions() as caught, qtbot.waitSignal(services.bus.job_finished, timeout=5000) as ended:
            services.jobs.start("count", _steps(3), "train", on_events=broken)
        assert {str(e[1]) for e in caught} == {"in the panel"}
        assert ended.args[0].state == "Done"

    def test_a_panel_that_is_gone_is_not_called(self, services: Services, qtbot: QtBot, gate: Any) -> None:
        class Owner(QObject):
            def on_done(self, result: object) -> None:
                self.setObjectName("touching it would raise")

        import shiboken6

        owner, work = Owner(), gate()
        services.jobs.start("tune", work, "train", on_done=owner.on_done)
        shiboken6.delete(owner)
        with qtbot.waitSignal(services.bus.job_finished, timeout=5000):
            work.through.set()


class TestClock:
    def test_it_stands_still_while_a_job_says_nothing(self, services: Services, qtbot: QtBot, gate: Any) -> None:
        job = _begin(services, qtbot, gate(), "train")
        qtbot.waitUntil(lambda: not services.jobs.clock.isActive())
        assert job.running

    def test_a_flood_loses_nothing_and_leaves_the_window_alive(self, services: Services, qtbot: QtBot) -> None:
        count, late, batches = 60_000, [], []
        probe = QTimer(interval=10, timerType=Qt.TimerType.PreciseTimer)
        last = time.perf_counter()

        def tick() -> None:
            nonlocal last
            now = time.perf_counter()
            late.append(max(0.0, now - last - 0.010))
            last = now

        probe.timeout.connect(tick)
        probe.start()
        with qtbot.waitSignal(services.bus.job_finished, timeout=20_000) as ended:
            services.jobs.start("flood", _steps(count), "train", on_events=batches.append)
        probe.stop()
        steps = [e.step for batch in batches for e in batch if isinstance(e, Step)]
        assert steps == list(range(1, count + 1))
        assert all(len(b) <= MAX_BATCH for b in batches[:-1])  # the last one is what waited when the work ended
        assert ended.args[0].state == "Done"
        late.sort()
        assert late[int(0.95 * len(late))] < 0.050


class TestShutdown:
    def test_two_running_jobs_end_and_leave_no_thread(self, services: Services, qtbot: QtBot, gate: Any) -> None:
        jobs = [_begin(services, qtbot, gate(), lane) for lane in ("chat", "train")]
        with qtbot.waitSignal(services.jobs.idle, timeout=5000):
            assert services.jobs.shutdown(save=False) is False
        assert all(not job.qthread.isRunning() and job.state == "Stopped" for job in jobs)
        assert services.jobs.shutdown() is True

    def test_nothing_starts_afterwards(self, services: Services) -> None:
        services.jobs.shutdown()
        with pytest.raises(BusyError, match="closing"):
            services.jobs.start("more", _steps(1))

    def test_a_job_that_does_not_stop_is_reported(self, services: Services, qtbot: QtBot, gate: Any) -> None:
        work = gate()

        def deaf(control: Control) -> Generator[Event, None, None]:
            yield from work(Control())

        job = services.jobs.start("deaf", deaf, "train")
        qtbot.waitUntil(work.begun.is_set)
        with qtbot.waitSignal(services.jobs.late, timeout=5000) as late:
            services.jobs.shutdown(timeout=0.01)
        assert late.args[0] == (job,)
        with qtbot.waitSignal(services.jobs.idle, timeout=5000):
            work.through.set()

    def test_threads_can_be_joined_without_an_event_loop(self, services: Services, qtbot: QtBot, gate: Any) -> None:
        job = _begin(services, qtbot, gate(), "train")
        assert services.jobs.wait_blocking(5.0)
        assert job.qthread.isFinished()
