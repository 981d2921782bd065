"""The road from worker to window: order, coalescing, holding back a worker that is too fast."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import ClassVar

from ui.jobs.queue import EventQueue
from workbench.core.events import Event, Notice, Progress


@dataclass(frozen=True, kw_only=True)
class Step(Event):
    name: ClassVar[str] = "step"
    writer: int
    number: int


def _progress(done: int) -> Progress:
    return Progress(message="x", done=done)


def test_only_the_newest_progress_waits_and_every_step_does() -> None:
    queue = EventQueue()
    for n in range(5):
        queue.put(_progress(n))
        queue.put(Step(writer=0, number=n))
    taken = queue.drain()
    assert [e.number for e in taken if isinstance(e, Step)] == [0, 1, 2, 3, 4]
    assert [e.done for e in taken if isinstance(e, Progress)] == [4]


def test_a_coalesced_event_stands_where_its_newest_was_put() -> None:
    queue = EventQueue()
    queue.put(_progress(1))
    queue.put(Notice(message="between"))
    queue.put(_progress(2))
    assert [e.name for e in queue.drain()] == ["notice", "progress"]


def test_progress_after_a_drain_is_a_new_one() -> None:
    queue = EventQueue()
    queue.put(_progress(1))
    queue.drain()
    queue.put(_progress(2))
    assert [e.done for e in queue.drain() if isinstance(e, Progress)] == [2]


def test_progress_that_a_limited_drain_left_behind_is_replaced() -> None:
    queue = EventQueue()
    queue.put(Notice(message="first"))
    queue.put(_progress(1))
    assert [e.name for e in queue.drain(1)] == ["notice"]
    queue.put(_progress(2))
    assert [e.done for e in queue.drain() if isinstance(e, Progress)] == [2]


def test_the_reader_is_told_only_when_the_queue_was_empty() -> None:
    queue = EventQueue()
    assert [queue.put(Notice(message=str(n))) for n in range(3)] == [True, False, False]
    queue.drain(1)
    assert queue.put(Notice(message="more")) is False
    queue.drain()
    assert queue.put(Notice(message="again")) is True


def test_a_full_queue_holds_the_worker_until_it_is_drained() -> None:
    queue = EventQueue(capacity=3)
    for n in range(3):
        queue.put(Step(writer=0, number=n))
    assert queue.full
    assert not queue.wait_for_room(0.001)
    went_on = threading.Event()
    worker = threading.Thread(target=lambda: went_on.set() if queue.wait_for_room(5) else None)
    worker.start()
    queue.drain(1)
    worker.join(5)
    assert went_on.is_set()


def test_many_writers_lose_nothing_and_keep_their_order() -> None:
    queue = EventQueue(capacity=10**6)
    taken: list[Event] = []

    def write(writer: int) -> None:
        for number in range(2000):
            queue.put(Step(writer=writer, number=number))

    writers = [threading.Thread(target=write, args=(w,)) for w in range(4)]
    for thread in writers:
        thread.start()
    while any(t.is_alive() for t in writers):
        taken += queue.drain(500)
    taken += queue.drain()
    for writer in range(4):
        assert [e.number for e in taken if isinstance(e, Step) and e.writer == writer] == list(range(2000))
