"""Messages: one road from every thread to the log and the bar; words for people, details for reports."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Any

import pytest
from PySide6.QtCore import QModelIndex, Qt, QtMsgType, qWarning
from PySide6.QtGui import QGuiApplication
from pytestqt.modeltest import ModelTester
from pytestqt.qtbot import QtBot

from ui.messagebar import MessageBar
from ui.notify import Hooks, LogHandler, LogModel, Message, Notifier
from ui.panels.log import LogPanel
from ui.services import Services
from workbench.core.errors import DataError
from workbench.core.events import Notice


def _message(text: str, level: str = "info", **more: str) -> Message:
    return Message(level, text, at=time.time(), **more)


class TestLogModel:
    def test_it_obeys_qts_rules(self, qtmodeltester: ModelTester) -> None:
        model = LogModel(3)
        qtmodeltester.check(model)
        model.append([_message(str(n)) for n in range(2)])
        model.append([_message(str(n)) for n in range(2, 5)])
        model.clear()

    def test_only_the_newest_are_kept(self) -> None:
        model = LogModel(3)
        model.append([_message(str(n)) for n in range(10)])
        model.append([_message("10")])
        assert [model.message(n).text for n in range(model.rowCount())] == ["8", "9", "10"]
        model.set_limit(1)
        assert [model.message(n).text for n in range(model.rowCount())] == ["10"]

    def test_a_line_of_several_is_one_row(self) -> None:
        model = LogModel(3)
        model.append([_message("a\nb", hint="do")])
        assert model.index(0, 3).data() == "a b do"
        assert model.rowCount(model.index(0, 0)) == 0
        assert model.index(0, 0).data(Qt.ItemDataRole.UserRole).hint == "do"


class TestNotifier:
    def test_workbench_errors_speak_for_themselves(self, services: Services, qtbot: QtBot) -> None:
        with qtbot.waitSignal(services.notify.posted) as shown:
            services.notify.exception(DataError("No rows.", hint="Choose another file.", details="row 1"))
        message = shown.args[0]
        assert (message.level, message.text, message.hint, message.details) == ("error", "No rows.", "Choose another file.", "row 1")

    def test_others_are_unexpected_and_keep_their_story(self, services: Services, qtbot: QtBot) -> None:
        with qtbot.waitSignal(services.notify.posted) as shown:
            services.notify.exception(ZeroDivisionError("by zero"))
        assert shown.args[0].text == "Something unexpected happened (ZeroDivisionError)."
        assert "by zero" in shown.args[0].details

    def test_messages_of_many_threads_all_arrive(self, services: Services, qtbot: QtBot) -> None:
        threads = [threading.Thread(target=lambda: [services.notify.info("x") for _ in range(200)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        qtbot.waitUntil(lambda: services.notify.log.rowCount() == 800)

    def test_the_engines_notices_are_shown(self, services: Services, qtbot: QtBot) -> None:
        with qtbot.waitSignal(services.notify.posted) as shown:
            services.bus.events.emit([Notice(message="9 rows were cut.", level="warning")])
        assert (shown.args[0].level, shown.args[0].text) == ("warning", "9 rows were cut.")

    def test_log_lines_go_to_the_log_only(self, services: Services, qtbot: QtBot) -> None:
        shown: list[Any] = []
        services.notify.posted.connect(shown.append)
        logger = logging.getLogger("test.of.notify")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        logger.addHandler(LogHandler(services.notify))
        try:
            raise ValueError("inside")
        except ValueError:
            logger.exception("it broke")
        qtbot.waitUntil(lambda: services.notify.log.rowCount() == 1)
        message = services.notify.log.message(0)
        assert (message.level, message.text, message.source) == ("error", "it broke", "test.of.notify")
        assert "ValueError: inside" in message.details
        assert shown == []


class TestHooks:
    @pytest.fixture
    def hooks(self, services: Services) -> Any:
        before = sys.excepthook, threading.excepthook
        made = Hooks(services.notify)
        yield made
        made.remove()
        assert (sys.excepthook, threading.excepthook) == before

    def test_an_exception_of_any_thread_is_shown(self, services: Services, qtbot: QtBot, hooks: Hooks) -> None:
        def broken() -> None:
            raise RuntimeError("on another thread")

        with qtbot.waitSignal(services.notify.posted) as shown:
            thread = threading.Thread(target=broken)
            thread.start()
            thread.join()
        assert "on another thread" in shown.args[0].details

    def test_an_unhandled_exception_is_shown(self, services: Services, qtbot: QtBot, hooks: Hooks) -> None:
        with qtbot.waitSignal(services.notify.posted) as shown:
            try:
                raise RuntimeError("in a slot")
            except RuntimeError:
                sys.excepthook(*sys.exc_info())
        assert "in a slot" in shown.args[0].details
        assert "test_notify.py" in shown.args[0].details

    def test_qts_complaints_are_logged(self, services: Services, hooks: Hooks, caplog: pytest.LogCaptureFixture) -> None:
        qWarning("from Qt")
        hooks._on_qt_message(QtMsgType.QtWarningMsg, None, "This plugin does not support propagateSizeHints()")  # type: ignore[arg-type]
        assert [(r.name, r.levelname, r.message) for r in caplog.records] == [("qt", "WARNING", "from Qt")]


class TestMessageBar:
    @pytest.fixture
    def bar(self, services: Services, qtbot: QtBot) -> MessageBar:
        made = MessageBar(services.theme)
        qtbot.addWidget(made)
        services.notify.posted.connect(made.show_message)
        return made

    def test_it_says_what_happened_and_what_to_do(self, bar: MessageBar) -> None:
        bar.show_message(_message("No rows.", "error", hint="Choose another file.", details="row 1"))
        assert bar.isVisibleTo(None) or not bar.isHidden()
        assert bar.accessibleName() == "Error: No rows. Choose another file."
        assert not bar.details_button.isHidden()

    def test_a_warning_does_not_cover_an_error(self, bar: MessageBar) -> None:
        bar.show_message(_message("broken", "error"))
        bar.show_message(_message("careful", "warning"))
        assert bar.current is not None
        assert bar.current.text == "broken"
        assert bar.more_button.text() == "+1 more"
        bar.dismiss_button.click()
        assert bar.current.text == "careful"
        bar.dismiss_button.click()
        assert bar.isHidden()

    def test_information_goes_by_itself_and_gives_back_what_it_covered(self, bar: MessageBar, qtbot: QtBot) -> None:
        bar.show_message(_message("broken", "error"))
        bar._fade.setInterval(0)
        bar.show_message(_message("saved"))
        assert bar.current is not None
        assert bar.current.text == "saved"
        qtbot.waitUntil(lambda: bar.current is not None and bar.current.text == "broken")

    def test_the_same_message_again_only_counts(self, bar: MessageBar) -> None:
        for _ in range(3):
            bar.show_message(_message("broken", "error"))
        assert "×3" in bar._text.text()
        assert bar.more_button.isHidden()

    def test_details_are_shown_on_request_and_copied(self, bar: MessageBar) -> None:
        bar.show_message(_message("broken", "error", hint="mend it", details="line 1"))
        assert bar._details.isHidden()
        bar.details_button.click()
        assert not bar._details.isHidden()
        bar.copy_button.click()
        copied = QGuiApplication.clipboard().text()
        assert all(part in copied for part in ("ERROR", "broken", "mend it", "line 1"))

    def test_it_follows_the_theme(self, bar: MessageBar, services: Services) -> None:
        bar.show_message(_message("broken", "error"))
        before = bar.styleSheet()
        services.theme.set_mode("dark")
        assert bar.styleSheet() != before


class TestLogPanel:
    @pytest.fixture
    def panel(self, services: Services, qtbot: QtBot) -> LogPanel:
        made = LogPanel(services)
        qtbot.addWidget(made)
        services.notify.log.append([_message("loaded"), _message("careful", "warning"), _message("broken", "error", details="line 7")])
        return made

    def test_levels_and_words_restrict_what_is_shown(self, panel: LogPanel) -> None:
        rows = panel.table.model().rowCount
        assert rows() == 3
        panel.level.setCurrentIndex(1)
        assert rows() == 2
        panel.level.setCurrentIndex(2)
        assert rows() == 1
        panel.level.setCurrentIndex(0)
        panel.search.setText("LINE 7")
        assert rows() == 1

    def test_a_chosen_line_tells_its_story(self, panel: LogPanel) -> None:
        assert panel.details.isHidden()
        panel.table.selectRow(2)
        assert "line 7" in panel.details.toPlainText()

    def test_it_follows_the_end_unless_the_reader_scrolled_up(self, panel: LogPanel, services: Services, qtbot: QtBot) -> None:
        panel.resize(600, 200)
        with qtbot.waitExposed(panel):
            panel.show()
        services.notify.log.append([_message(str(n)) for n in range(100)])
        bar = panel.table.verticalScrollBar()
        qtbot.waitUntil(lambda: bar.maximum() > 0 and bar.value() == bar.maximum())
        bar.setValue(0)
        services.notify.log.append([_message("more")])
        assert bar.value() == 0

    def test_levels_have_an_icon_besides_their_word(self, panel: LogPanel) -> None:
        index: QModelIndex = panel.table.model().index(2, 1)
        assert index.data() == "Error"
        assert not index.data(Qt.ItemDataRole.DecorationRole).isNull()


def test_a_notifier_keeps_as_many_lines_as_it_is_told(qtbot: QtBot) -> None:
    notifier = Notifier(log_lines=2)
    for n in range(5):
        notifier.info(str(n))
    qtbot.waitUntil(lambda: notifier.log.rowCount() == 2)
