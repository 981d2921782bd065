"""Who may run beside whom, and the one clock that carries events to the window."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import shiboken6
from PySide6.QtCore import QObject, Qt, QThread, QTimer, Signal, Slot

from ui.jobs.queue import EventQueue
from ui.jobs.worker import EventWorker, JobFailure, Make
from workbench.core.control import Control
from workbench.core.errors import BusyError
from workbench.core.events import Event, Phase, Progress

if TYPE_CHECKING:
    from ui.services import AppBus

CLOCK_MS: Final = 40
MAX_BATCH: Final = 2_000
"""Events handed over per tick and job; what is left waits for the next tick."""

BLOCKED_BY: Final[dict[str, frozenset[str]]] = {
    "model": frozenset({"model", "chat", "train"}),
    "chat": frozenset({"model", "chat"}),
    "train": frozenset({"model", "train"}),
    "background": frozenset(),
}
FIRST_WORD: Final = {"model": "Loading", "chat": "Generating", "train": "Checking data", "background": "Loading"}
PROGRESS_WORDS: Final = ("Idle", "Loading", "Checking data", "Training", "Generating", "Paused", "Saving", "Done", "Stopped", "Failed")
FINAL_WORDS: Final = frozenset({"Done", "Stopped", "Failed"})

OnEvents = Callable[[list[Event]], Any]


@dataclass(frozen=True)
class JobProgress:
    """How far a job is: `done` of `total` (None: not known) `unit`s, and the seconds left as far as known."""

    done: float = 0
    total: float | None = None
    unit: str = ""
    message: str = ""
    eta_seconds: float | None = None


class Job(QObject):
    """One piece of long work: its control, its word, how far it is. Lives on the GUI thread; made by `JobRunner.start`."""

    changed = Signal()
    """The state or the progress is another one; at most once per tick of the clock."""
    ended = Signal(object)

    def __init__(
        self,
        title: str,
        make: Make,
        lane: str,
        on_events: OnEvents | None,
        on_done: Callable[[Any], Any] | None,
        on_failed: Callable[[JobFailure], Any] | None,
        on_finished: Callable[[], Any] | None,
        runner: JobRunner,
    ) -> None:
        super().__init__()
        self._runner = runner
        self.title = title
        self.lane = lane
        self.control = Control()
        self.started_at = time.perf_counter()
        self.progress = JobProgress()
        self.result: Any = None
        self.failure: JobFailure | None = None
        self.failure_shown = False
        self._word = FIRST_WORD[lane]
        self._progress_since = self.started_at
        self._callbacks = [on_events, on_done, on_failed, on_finished]
        self.queue = EventQueue()
        self.worker: EventWorker | None = EventWorker(make, self.control, self.queue)
        self.qthread = QThread()
        self.qthread.setObjectName(f"job:{lane}")
        self.worker.moveToThread(self.qthread)
        self.qthread.started.connect(self.worker.run)
        self.worker.succeeded.connect(self._on_succeeded)
        self.worker.failed.connect(self._on_failed)
        # Direct: the thread must end even while the GUI thread is blocked in `wait`.
        self.worker.finished.connect(self.qthread.quit, Qt.ConnectionType.DirectConnection)
        self.qthread.finished.connect(self._on_thread_finished)

    # ---- for panels ----------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """The progress word."""
        return "Paused" if self.control.paused and self.running else self._word

    @property
    def running(self) -> bool:
        return self._word not in FINAL_WORDS

    @property
    def stopping(self) -> bool:
        return self.running and self.control.stopping

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started_at

    def stop(self, save: bool = True) -> None:
        """Ask the work to end at its next step or token; with `save` it keeps what it has."""
        self.control.stop(save=save)
        self.changed.emit()

    def pause(self) -> None:
        if self.running:
            self.control.pause()
            self.changed.emit()

    def resume(self) -> None:
        self.control.resume()
        self.changed.emit()

    # ---- for the runner ------------------------------------------------------------------------------------------

    def hand_over(self, limit: int | None) -> list[Event]:
        """Take waiting events, follow them, and pass them to the one who started the job."""
        batch = self.queue.drain(limit)
        if batch:
            for event in batch:
                self.follow(event)
            self._call(0, batch)
            self.changed.emit()
        return batch

    def follow(self, event: Event) -> None:
        """Take the word and the progress from one event."""
        if isinstance(event, Phase):
            self._word = event.word if event.word not in FINAL_WORDS | {"Paused"} else self._word
        elif isinstance(event, Progress):
            if event.message != self.progress.message or event.done < self.progress.done:
                self._progress_since = event.at
            self.progress = JobProgress(event.done, event.total, event.unit, event.message, self._eta(event))
        elif event.name == "step":  # the engine's own class would pull torch into the start of the window
            eta = getattr(event, "eta_seconds", None)
            self.progress = JobProgress(getattr(event, "step", 0), getattr(event, "of", None), "steps", "", eta)
        elif event.name == "token":
            self.progress = JobProgress(getattr(event, "index", 0) + 1, None, "tokens")

    def _eta(self, event: Progress) -> float | None:
        spent = event.at - self._progress_since
        if not event.total or event.done <= 0 or spent < 0.5:
            return None
        return spent * (event.total - event.done) / event.done

    @Slot(object)
    def _on_succeeded(self, result: object) -> None:
        self.result = result
        reason = getattr(result, "reason", "stopped" if self.control.stopping else "done")
        self._settle({"failed": "Failed", "stopped": "Stopped"}.get(str(reason), "Done"))
        self._call(1, result)

    @Slot(object)
    def _on_failed(self, failure: object) -> None:
        assert isinstance(failure, JobFailure)
        self.failure = failure
        self._settle("Failed")
        self.failure_shown = self._call(2, failure) is True

    def _settle(self, word: str) -> None:
        self._runner.flush(self)  # everything the work said comes before how it ended
        self._word = word
        self.changed.emit()

    @Slot()
    def _on_thread_finished(self) -> None:
        self.qthread.wait()
        self.worker = None
        self._call(3)
        self._callbacks = [None] * 4
        self.ended.emit(self)

    def _call(self, which: int, *args: Any) -> Any:
        """Call a panel's callback; an error in it is reported and does not derail the job."""
        callback = self._callbacks[which]
        owner = getattr(callback, "__self__", None)
        if callback is None or (isinstance(owner, QObject) and not shiboken6.isValid(owner)):
            return None
        try:
            return callback(*args)
        except Exception:
            sys.excepthook(*sys.exc_info())
            return None


class JobRunner(QObject):
    """Owns every job's thread. `start` refuses what its lane does not allow; one timer hands all events over."""

    idle = Signal()
    """The last running job has ended."""
    late = Signal(object)
    """After `shutdown`: the jobs that have not stopped within its timeout."""

    def __init__(self, bus: AppBus, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._bus = bus
        self._jobs: list[Job] = []
        self._closing = False
        self.clock = QTimer(self)
        self.clock.setInterval(CLOCK_MS)
        self.clock.timeout.connect(self._tick)
        self._deadline = QTimer(self)
        self._deadline.setSingleShot(True)
        self._deadline.timeout.connect(self._report_late)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Jobs that still own a thread, oldest first."""
        return tuple(self._jobs)

    def running(self, lane: str) -> Job | None:
        """The newest job of a lane, or None."""
        return next((j for j in reversed(self._jobs) if j.lane == lane), None)

    def blocker(self, lane: str) -> Job | None:
        """The job that keeps `lane` from starting one, or None."""
        return next((j for j in self._jobs if j.lane in BLOCKED_BY[lane]), None)

    def start(
        self,
        title: str,
        make: Make,
        lane: str = "background",
        *,
        on_events: OnEvents | None = None,
        on_done: Callable[[Any], Any] | None = None,
        on_failed: Callable[[JobFailure], Any] | None = None,
        on_finished: Callable[[], Any] | None = None,
    ) -> Job:
        """Run `make(control)` on a thread of its own. All callbacks come on the GUI thread, in this order: `on_events` (batches),
        `on_done(result)` or `on_failed(failure)`, `on_finished()`. A failure is shown in the message bar too, unless `on_failed`
        returns True. Raises `BusyError` naming the job that is in the way."""
        if self._closing:
            raise BusyError("The window is closing.", hint="Start it again to go on working.")
        blocker = self.blocker(lane)
        if blocker is not None:
            raise BusyError(f"“{blocker.title}” is still running.", hint="Wait until it is done, or stop it with Ctrl+.")
        job = Job(title, make, lane, on_events, on_done, on_failed, on_finished, self)
        assert job.worker is not None
        job.worker.ready.connect(self._wake)
        job.ended.connect(self._on_ended)
        self._jobs.append(job)
        self._bus.job_started.emit(job)
        job.qthread.start()
        return job

    def flush(self, job: Job) -> None:
        """Hand over everything that waits in one job's queue."""
        batch = job.hand_over(None)
        if batch:
            self._bus.events.emit(batch)

    def shutdown(self, save: bool = True, timeout: float = 30.0) -> bool:
        """Stop everything and start nothing more. True when nothing runs any more; else wait for `idle`, or for `late` after
        `timeout` seconds. Never blocks."""
        self._closing = True
        for job in self._jobs:
            job.stop(save)
        if self._jobs:
            self._deadline.start(int(timeout * 1000))
        return not self._jobs

    def wait_blocking(self, timeout: float) -> bool:
        """For the way out after the event loop has ended: join every thread; False when one is still running."""
        self._closing = True
        end = time.monotonic() + timeout
        for job in self._jobs:
            job.stop()
        waited = [job.qthread.wait(max(0, int((end - time.monotonic()) * 1000))) for job in self._jobs]
        return all(waited)

    @Slot()
    def _wake(self) -> None:
        if not self.clock.isActive():
            self.clock.start()

    @Slot()
    def _tick(self) -> None:
        left = False
        for job in tuple(self._jobs):
            batch = job.hand_over(MAX_BATCH)
            if batch:
                self._bus.events.emit(batch)
            left = left or bool(batch)
        if not left:  # a silent tick: sleep until a worker says `ready`
            self.clock.stop()

    @Slot(object)
    def _on_ended(self, job: Job) -> None:
        self._jobs.remove(job)
        self._bus.job_finished.emit(job)
        if not self._jobs:
            self._deadline.stop()
            self.idle.emit()

    @Slot()
    def _report_late(self) -> None:
        if self._jobs:
            self.late.emit(self.jobs)
