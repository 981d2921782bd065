"""The one worker: `finished` comes exactly once and last, whatever was raised."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from ui.jobs.queue import EventQueue
from ui.jobs.worker import EventWorker, JobFailure, Make
from workbench.core.control import Control
from workbench.core.errors import DataError
from workbench.core.events import Event, Notice


class PanicException(BaseException):
    """As Rust extensions raise it: no Exception."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


def _run(make: Make, control: Control | None = None, queue: EventQueue | None = None) -> list[tuple[str, Any]]:
    """Every signal of a worker that runs here and now, in order."""
    worker = EventWorker(make, control or Control(), EventQueue() if queue is None else queue)
    said: list[tuple[str, Any]] = []
    worker.ready.connect(lambda: said.append(("ready", None)))
    worker.succeeded.connect(lambda result: said.append(("succeeded", result)))
    worker.failed.connect(lambda failure: said.append(("failed", failure)))
    worker.finished.connect(lambda: said.append(("finished", None)))
    worker.run()
    return said


def _counting(control: Control) -> Generator[Event, None, int]:
    for n in range(3):
        yield Notice(message=str(n))
    return 3


def test_the_value_of_the_generator_is_the_result(qtbot: QtBot) -> None:
    queue = EventQueue()
    assert _run(_counting, queue=queue) == [("ready", None), ("succeeded", 3), ("finished", None)]
    assert [e.message for e in queue.drain() if isinstance(e, Notice)] == ["0", "1", "2"]


def test_a_plain_function_may_be_run_too(qtbot: QtBot) -> None:
    assert _run(lambda control: {1: "one"}) == [("succeeded", {1: "one"}), ("finished", None)]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shape"), MemoryError(), KeyboardInterrupt(), SystemExit(1), GeneratorExit(), PanicException("rust"), Unprintable(),
     StopIteration(5), DataError("No rows.")],
    ids=lambda e: type(e).__name__,
)  # fmt: skip
@pytest.mark.parametrize("when", ["at once", "after an event"])
def test_finished_comes_once_and_last_whatever_is_raised(qtbot: QtBot, error: BaseException, when: str) -> None:
    def work(control: Control) -> Generator[Event, None, None]:
        if when == "after an event":
            yield Notice(message="begun")
        raise error

    def never_a_generator(control: Control) -> None:
        raise error

    said = _run(work if when == "after an event" else never_a_generator)
    assert [name for name, _ in said if name != "ready"] == ["failed", "finished"]


def test_the_generator_is_closed_on_its_own_thread(qtbot: QtBot) -> None:
    closed = []

    def work(control: Control) -> Generator[Event, None, None]:
        try:
            yield Notice(message="begun")
            raise RuntimeError("broken")
        finally:
            closed.append(True)

    _run(work)
    assert closed == [True]


def test_a_stop_lets_go_of_a_worker_that_a_full_queue_holds(qtbot: QtBot) -> None:
    control = Control()
    control.stop()
    queue = EventQueue(capacity=1)
    assert _run(_counting, control, queue)[-1] == ("finished", None)
    assert len(queue) == 3


class TestFailure:
    def test_a_workbench_error_keeps_its_words(self) -> None:
        failure = JobFailure.of(DataError("Row 3 has no text.", hint="Remove it.", details="row 3: {}"))
        assert (failure.message, failure.hint, failure.expected) == ("Row 3 has no text.", "Remove it.", True)
        assert failure.details.startswith("row 3: {}")

    def test_anything_else_is_unexpected_and_has_its_traceback(self) -> None:
        try:
            raise RuntimeError("mat1 and mat2")
        except RuntimeError as error:
            failure = JobFailure.of(error)
        assert failure.message == "Something unexpected happened (RuntimeError)."
        assert "mat1 and mat2" in failure.details
        assert "test_worker.py" in failure.details
        assert not failure.expected

    @pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")])
    def test_lack_of_memory_is_said_in_words(self, error: BaseException) -> None:
        assert "memory ran out" in JobFailure.of(error).message

    def test_an_error_that_cannot_be_printed_is_named(self) -> None:
        assert JobFailure.of(Unprintable()).kind == "Unprintable"
