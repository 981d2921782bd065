"""The mark where two replies part: found in the rendered text again, whatever became of its markup."""

from __future__ import annotations

import pytest
from PySide6.QtGui import QTextCharFormat, QTextDocument
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from ui.chat.code_block import CodeBlock
from ui.chat.marking import ENDS, FIGURE, MARK, Needle, needle, put, span
from ui.chat.message import MessageWidget
from ui.chat.view import TranscriptView
from ui.services import Services
from workbench.generation import Conversation, Turn


def marked(document: QTextDocument) -> str:
    """What is underlined."""
    found, block = "", document.begin()
    while block.isValid():
        fragments = block.begin()
        while not fragments.atEnd():
            if fragments.fragment().charFormat().underlineStyle() == QTextCharFormat.UnderlineStyle.SingleUnderline:
                found += fragments.fragment().text()
            fragments += 1
        block = block.next()
    return found


@pytest.mark.parametrize(
    ("source", "token", "word"),
    [
        ("Paris is big", " is", "is"),
        ("Paris **is** big", "**", "big"),  # the next word, when the token has none
        ("a b a b", "a", "a"),
        ("He said: yes!", "!", "!"),
        ("Grüße 🙂 an 🙂 alle", " alle", "alle"),
    ],
)
def test_the_token_is_found_in_the_rendered_text(services: Services, qtbot: QtBot, source: str, token: str, word: str) -> None:
    document = QTextDocument()
    document.setMarkdown(source)
    at = source.rindex(token)
    wanted = needle(source, at, len(token))
    assert wanted.text == word
    put(document, wanted, services.theme.colours)
    assert marked(document) == f"{MARK}{word}"
    plain = document.toPlainText()
    assert plain.index(MARK) == plain.rindex(word) - 1, "the occurrence that was meant, not the first"


def test_a_reply_that_ends_earlier_is_marked_at_its_end(services: Services, qtbot: QtBot) -> None:
    document = QTextDocument()
    document.setMarkdown("It ends.")
    put(document, needle("It ends.", 8, 0), services.theme.colours)
    assert document.toPlainText() == f"It ends.{ENDS}"
    assert span(document, Needle("absent")) is None


def message(services: Services, qtbot: QtBot, text: str) -> MessageWidget:
    made = MessageWidget("assistant", services.theme, "Model")
    qtbot.addWidget(made)
    made.resize(400, 300)
    made.finish(Turn("assistant", text, None), 1, (0, 1), "")
    return made


def test_the_block_that_holds_the_place_is_marked(services: Services, qtbot: QtBot) -> None:
    text = "Use one:\n\n```python\none = 1\ntwo = one\n```\n\nOr one more."
    at = text.index("one\n```")
    made = message(services, qtbot, text)
    made.mark(at, 3)
    code = made.findChild(CodeBlock)
    assert code.text == "one = 1\ntwo = one", "code stays as it is, to be copied"
    selections = code.code.extraSelections()
    assert [s.cursor.selectedText() for s in selections] == ["one"]  # type: ignore[attr-defined]
    assert selections[0].cursor.selectionStart() == text[text.index("one = 1") :].index("one\n```")  # type: ignore[attr-defined]
    assert MARK in code.language.text()
    made.mark(text.index("one more"), 3)
    assert MARK in made._widgets[-1].toPlainText()


def test_a_mark_stays_with_another_theme_and_goes_with_another_text(services: Services, qtbot: QtBot) -> None:
    made = message(services, qtbot, "One two three")
    made.mark(4, 3)
    block = made._widgets[0]
    assert block.toPlainText() == f"One {MARK}two three"
    services.theme.set_mode("dark")
    for widget in made.findChildren(QWidget):
        if hasattr(widget, "retint"):
            widget.retint()
    assert block.toPlainText() == f"One {MARK}two three"
    made.finish(Turn("assistant", "Another text", None), 1, (0, 1), "")
    assert made._widgets[0].toPlainText() == "Another text"


@pytest.mark.parametrize("wrapped", ["{}", "```\n{}\n```"], ids=["text", "code"])
def test_a_mark_that_is_out_of_sight_can_be_gone_to(services: Services, qtbot: QtBot, wrapped: str) -> None:
    text = wrapped.format("\n\n".join(f"line{i}" for i in range(400)))
    at = text.index("line200")
    conversation = Conversation().add("user", "Count.").add("assistant", text, {FIGURE: [at, 7]})
    view = TranscriptView(services, marks=True)
    qtbot.addWidget(view)
    view.resize(500, 400)
    with qtbot.waitExposed(view):
        view.show()
    view.show_conversation(conversation)
    bar = view.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 2000, timeout=5000)
    view.follow()
    view.show_mark()
    message = view.messages[-1]
    seen = message.mapTo(view.viewport(), message.mark_place().center())
    assert view.viewport().rect().contains(seen)
    assert 0.3 * bar.maximum() < bar.value() < 0.7 * bar.maximum()
    assert not view.at_end, "the reader stays there"
