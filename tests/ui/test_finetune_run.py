"""Runs from the fine-tune panel: what is asked for, what is shown meanwhile, how they end, and the adapter afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QMainWindow
from pytestqt.qtbot import QtBot

from tests.ui.finetune_fakes import (
    WAIT,
    FakeSession,
    click,
    finish,
    model,
    open_panel,
    panel,
    run_steps,
    session,
    type_number,
)
from ui.panels.finetune import FinetunePanel
from ui.services import Services
from workbench.data import DataConfig
from workbench.requests import AdapterState, FinetuneRequest

__all__ = ["open_panel", "panel", "session"]  # fixtures


# ---- a run -------------------------------------------------------------------------------------------------------


def test_three_clicks_at_most_from_a_fresh_start(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    click(qtbot, panel.start_button)
    qtbot.waitUntil(lambda: bool(session.requests), timeout=WAIT)
    assert session.requests == [FinetuneRequest(data=DataConfig())]


def test_start_asks_for_what_is_shown(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    method: Any = panel.setup.method
    click(qtbot, method.adapter.editor("method").segments.buttons()[1])
    type_number(panel, "r", "32")
    type_number(panel, "lora_alpha", "8")
    type_number(panel, "max_steps", "5")
    type_number(panel, "learning_rate", "2e-4")
    method.targets.editor.set_value(("attention",))
    method.more_run.editor("seed").box.lineEdit().setText("7")
    method.more_adapter.editor("lora_dropout").box.lineEdit().setText("0.1")
    click(qtbot, panel.start_button)
    qtbot.waitUntil(lambda: bool(session.requests), timeout=WAIT)
    lora, train = session.requests[0].lora, session.requests[0].train
    assert (lora.method, lora.r, lora.lora_alpha, lora.target_modules, lora.lora_dropout) == ("rslora", 32, 8.0, ("attention",), 0.1)
    assert (train.max_steps, train.learning_rate, train.seed, train.max_length) == (5, 2e-4, 7, 256)
    assert session.requests[0].out is None


def test_a_run_shows_its_figures_and_locks_the_settings(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    panel.start()
    run_steps(panel, session, 4, qtbot)
    card = panel.run_card
    qtbot.waitUntil(lambda: card.track.eval_loss == 1.5, timeout=WAIT)
    card.refresh()
    assert card.word.full_text == "Training · step 4 of 60"
    assert card.left.text() == "56 s left"
    assert card.figures.text() == "loss 1.000 · validation 1.500 · 1,234 tokens/s"
    assert card.bar.value() == round(1000 * 4 / 60)
    assert panel.start_button.isHidden()
    assert not panel.setup.picker.isEnabled()
    assert not panel.setup.method.adapter.isEnabled()


def test_the_command_starts_a_run_too(panel: FinetunePanel, services: Services, session: FakeSession, qtbot: QtBot) -> None:
    window = QMainWindow()
    qtbot.addWidget(window)
    window.addAction(services.actions["run.start"])
    window.setCentralWidget(panel)
    with qtbot.waitExposed(window):
        window.show()
    window.activateWindow()
    qtbot.keyClick(panel, Qt.Key.Key_R, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: bool(session.requests), timeout=WAIT)
    assert not services.actions["run.start"].isEnabled()
    assert services.actions["run.start"].reason == "A run is going on."
    finish(panel, session, qtbot)
    window.takeCentralWidget()


def test_pause_and_resume(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    panel.start()
    run_steps(panel, session, 2, qtbot)
    click(qtbot, panel.run_card.pause)
    assert panel.run_card.word.full_text == "Paused · step 2 of 60"
    assert panel.run_card.pause.text() == "Resume"
    assert panel.run_card.left.text() == ""
    qtbot.keyClick(panel.run_card.pause, Qt.Key.Key_Space)
    assert panel.run_card.word.full_text.startswith("Training")
    run_steps(panel, session, 1, qtbot)
    panel.run_card.job.pause()  # by the command of the menu
    assert panel.run_card.pause.text() == "Resume"


@pytest.mark.parametrize("save", [True, False])
def test_stop_asks_in_place(panel: FinetunePanel, session: FakeSession, qtbot: QtBot, save: bool) -> None:
    panel.start()
    run_steps(panel, session, 2, qtbot)
    card = panel.run_card
    click(qtbot, card.stop)
    assert card.choice.isVisible()
    assert card.buttons.isHidden()
    assert "Nothing is saved yet" in card.choice.question.text()
    run_steps(panel, session, 1, qtbot)  # it goes on until the answer
    click(qtbot, card.choice.save if save else card.choice.drop)
    qtbot.waitUntil(lambda: card.job is None, timeout=WAIT)
    assert session.save_on_stop is save
    assert panel.result.message.title.text() == "Stopped after 3 of 60 steps."
    assert ("The adapter is saved." if save else "Nothing was kept.") in panel.result.message.text.text()
    assert panel.result.chat.isVisible() is save
    assert panel.start_button.isEnabled()


def test_a_stop_can_be_taken_back(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    panel.start()
    run_steps(panel, session, 4, qtbot)
    card = panel.run_card
    qtbot.waitUntil(lambda: card.track.saved_step == 4, timeout=WAIT)
    for answer in (lambda: click(qtbot, card.choice.stay), lambda: qtbot.keyClick(card.choice.save, Qt.Key.Key_Escape)):
        click(qtbot, card.stop)
        assert "Saved last at step 4" in card.choice.question.text()
        answer()
        assert card.choice.isHidden()
        assert card.buttons.isVisible()
    run_steps(panel, session, 1, qtbot)
    assert not card.job.stopping


def test_a_stop_by_the_command_is_shown(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    panel.start()
    run_steps(panel, session, 1, qtbot)
    click(qtbot, panel.run_card.stop)
    panel.run_card.job.stop(save=True)
    assert panel.run_card.choice.isHidden()
    assert panel.run_card.word.full_text == "Saving and stopping after this step…"
    assert not panel.run_card.pause.isEnabled()
    qtbot.waitUntil(lambda: panel.run_card.job is None, timeout=WAIT)


def test_a_failed_run_never_says_done(panel: FinetunePanel, session: FakeSession, services: Services, qtbot: QtBot) -> None:
    said: list[Any] = []
    services.notify.posted.connect(said.append)
    session.fail_at = 6
    panel.start()
    finish(panel, session, qtbot)
    message = panel.result.message
    assert message.title.text() == "Failed after 5 of 60 steps."
    assert message.text.text() == "The loss became NaN at step 5."
    assert message.hint.text() == "Lower the rate.\nKept: the checkpoint of step 4."
    assert "TrainingDiverged" in message.details.toPlainText()
    click(qtbot, message.details_button)
    assert message.details.isVisible()
    assert panel.result.folder.isVisible()
    assert panel.result.chat.isHidden()
    assert panel.start_button.text() == "Start another run"
    assert said == []  # it is told here, not a second time above the chat


def test_a_result_can_be_put_away(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    panel.start()
    finish(panel, session, qtbot)
    assert panel.start_button.text() == "Start another run"
    click(qtbot, panel.result.dismiss)
    assert panel.result.isHidden()
    assert panel.start_button.text() == "Start fine-tuning"


def test_what_a_failed_run_kept_can_be_used(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    kept = session.folder / "checkpoint-000004" / "adapter"
    kept.mkdir(parents=True)
    session.fail_at = 6
    panel.start()
    finish(panel, session, qtbot)
    assert panel.result.adapter == kept
    assert panel.result.chat.isVisible()


def test_a_failure_nobody_sees_goes_to_the_message_bar(
    panel: FinetunePanel, session: FakeSession, services: Services, qtbot: QtBot
) -> None:
    said: list[Any] = []
    services.notify.posted.connect(said.append)
    session.fail_at = 1
    panel.start()
    panel.hide()
    finish(panel, session, qtbot)
    qtbot.waitUntil(lambda: bool(said), timeout=WAIT)
    assert said[0].text.endswith("The loss became NaN at step 5.")


# ---- afterwards --------------------------------------------------------------------------------------------------


def test_chat_with_it(panel: FinetunePanel, session: FakeSession, services: Services, qtbot: QtBot) -> None:
    news: list[Any] = []
    shown: list[str] = []
    services.bus.adapter_changed.connect(news.append)
    services.bus.show_panel.connect(shown.append)
    panel.start()
    finish(panel, session, qtbot)
    assert panel.result.message.title.text().startswith("Done: 60 steps in ")
    assert panel.result.message.text.text() == "Loss 4.000 → 0.067, validation 1.500."
    click(qtbot, panel.result.chat)
    qtbot.waitUntil(lambda: shown == ["chat"], timeout=WAIT)
    assert session.adapter == AdapterState("r1", session.folder / "adapter", 1.0)
    assert news == [(session.adapter,)]
    assert panel.adapter.isVisible()
    assert panel.adapter.name.full_text == "Chat uses r1"


def test_strength_acts_on_the_next_message(panel: FinetunePanel, session: FakeSession, services: Services, qtbot: QtBot) -> None:
    services.bus.use_adapter.emit(Path("runs/r1/adapter"))
    qtbot.waitUntil(lambda: panel.adapter.isVisible(), timeout=WAIT)
    slider = panel.adapter.strength_slider.slider
    assert panel.adapter.strength == 1.0
    qtbot.keyClick(slider, Qt.Key.Key_Right)
    assert session.adapter is not None
    assert session.adapter.strength == pytest.approx(1.05)
    qtbot.keyClick(slider, Qt.Key.Key_End)
    assert session.adapter.strength == 1.5
    assert panel.adapter.strength_slider.reading.text() == "1.50 ×"
    qtbot.keyClick(slider, Qt.Key.Key_Home)
    assert session.adapter.strength == 0.0
    qtbot.waitUntil(lambda: services.jobs.running("chat") is None, timeout=WAIT)
    click(qtbot, panel.adapter.off)
    qtbot.waitUntil(lambda: session.adapter is None and panel.adapter.isHidden(), timeout=WAIT)


def test_an_adapter_waits_for_the_reply_that_is_written(
    panel: FinetunePanel, session: FakeSession, services: Services, gate: Callable[..., Any], qtbot: QtBot, caplog: pytest.LogCaptureFixture
) -> None:
    services.jobs.start("Reply", gate("Generating"), "chat")
    said: list[Any] = []
    services.notify.posted.connect(said.append)
    services.bus.use_adapter.emit(Path("runs/r1/adapter"))
    assert session.adapter is None
    qtbot.waitUntil(lambda: bool(said), timeout=WAIT)
    assert "“Reply” is still running." in said[0].text


def test_another_model_takes_its_adapter_with_it(panel: FinetunePanel, session: FakeSession, services: Services, qtbot: QtBot) -> None:
    panel.start()
    finish(panel, session, qtbot)
    click(qtbot, panel.result.chat)
    qtbot.waitUntil(lambda: panel.adapter.isVisible(), timeout=WAIT)
    session.adapter, session.model = None, model("other")
    with qtbot.waitSignal(services.bus.adapter_changed, timeout=WAIT) as news:
        services.bus.model_changed.emit(session.model)
    assert news.args == [()]
    assert panel.adapter.isHidden()
    assert not panel.result.chat.isEnabled()
    assert "another model" in panel.result.chat.toolTip()


def test_closing_during_a_run_stops_it(panel: FinetunePanel, session: FakeSession, services: Services, qtbot: QtBot) -> None:
    panel.start()
    run_steps(panel, session, 1, qtbot)
    with qtbot.waitSignal(services.jobs.idle, timeout=WAIT):
        services.jobs.shutdown(save=True)
    assert session.save_on_stop is True


# ---- all weights, and healing --------------------------------------------------------------------------------------


def test_all_weights_are_asked_for_and_the_model_is_loaded(
    panel: FinetunePanel, services: Services, session: FakeSession, qtbot: QtBot
) -> None:
    method: Any = panel.setup.method
    click(qtbot, method.what.buttons()[1])
    assert not method.adapter.isVisible()
    assert "All 100,000 parameters of a copy" in method.counts.text()
    assert method.train.learning_rate == 5e-5, "a rate for adapters that nobody set gives way"
    opened: list[Path] = []
    services.bus.open_model.disconnect(services.models.open)
    services.bus.open_model.connect(opened.append)
    click(qtbot, panel.start_button)
    finish(panel, session, qtbot)
    assert session.requests[0].full
    assert panel.result.adapter is None
    click(qtbot, panel.result.chat)
    assert opened == [session.folder / "model"]
    type_number(panel, "learning_rate", "1e-5")
    click(qtbot, method.what.buttons()[0])
    assert method.train.learning_rate == 1e-5, "one that a person set stays"


def test_a_copy_that_does_not_fit_is_not_started(panel: FinetunePanel, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.finetune.setup.psutil.virtual_memory", lambda: type("Memory", (), {"available": 1_000_000})())
    click(qtbot, panel.setup.method.what.buttons()[1])
    assert panel.start_button.text() == "Too large for this computer"


def test_a_converted_model_is_healed_here(panel: FinetunePanel, services: Services, session: FakeSession, qtbot: QtBot) -> None:
    shown: list[str] = []
    services.bus.show_panel.connect(shown.append)
    services.bus.heal_requested.emit("Converted: 1 setting changed; it needs training.")
    assert shown == ["finetune"]
    assert "it needs training" in panel.heal.text.text()
    assert panel.heal.isVisible()
    click(qtbot, panel.start_button)
    finish(panel, session, qtbot)
    assert panel.heal.isHidden()
