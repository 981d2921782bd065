"""The chat panel on a scripted session: what is sent, what streams, what a stop or an error leaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from ui.panels.chat import ChatPanel
from ui.services import Services
from workbench.core.control import Control
from workbench.core.errors import DataError
from workbench.generation import GenerationResult, Reply, TokenEvent
from workbench.requests import ChatRequest


class Script:
    """A session that answers with given pieces, as slowly as a test lets it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.compute = SimpleNamespace(label="CPU", reason="float32", dtype="torch.float32")
        self.model: Any = SimpleNamespace(name="scripted", context=512, chat=True, parameters=1, path=home, config=None)
        self.adapter = None
        self.pieces: list[str] = ["Hello", " there", "!"]
        self.gate: threading.Event | None = None
        self.error: Exception | None = None
        self.asked: list[ChatRequest] = []

    def reply(self, request: ChatRequest, control: Control) -> Generator[Any, None, Reply]:
        self.asked.append(request)
        said: list[str] = []
        for index, piece in enumerate(self.pieces):
            if control.stopping:
                break
            if self.error is not None and index == 1:
                raise self.error
            said.append(piece)
            yield TokenEvent(id=index, text=piece, logprob=-0.1, ms=1.0, cache_bytes=1000 * (index + 1), index=index)
            while self.gate is not None and index == 1 and not self.gate.is_set() and not control.stopping:
                time.sleep(0.005)
        result = GenerationResult(
            text="".join(said), ids=tuple(range(len(said))), stop_reason="stopped" if control.stopping else "eos", prompt_tokens=9,
            reused_tokens=4, new_tokens=len(said), first_token_ms=12.0, tokens_per_second=30.0, cache_bytes=3000,
            peak_memory_bytes=1, seed=1,
        )  # fmt: skip
        figures = {"cached": True, "tokens_per_second": 30.0, "first_token_ms": 12.0, "cache_bytes": 3000, "prompt_tokens": 9}
        more = {"reused_tokens": 4, "new_tokens": len(said), "stop_reason": result.stop_reason, "seed": 1}
        return Reply(conversation=request.conversation.add("assistant", result.text, {**figures, **more}), result=result, cached=True)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


@pytest.fixture
def panel(services: Services, script: Script, qtbot: QtBot) -> Iterator[ChatPanel]:
    panel = ChatPanel(services)
    qtbot.addWidget(panel)
    panel.resize(760, 600)
    services.session = script
    services.bus.engine_ready.emit(script)
    services.bus.model_changed.emit(script.model)
    with qtbot.waitExposed(panel):
        panel.show()
    yield panel
    services.jobs.shutdown(save=False)
    qtbot.waitUntil(lambda: not services.jobs.jobs, timeout=5000)


def composer(panel: ChatPanel) -> Any:
    return panel.findChild(QWidget, "chat.composer")


def say(panel: ChatPanel, qtbot: QtBot, text: str, wait: bool = True) -> None:
    edit = composer(panel)
    edit.setFocus()
    qtbot.keyClicks(edit, text)
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    if wait:
        qtbot.waitUntil(lambda: not panel._services.jobs.jobs, timeout=5000)


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
    script.error = None
    say(panel, qtbot, "again")
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
