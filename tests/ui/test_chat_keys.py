"""The chat by keyboard and by assistive tools, and beside a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QCoreApplication, Qt
from PySide6.QtGui import QAccessible, QInputMethodEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QTextEdit,
    QWidget,
)
from pytestqt.qtbot import QtBot

from tests.ui.chat_fakes import Script, open_panel, say
from ui.chat.composer import MOST_LINES
from ui.panels.chat import ChatPanel
from ui.services import Services

NAMED = (QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QPlainTextEdit, QTextEdit)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


@pytest.fixture
def panel(services: Services, script: Script, qtbot: QtBot) -> Iterator[ChatPanel]:
    yield from open_panel(services, script, qtbot)


def test_everything_that_takes_the_focus_has_a_name(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    script.pieces = ["Text, then code:\n\n```py\nx = 1\n```\n\nand a [link](https://example.org)."]
    say(panel, qtbot, "hi")
    panel.header.settings_button.setChecked(True)
    panel.view.edit_last()
    nameless = []
    for widget in panel.findChildren(QWidget):
        if isinstance(widget, NAMED) and widget.focusPolicy() != Qt.FocusPolicy.NoFocus and not widget.objectName().startswith("qt_"):
            seen = QAccessible.queryAccessibleInterface(widget)
            if seen is None or not seen.text(QAccessible.Text.Name):
                nameless.append(f"{type(widget).__name__} {widget.objectName()}")
    assert nameless == []


def test_tab_goes_round_and_is_nowhere_caught(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    script.pieces = ["```py\nx = 1\n```\n"]
    say(panel, qtbot, "hi")
    panel.composer.edit.setFocus()
    seen: list[Any] = []
    while (now := QApplication.focusWidget()) not in seen and len(seen) < 60:
        seen.append(now)
        qtbot.keyClick(now, Qt.Key.Key_Tab)
    assert now is seen[0], f"Tab ended in {now}"
    assert {panel.composer.edit, panel.header.settings_button, panel.header.new_button, panel.view} <= set(seen)


def test_enter_finishes_a_composition_and_does_not_send(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    edit = panel.composer.edit
    edit.setFocus()
    QCoreApplication.sendEvent(edit, QInputMethodEvent("ni", []))
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    assert script.asked == []
    composed = QInputMethodEvent("", [])
    composed.setCommitString("你")
    QCoreApplication.sendEvent(edit, composed)
    edit.setPlainText("你")
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: not panel._services.jobs.jobs, timeout=5000)
    assert [m.content for m in script.asked[0].conversation.messages] == ["你"]


def test_who_prefers_it_sends_with_ctrl_enter(panel: ChatPanel, services: Services, script: Script, qtbot: QtBot) -> None:
    services.settings.change(enter_sends=False)
    edit = panel.composer.edit
    qtbot.keyClicks(edit, "a")
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    qtbot.keyClicks(edit, "b")
    assert script.asked == []
    qtbot.keyClick(edit, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: not services.jobs.jobs, timeout=5000)
    assert [m.content for m in script.asked[0].conversation.messages] == ["a\nb"]


def test_up_in_an_empty_field_edits_the_last_message(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    say(panel, qtbot, "first words")
    edit = panel.composer.edit
    qtbot.keyClicks(edit, "draft")
    qtbot.keyClick(edit, Qt.Key.Key_Up)
    assert panel.view.messages[0].editor is None, "Up moves in a text that is there"
    edit.clear()
    qtbot.keyClick(edit, Qt.Key.Key_Up)
    editor = panel.view.messages[0].editor
    assert editor is not None
    assert editor.toPlainText() == "first words"


def test_the_field_grows_with_its_text_up_to_a_few_lines(panel: ChatPanel) -> None:
    edit = panel.composer.edit
    one = edit.height()
    edit.setPlainText("a\nb\nc")
    three = edit.height()
    edit.setPlainText("\n".join("abcdefghijklmnop"))
    most = edit.height()
    line = edit.fontMetrics().lineSpacing()
    assert three - one == 2 * line
    assert most - one == (MOST_LINES - 1) * line
    edit.clear()
    assert edit.height() == one


def test_a_run_does_not_keep_anyone_from_chatting(
    panel: ChatPanel, services: Services, script: Script, qtbot: QtBot, gate: Callable[..., Any]
) -> None:
    running = gate()
    services.jobs.start("Fine-tuning", running, "train")
    qtbot.waitUntil(running.begun.is_set, timeout=5000)
    say(panel, qtbot, "still there?", wait=False)
    qtbot.waitUntil(lambda: panel.last_reply_text == "Hello there!", timeout=5000)
    assert services.jobs.running("train") is not None
    running.through.set()
    qtbot.waitUntil(lambda: not services.jobs.jobs, timeout=5000)


def test_a_model_being_loaded_is_said_and_sending_waits(
    panel: ChatPanel, services: Services, script: Script, qtbot: QtBot, gate: Callable[..., Any]
) -> None:
    loading = gate("Loading")
    services.jobs.start("Loading another", loading, "model")
    qtbot.waitUntil(loading.begun.is_set, timeout=5000)
    assert "loaded" in panel.composer.reason.text()
    assert not panel.composer.send_button.isEnabled()
    loading.through.set()
    qtbot.waitUntil(lambda: not services.jobs.jobs, timeout=5000)
    say(panel, qtbot, "now")
    assert panel.last_reply_text == "Hello there!"


def test_enter_while_a_reply_is_written_keeps_the_draft(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    script.gate = threading.Event()
    say(panel, qtbot, "go", wait=False)
    qtbot.waitUntil(lambda: bool(script.asked), timeout=5000)
    edit = panel.composer.edit
    qtbot.keyClicks(edit, "next question")
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    assert edit.toPlainText() == "next question"
    assert len(script.asked) == 1
    script.gate.set()
    qtbot.waitUntil(lambda: not panel._services.jobs.jobs, timeout=5000)
    assert edit.toPlainText() == "next question"
