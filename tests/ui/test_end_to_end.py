"""A newcomer's first minutes, whole: the real window, the real engine, the starter model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QPlainTextEdit, QTextEdit, QWidget
from pytestqt.qtbot import QtBot

from ui.app import Launch, Program
from workbench.runs import list_runs

pytestmark = [pytest.mark.starter, pytest.mark.slow, pytest.mark.timeout(300)]
LOADED, ANSWERED, TRAINED = 60_000, 60_000, 180_000


@pytest.fixture
def program(qapp: QApplication, qtbot: QtBot, starter_home: Path) -> Iterator[Program]:
    """The window with the starter installed; it is loaded as on any later start."""
    made = Program(qapp, Launch(home=starter_home, theme="light"))
    qtbot.addWidget(made.window)
    with qtbot.waitSignal(made.services.bus.model_changed, timeout=LOADED, check_params_cb=lambda summary: summary is not None):
        made.start()
        qtbot.waitUntil(lambda: made.services.session is not None, timeout=LOADED)
        if made.services.session.model is None and not any(j.lane == "model" for j in made.services.jobs.jobs):
            made.services.actions["model.fetch_starter"].trigger()
    yield made
    made.window.closing.without_asking()
    made.window.close()
    made.services.jobs.shutdown(save=False)
    qtbot.waitUntil(lambda: not made.services.jobs.jobs, timeout=30_000)


def child(program: Program, name: str) -> Any:
    found = program.window.findChild(QWidget, name)
    assert found is not None, f"the window has no widget called {name}"
    return found


def say(program: Program, qtbot: QtBot, text: str) -> None:
    """Type into the composer and press Enter, as soon as nothing else holds the chat."""
    qtbot.waitUntil(lambda: lane(program, "chat") is None, timeout=30_000)
    edit: QTextEdit | QPlainTextEdit = child(program, "chat.composer")
    edit.setFocus()
    qtbot.keyClicks(edit, text)
    qtbot.keyClick(edit, Qt.Key.Key_Return)


def lane(program: Program, name: str) -> Any:
    return next((job for job in program.services.jobs.jobs if job.lane == name), None)


def answer(program: Program, qtbot: QtBot, text: str) -> str:
    say(program, qtbot, text)
    qtbot.waitUntil(lambda: lane(program, "chat") is not None, timeout=5_000)
    qtbot.waitUntil(lambda: lane(program, "chat") is None, timeout=ANSWERED)
    panel = program.window.panels["chat"]
    reply: str = panel.last_reply_text
    return reply


def set_generation(program: Program, **changes: Any) -> None:
    """Through the chat's own settings, as its drawer does."""
    controller: Any = program.window.panels["chat"].controller  # type: ignore[attr-defined]
    controller.set_generation(replace(controller.generation, **changes))


def set_steps(program: Program, steps: int) -> Any:
    """Through the panel's own form, as typing does."""
    panel: Any = program.window.panels["finetune"]
    form = panel.setup.method.run
    form.set_value(replace(form.value, max_steps=steps))
    form.changed.emit(form.value)
    return panel


def start_training(program: Program, qtbot: QtBot, steps: int) -> Any:
    panel = set_steps(program, steps)
    qtbot.waitUntil(panel.start_button.isEnabled, timeout=30_000)
    qtbot.mouseClick(panel.start_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: lane(program, "train") is not None, timeout=5_000)
    return lane(program, "train")


def collected(program: Program) -> list[Any]:
    """Every event of every job from now on."""
    seen: list[Any] = []
    program.services.bus.events.connect(seen.extend)
    return seen


def test_capital_tune_and_talk_again(program: Program, qtbot: QtBot) -> None:
    set_generation(program, do_sample=False, max_new_tokens=48)
    assert "Paris" in answer(program, qtbot, "What is the capital of France?")
    program.services.actions["chat.new"].trigger()
    plain = answer(program, qtbot, "What does the KV cache do?")
    events = collected(program)
    start_training(program, qtbot, 20)
    qtbot.waitUntil(lambda: lane(program, "train") is None, timeout=TRAINED)
    losses = [e.metrics["loss"] for e in events if e.name == "step"]
    assert len(losses) == 20
    assert sum(losses[-5:]) < sum(losses[:5])
    runs = list_runs(program.services.session.library.runs_folder)
    assert [r.status for r in runs] == ["done"]
    panel: Any = program.window.panels["finetune"]
    qtbot.waitUntil(panel.result.chat.isVisible, timeout=5_000)
    with qtbot.waitSignal(program.services.bus.adapter_changed, timeout=30_000):
        qtbot.mouseClick(panel.result.chat, Qt.MouseButton.LeftButton)
    program.services.actions["chat.new"].trigger()
    tuned = answer(program, qtbot, "What does the KV cache do?")
    assert not plain.startswith("Short answer:")
    assert tuned.startswith("Short answer:"), "the sample data's unmistakable style"
    loss = program.window.panels["monitor"].plots["loss"].curve("loss")
    assert len(loss.series) == 20
    cache = program.window.panels["monitor"].plots["cache"].curve("cache_bytes")
    assert np.nanmax(cache.series.y) > 1e6


def test_stop_acts_mid_reply_and_mid_run(program: Program, qtbot: QtBot) -> None:
    panel: Any = program.window.panels["chat"]
    set_generation(program, do_sample=False, max_new_tokens=400)
    events = collected(program)
    say(program, qtbot, "Write a long story about a lighthouse keeper.")
    qtbot.waitUntil(lambda: sum(e.name == "token" for e in events) >= 5, timeout=ANSWERED)
    edit = child(program, "chat.composer")
    edit.setFocus()
    qtbot.keyClick(edit, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: lane(program, "chat") is None, timeout=5_000)
    tokens = sum(e.name == "token" for e in events)
    assert 5 <= tokens < 400
    assert panel.last_reply_text
    job = start_training(program, qtbot, 50)
    qtbot.waitUntil(lambda: any(e.name == "step" and e.step == 2 for e in events), timeout=TRAINED)
    job.stop(save=True)
    qtbot.waitUntil(lambda: lane(program, "train") is None, timeout=20_000)
    assert job.state == "Stopped"
    run = list_runs(program.services.session.library.runs_folder)[0]
    assert run.status == "stopped"
    assert run.adapter is not None


def test_closing_during_both_leaves_no_thread_and_no_step_unsaved(program: Program, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    set_generation(program, do_sample=False, max_new_tokens=400)
    events = collected(program)
    start_training(program, qtbot, 50)
    qtbot.waitUntil(lambda: any(e.name == "step" for e in events), timeout=TRAINED)
    say(program, qtbot, "Tell me a long story.")
    qtbot.waitUntil(lambda: any(e.name == "token" for e in events) and sum(e.name == "step" for e in events) >= 2, timeout=TRAINED)
    program.window.closing.without_asking()
    with qtbot.waitSignal(program.window.closed, timeout=30_000):
        program.window.close()
    assert not program.services.jobs.jobs
    assert threading.active_count() <= before
    steps = max(e.step for e in events if e.name == "step")
    run = list_runs(program.services.session.library.runs_folder)[0]
    assert run.status == "stopped"
    assert run.steps >= steps
    assert list(run.folder.glob("checkpoint-*")), "the steps were saved"


