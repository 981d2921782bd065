"""The transcript: frozen blocks and a growing tail, selections, scrolling, links, themes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QPoint, QUrl
from PySide6.QtGui import QGuiApplication, QTextCursor
from pytestqt.qtbot import QtBot

from tests.ui.chat_fakes import Script, open_panel, say
from ui.chat.bits import WrappingLabel
from ui.chat.code_block import CodeBlock
from ui.chat.message import MessageWidget
from ui.chat.text_block import TextBlock
from ui.chat.view import SHOWN, TranscriptView
from ui.panels.chat import ChatPanel
from ui.services import Services
from ui.theme import LARGE
from workbench.generation import Conversation

PARAGRAPHS = "".join(f"Paragraph {i} " + "with some words " * 20 + "\n\n" for i in range(30))


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


@pytest.fixture
def panel(services: Services, script: Script, qtbot: QtBot) -> Iterator[ChatPanel]:
    yield from open_panel(services, script, qtbot)


@pytest.fixture
def message(services: Services, qtbot: QtBot) -> MessageWidget:
    made = MessageWidget("assistant", services.theme, "model")
    qtbot.addWidget(made)
    made.resize(600, 400)
    made.show()
    return made


def first(message: MessageWidget) -> TextBlock:
    block = message.widgets[0]
    assert isinstance(block, TextBlock)
    return block


def test_finished_blocks_are_left_alone(message: MessageWidget) -> None:
    message.set_text(PARAGRAPHS)
    frozen = message.widgets[:-1]
    assert len(frozen) > 3
    revisions = [w.document().revision() for w in frozen if isinstance(w, TextBlock)]
    message.append("More text.\n\n```python\nx = 1\n```\nand on")
    assert message.widgets[: len(frozen)] == frozen
    assert [w.document().revision() for w in frozen if isinstance(w, TextBlock)] == revisions


def test_code_is_plain_while_it_grows_and_coloured_when_closed(message: MessageWidget, services: Services) -> None:
    message.set_text("```python\ndef f():\n")
    code = message.widgets[0]
    assert isinstance(code, CodeBlock)
    assert code.language.text() == "python"
    before = code.code.document().firstBlock().layout().formats()
    assert before == []
    message.append("    return '🙂'  # smile\n```\n")
    assert message.widgets[0] is code
    assert code.text == "def f():\n    return '🙂'  # smile"
    cursor = QTextCursor(code.code.document())
    cursor.setPosition(1)
    assert cursor.charFormat().foreground().color().name() == services.theme.colours.accent_text
    cursor.setPosition(code.text.encode("utf-16-le").index("smile".encode("utf-16-le")) // 2 + 1)
    assert cursor.charFormat().foreground().color().name() == services.theme.colours.muted
    code.copy_button.click()
    assert QGuiApplication.clipboard().text() == code.text


def test_growing_code_makes_room_for_its_scroll_bar(panel: ChatPanel, qtbot: QtBot) -> None:
    view = panel.view
    view.begin_reply("model")
    text = "```py\n\ndef f():\n    return " + "x" * 120 + "\n\n# end\n```\nand on"
    for at in range(0, len(text), 5):
        before = view.flushes
        view.append(text[at : at + 5])
        qtbot.waitUntil(lambda before=before: view.flushes > before, timeout=2000)  # type: ignore[misc]
    code = view.messages[-1].widgets[0]
    assert isinstance(code, CodeBlock)
    assert code.code.horizontalScrollBar().maximum() > 0
    qtbot.waitUntil(lambda: code.code.geometry().bottom() < code.height() - 2, timeout=2000)


def test_a_selection_survives_growing(message: MessageWidget) -> None:
    message.set_text("Some **bold** words to select")
    block = first(message)
    cursor = block.document().find("words")
    block.setTextCursor(cursor)
    message.append(" and **more")
    assert block.textCursor().selectedText() == "words"
    message.append(" of** it")
    assert block.textCursor().selectedText() == "words"


def test_html_is_shown_not_obeyed_and_images_are_not_fetched(message: MessageWidget, monkeypatch: pytest.MonkeyPatch) -> None:
    message.set_text("<b>bold</b> <script>x</script> ![a cat](https://example.org/cat.png) ![](file:///etc/passwd)")
    text = first(message).toPlainText()
    assert "<b>bold</b>" in text
    assert "image: a cat" in text
    assert "\ufffc" not in text, "an image object is in the text"


def test_the_message_is_as_high_as_its_text(message: MessageWidget, qtbot: QtBot) -> None:
    message.set_text("word " * 300)
    block = first(message)
    qtbot.waitUntil(lambda: abs(block.height() - block.document().size().height()) <= 2, timeout=2000)
    assert block.height() > 5 * block.fontMetrics().lineSpacing()
    assert block.verticalScrollBar().maximum() <= 1


def test_it_follows_only_a_reader_at_the_end(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    view: TranscriptView = panel.view
    script.pieces = [PARAGRAPHS]
    say(panel, qtbot, "long")
    bar = view.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 500 and bar.value() == bar.maximum(), timeout=5000)
    view.begin_reply("model")
    bar.setValue(bar.maximum() // 2)
    where = bar.value()
    view.append(PARAGRAPHS)
    qtbot.waitUntil(lambda: view.down.isVisible(), timeout=5000)
    assert bar.value() == where
    view.down.click()
    qtbot.waitUntil(lambda: bar.value() == bar.maximum(), timeout=5000)
    assert not view.down.isVisible()
    view.append(PARAGRAPHS)
    before = bar.maximum()
    qtbot.waitUntil(lambda: bar.maximum() > before and bar.value() == bar.maximum(), timeout=5000)
    assert not view.down.isVisible()


def test_sending_goes_to_the_end(panel: ChatPanel, script: Script, qtbot: QtBot) -> None:
    script.pieces = [PARAGRAPHS]
    say(panel, qtbot, "long")
    bar = panel.view.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 500, timeout=5000)
    bar.setValue(0)
    say(panel, qtbot, "again")
    qtbot.waitUntil(lambda: bar.value() == bar.maximum(), timeout=5000)


def long_talk() -> Conversation:
    talk = Conversation()
    for i in range(SHOWN):
        talk = talk.add("user", f"q{i}").add("assistant", f"a{i}")
    return talk


def test_long_histories_are_built_in_part(panel: ChatPanel, qtbot: QtBot) -> None:
    panel.view.show_conversation(long_talk())
    assert len(panel.view.messages) == SHOWN
    assert panel.view.messages[-1].text == f"a{SHOWN - 1}"
    assert panel.view.messages[0].index == SHOWN
    panel.view.earlier.click()
    qtbot.waitUntil(lambda: not panel.view.earlier.isVisible(), timeout=5000)
    assert [m.text for m in panel.view.messages] == [t.content for t in long_talk().shown]
    assert [m.index for m in panel.view.messages] == list(range(2 * SHOWN))


def test_earlier_messages_come_in_above_the_readers_place(panel: ChatPanel, qtbot: QtBot) -> None:
    view, bar = panel.view, panel.view.verticalScrollBar()
    view.show_conversation(long_talk())
    qtbot.waitUntil(lambda: bar.maximum() > 500 and bar.value() == bar.maximum(), timeout=5000)
    bar.setValue(0)
    read = view.messages[0]
    before = read.mapTo(view.viewport(), QPoint(0, 0)).y()
    view.earlier.click()
    qtbot.waitUntil(lambda: not view.earlier.isVisible() and not view._settled_timer.isActive(), timeout=5000)
    moved = read.mapTo(view.viewport(), QPoint(0, 0)).y() - before
    assert abs(moved) <= view.earlier.height() + LARGE, "only the button above may have gone"


def test_sending_in_a_long_conversation_builds_only_what_is_new(panel: ChatPanel) -> None:
    talk = long_talk()
    panel.view.show_conversation(talk)
    kept = list(panel.view.messages)
    panel.view.show_conversation(talk.add("user", "more").add("assistant", "yes"))
    assert panel.view.messages[:SHOWN] == kept
    assert len(panel.view.messages) == SHOWN + 2


def test_messages_that_stay_keep_their_widgets(panel: ChatPanel) -> None:
    talk = Conversation().add("user", "q").add("assistant", "a")
    panel.view.show_conversation(talk)
    kept = list(panel.view.messages)
    panel.view.show_conversation(talk.add("user", "more"))
    assert panel.view.messages[:2] == kept


@pytest.mark.parametrize("address", ["file:///etc/passwd", "javascript:alert(1)", "/relative", "https:///nohost"])
def test_only_web_addresses_are_offered(panel: ChatPanel, services: Services, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr("ui.panels.chat.QDesktopServices.openUrl", opened.append)
    assert panel.ask_about_link(QUrl(address)) is None
    assert opened == []


def test_a_link_is_opened_after_asking(panel: ChatPanel, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr("ui.panels.chat.QDesktopServices.openUrl", opened.append)
    box = panel.ask_about_link(QUrl("https://example.org/a?b=c"))
    assert box is not None
    assert box.informativeText() == "https://example.org/a?b=c"
    assert opened == []
    next(b for b in box.buttons() if "Open" in b.text()).click()
    assert opened == [QUrl("https://example.org/a?b=c")]


def test_another_theme_recolours_what_is_there(message: MessageWidget, services: Services, panel: ChatPanel) -> None:
    talk = Conversation().add("user", "q").add("assistant", "`code` and\n\n|a|b|\n|-|-|\n|1|2|\n\n```python\nimport x\n```")
    panel.view.show_conversation(talk)
    for mode in ("dark", "light"):
        services.theme.set_mode(mode)
        colours = services.theme.colours
        text, code = panel.view.messages[1].widgets
        assert isinstance(text, TextBlock)
        assert isinstance(code, CodeBlock)
        cursor = QTextCursor(text.document())
        cursor.setPosition(1)
        assert cursor.charFormat().background().color().name() == colours.code_background
        cursor = QTextCursor(code.code.document())
        cursor.setPosition(1)
        assert cursor.charFormat().foreground().color().name() == colours.accent_text


def test_a_wrapped_line_is_as_high_as_its_text_after_narrow_and_wide(qtbot: QtBot) -> None:
    label = WrappingLabel("several words that wrap where it is narrow")
    qtbot.addWidget(label)
    label.resize(80, 10)
    label.show()
    narrow = label.height()
    label.resize(600, label.height())
    assert label.height() < narrow
    assert label.height() <= label.fontMetrics().lineSpacing() + 2
