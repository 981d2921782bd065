"""A scripted session for the chat's tests, and a panel on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from ui.panels.chat import ChatPanel
from ui.services import Services
from workbench.core.control import Control
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
        self.fails_at = 1
        self.asked: list[ChatRequest] = []

    def reply(self, request: ChatRequest, control: Control) -> Generator[Any, None, Reply]:
        self.asked.append(request)
        said: list[str] = []
        for index, piece in enumerate(self.pieces):
            if control.stopping:
                break
            if self.error is not None and index == self.fails_at:
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


def open_panel(services: Services, script: Script, qtbot: QtBot) -> Iterator[ChatPanel]:
    """A shown panel on `script`; at the end nothing runs any more."""
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
