"""The chat panel on a scripted session: what is sent, what streams, what a stop or an error leaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from tests.ui.chat_fakes import Script, composer, open_panel, say
from ui.panels.chat import ChatPanel
from ui.services import Services
from workbench.core.errors import DataError


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


@pytest.fixture
def panel(services: Services, script: Script, qtbot: QtBot) -> Iterator[ChatPanel]:
    yield from open_panel(services, script, qtbot)


def test_enter_sends_and_the_reply_streams_whole(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    script.pieces = [f"word{i} " for i in range(200)]
    say(panel, qtbot, "hello")
    assert [m.content for m in script.asked[0].conversation.messages] == ["hello"]
    assert panel.last_reply_text == "".join(script.pieces)
    assert composer(panel).toPlainText() == ""


def test_shift_enter_is_a_new_line(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    edit = composer(panel)
    qtbot.keyClicks(edit, "a")
    qtbot.keyClick(edit, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    qtbot.keyClicks(edit, "b")
    assert edit.toPlainText() == "a\nb"
    assert script.asked == []


def test_an_empty_message_is_not_sent(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    qtbot.keyClick(composer(panel), Qt.Key.Key_Return)
    assert script.asked == []


def test_escape_stops_and_keeps_what_was_written(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    script.gate = threading.Event()
    say(panel, qtbot, "go", wait=False)
    seen: list[Any] = []
    panel._services.bus.events.connect(seen.extend)
    qtbot.waitUntil(lambda: sum(e.name == "token" for e in seen) >= 2, timeout=5000)
    qtbot.keyClick(composer(panel), Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: not panel._services.jobs.jobs, timeout=5000)
    assert panel.last_reply_text == "Hello there"
    assert panel.controller.conversation.shown[-1].figures["stop_reason"] == "stopped"


def test_regenerate_makes_another_version(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    say(panel, qtbot, "hi")
    script.pieces = ["Other"]
    panel._services.actions["chat.regenerate"].trigger()
    qtbot.waitUntil(lambda: panel.last_reply_text == "Other", timeout=5000)
    qtbot.waitUntil(lambda: not panel._services.jobs.jobs, timeout=5000)
    assert panel.controller.conversation.versions(1) == (1, 2)


def test_a_new_chat_is_empty(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    say(panel, qtbot, "hi")
    panel._services.actions["chat.new"].trigger()
    assert panel.last_reply_text == ""
    say(panel, qtbot, "again")
    assert [m.content for m in script.asked[-1].conversation.messages] == ["again"]


def test_an_error_is_said_and_the_chat_goes_on(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    script.error = DataError("The conversation is too long.", hint="Start a new chat.")
    say(panel, qtbot, "hi")
    card = panel.view.error
    assert card.isVisible()
    assert (card.text.text(), card.hint.text()) == ("The conversation is too long.", "Start a new chat.")
    assert "DataError" in card.details.toPlainText()
    assert panel.last_reply_text == "Hello", "what was written before the error is kept"
    script.error = None
    say(panel, qtbot, "again")
    assert not card.isVisible()
    assert panel.last_reply_text == "Hello there!"


def test_a_flood_of_tokens_is_drawn_calmly(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    script.pieces = ["x "] * 4000
    flushes: list[float] = []
    original = panel.view._flush

    def counted() -> None:
        flushes.append(time.perf_counter())
        original()

    panel.view._flush_timer.timeout.disconnect()
    panel.view._flush_timer.timeout.connect(counted)
    began = time.perf_counter()
    say(panel, qtbot, "flood")
    seconds = time.perf_counter() - began
    assert len(flushes) <= 30 * seconds + 3
    assert panel.last_reply_text == "x " * 4000


def test_conversations_survive_a_restart(panel: ChatPanel, services: Services, script: Script, qtbot: QtBot) -> None:
    say(panel, qtbot, "remember me")
    panel.controller.save()
    other = ChatPanel(services)
    qtbot.addWidget(other)
    services.bus.engine_ready.emit(script)
    qtbot.waitUntil(lambda: other.last_reply_text == "Hello there!", timeout=5000)


def test_without_a_model_the_card_offers_the_starter(services: Services, script: Script, qtbot: QtBot) -> None:
    script.model = None
    services.session = script
    panel = ChatPanel(services)
    qtbot.addWidget(panel)
    services.bus.engine_ready.emit(script)
    panel.resize(760, 600)
    panel.show()
    texts = [b.text() for b in panel.findChildren(QWidget) if hasattr(b, "text") and callable(b.text) and b.isVisible()]
    assert any("starter model" in t for t in texts)


def test_send_is_stop_while_a_reply_is_written(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    script.gate = threading.Event()
    button: Any = panel.findChild(QWidget, "chat.send")
    assert not button.isEnabled()
    say(panel, qtbot, "go", wait=False)
    assert button.text() == "Stop"
    qtbot.waitUntil(lambda: panel.view.messages[-1].text == "Hello there", timeout=5000)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: button.text() == "Send", timeout=5000)
    assert "stopped" in panel.view.messages[-1].badge.text()


def test_the_badge_says_what_was_measured(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    say(panel, qtbot, "hi")
    assert panel.view.messages[-1].badge.text() == ("30.0 tok/s · first token 12 ms · cache 3.0 kB · cached · 4 tokens reused · finished")
    assert panel.header.meter.label.full_text == "12 of 512 tokens (2 %)"


def test_versions_can_be_looked_through(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    say(panel, qtbot, "hi")
    script.pieces = ["Other"]
    qtbot.mouseClick(panel.view.messages[-1].again_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: panel.last_reply_text == "Other" and not panel.controller.generating, timeout=5000)
    shown = panel.view.messages[-1]
    assert shown.version.text() == "2/2"
    assert not shown.forth_button.isEnabled()
    qtbot.mouseClick(shown.back_button, Qt.MouseButton.LeftButton)
    assert panel.last_reply_text == "Hello there!"
    assert panel.view.messages[-1].version.text() == "1/2"


def test_an_edited_message_begins_a_branch(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    say(panel, qtbot, "first")
    say(panel, qtbot, "second")
    qtbot.mouseClick(panel.view.messages[0].edit_button, Qt.MouseButton.LeftButton)
    field = panel.view.messages[0].editor
    assert field is not None
    assert field.toPlainText() == "first"
    qtbot.keyClicks(field, "changed")
    qtbot.keyClick(field, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not panel._services.jobs.jobs, timeout=5000)
    assert [m.text for m in panel.view.messages] == ["changed", "Hello there!"]
    assert panel.controller.conversation.versions(0) == (1, 2)
    qtbot.mouseClick(panel.view.messages[0].back_button, Qt.MouseButton.LeftButton)
    assert [m.text for m in panel.view.messages] == ["first", "Hello there!", "second", "Hello there!"]


def test_an_edit_can_be_left(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    say(panel, qtbot, "first")
    qtbot.keyClick(composer(panel), Qt.Key.Key_Up)
    field = panel.view.messages[0].editor
    assert field is not None
    qtbot.keyClick(field, Qt.Key.Key_Escape)
    assert panel.view.messages[0].editor is None
    assert len(script.asked) == 1


def test_a_message_without_an_answer_is_replaced_by_the_next(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    script.pieces, script.error, script.fails_at = ["x"], DataError("No."), 0
    say(panel, qtbot, "too long")
    script.error = None
    say(panel, qtbot, "shorter")
    assert [m.content for m in script.asked[-1].conversation.messages] == ["shorter"]


def test_the_settings_shown_are_those_of_the_next_message(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    panel.header.settings_button.click()
    panel.drawer.system.setPlainText("Be brief.")
    assert panel.drawer.form is not None
    panel.drawer.form.reset()
    panel.header.cache.click()
    say(panel, qtbot, "hi")
    request = script.asked[-1]
    assert request.conversation.system == "Be brief."
    assert request.generation == panel.drawer.form.value
    assert request.cache.use_cache is False
    panel._services.runtime.set_use_cache(True)
    assert panel.header.cache.isChecked()


def test_without_a_model_the_composer_says_so_and_helps(panel: ChatPanel, script: Script, services: Services) -> None:
    script.model = None
    services.bus.model_changed.emit(None)
    assert panel.composer.reason.text() == "Load a model first."
    assert panel.composer.help_button.isVisible()
    assert not composer(panel).isEnabled()


def test_an_adapter_is_named_with_its_strength(panel: ChatPanel, services: Services, script: Script) -> None:
    from workbench.requests import AdapterState

    services.bus.adapter_changed.emit((AdapterState("pirate", Path("x"), 0.5),))
    assert panel.header.adapter.isVisible()
    assert panel.header.adapter.text() == "pirate ×0.5"
    services.bus.adapter_changed.emit(())
    assert not panel.header.adapter.isVisible()


@pytest.mark.parametrize(("used", "level"), [(300, ""), (340, "amber"), (440, "red")])
def test_the_context_meter_warns_in_words_too(panel: ChatPanel, used: int, level: str) -> None:
    panel.header.meter.show_use(used, 512)
    assert panel.header.meter.level == level
    assert (" – " in panel.header.meter.label.full_text) == bool(level)


def test_export_writes_both_kinds(panel: ChatPanel, script: Script, qtbot: QtBot, tmp_path: Path) -> None:
    from ui.chat.transcript import Chat

    say(panel, qtbot, "hi")
    panel.controller.export(tmp_path / "a.md")
    assert "## You\n\nhi" in (tmp_path / "a.md").read_text(encoding="utf-8")
    panel.controller.export(tmp_path / "a.json")
    assert Chat.read(tmp_path / "a.json").conversation == panel.controller.conversation


def test_a_damaged_chat_is_told_and_kept(services: Services, script: Script, qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "chats").mkdir()
    broken = tmp_path / "chats" / "20260101-000000.json"
    broken.write_text("{", encoding="utf-8")
    posted: list[Any] = []
    services.notify.posted.connect(posted.append)
    panel = ChatPanel(services)
    qtbot.addWidget(panel)
    services.session = script
    services.bus.engine_ready.emit(script)
    qtbot.waitUntil(lambda: bool(posted), timeout=5000)
    assert "could not be restored" in posted[0].text
    assert broken.exists()
    assert panel.controller.conversation.turns == ()
