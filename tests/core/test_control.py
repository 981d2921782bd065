"""Stopping and pausing between threads."""

from __future__ import annotations

import threading

import pytest

from workbench.core.control import Control

SOON = 5.0  # seconds after which a thread that should have gone on is called stuck


@pytest.fixture
def control() -> Control:
    return Control()


def waiting(control: Control) -> tuple[threading.Thread, threading.Event]:
    """A thread in `wait_while_paused`, and an event that tells of its first tick there."""
    ticked = threading.Event()
    thread = threading.Thread(target=control.wait_while_paused, args=(ticked.set, 0.001), daemon=True)
    thread.start()
    return thread, ticked


def test_a_new_control_runs(control: Control) -> None:
    assert not control.stopping
    assert not control.paused
    assert control.save_on_stop
    control.wait_while_paused()


def test_pause_holds_until_resumed(control: Control) -> None:
    control.pause()
    assert control.paused
    thread, ticked = waiting(control)
    assert ticked.wait(SOON)
    assert thread.is_alive()
    control.resume()
    thread.join(SOON)
    assert not thread.is_alive()
    assert not control.stopping


@pytest.mark.parametrize("save", [True, False])
def test_stop_wakes_a_paused_job_and_says_whether_to_save(control: Control, save: bool) -> None:
    control.pause()
    thread, ticked = waiting(control)
    assert ticked.wait(SOON)
    control.stop(save=save)
    thread.join(SOON)
    assert not thread.is_alive()
    assert (control.stopping, control.paused, control.save_on_stop) == (True, False, save)


def test_a_stop_wakes_at_once_not_at_the_next_look(control: Control) -> None:
    control.pause()
    thread = threading.Thread(target=control.wait_while_paused, args=(None, 60.0), daemon=True)
    thread.start()
    control.stop()
    thread.join(SOON)
    slept_on = thread.is_alive()
    control._go.set()
    assert not slept_on


def test_a_stopped_job_is_not_paused_again(control: Control) -> None:
    control.stop()
    control.pause()
    assert not control.paused
    control.wait_while_paused()


def test_a_stop_in_the_middle_of_pause_does_not_hang(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    clear = control._go.clear

    def stop_comes_first() -> None:
        control.stop()
        clear()

    monkeypatch.setattr(control._go, "clear", stop_comes_first)
    control.pause()
    thread, _ = waiting(control)
    thread.join(SOON)
    hung = thread.is_alive()
    control._go.set()
    assert not hung
    assert not control.paused


def test_resume_does_not_undo_a_stop(control: Control) -> None:
    control.stop()
    control.resume()
    assert control.stopping
