"""The window: panels at their places, kept and restored; closing while work runs; names for everyone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QAccessible, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QMessageBox,
    QPlainTextEdit,
    QTabBar,
    QTextEdit,
    QWidget,
)
from pytestqt.qtbot import QtBot

from ui.commands import Commands
from ui.jobs.runner import Job
from ui.panels import PANELS, PanelPlace
from ui.services import Services
from ui.window import LEAST_SIZE, TITLE, Window
from workbench.core.errors import DataError

NAMED = (QAbstractButton, QLineEdit, QAbstractSpinBox, QComboBox, QAbstractSlider, QTextEdit, QPlainTextEdit, QAbstractItemView, QTabBar)
pytestmark = [
    pytest.mark.xvfb,
    pytest.mark.qt_log_ignore("This plugin does not support raise"),  # offscreen, about floating docks
]
MakeWindow = Callable[[], Window]


@pytest.fixture
def make_window(services: Services, fake_panels: None, qtbot: QtBot) -> Iterator[MakeWindow]:
    """Windows with small panels. Each is shown and built, as the program does it."""
    made: list[Window] = []

    def make() -> Window:
        window = Window(services)
        Commands(window, services)
        made.append(window)
        qtbot.addWidget(window)
        window.resize(1200, 780)
        with qtbot.waitSignal(window.painted, timeout=5000):
            window.show()
        window.build_panels()
        return window

    yield make
    for window in made:
        window.closing.without_asking()


@pytest.fixture
def window(make_window: MakeWindow) -> Window:
    return make_window()


def _again(window: Window, services: Services, make_window: MakeWindow) -> Window:
    """Close the window and open another one, as on the next start."""
    from ui.actions import ActionRegistry

    assert window.close()
    services.actions = ActionRegistry(services.theme)
    return make_window()


class TestPanels:
    def test_the_window_is_painted_before_any_panel_is_made(self, services: Services, fake_panels: None, qtbot: QtBot) -> None:
        window = Window(services)
        qtbot.addWidget(window)
        with qtbot.waitSignal(window.painted, timeout=5000):
            window.show()
        assert window.panels == {}

    def test_docks_stand_at_their_edges_and_the_rest_in_tabs(self, window: Window) -> None:
        areas = {name: window.dockWidgetArea(dock) for name, dock in window.docks.items()}
        edge = Qt.DockWidgetArea
        assert areas == {
            "architecture": edge.LeftDockWidgetArea, "finetune": edge.RightDockWidgetArea, "monitor": edge.BottomDockWidgetArea,
            "log": edge.BottomDockWidgetArea,
        }  # fmt: skip
        assert window.tabifiedDockWidgets(window.docks["monitor"]) == [window.docks["log"]]
        assert [window.tabs.tabText(n) for n in range(window.tabs.count()) if window.tabs.isTabVisible(n)] == ["Welcome", "Chat"]

    def test_the_layout_has_room_for_everything(self, window: Window) -> None:
        assert window.minimumSizeHint().width() <= LEAST_SIZE.width()
        for name, share, along in (("architecture", 0.24, "width"), ("finetune", 0.25, "width"), ("monitor", 0.30, "height")):
            size = getattr(window.docks[name], along)() / getattr(window, along)()
            assert share - 0.1 < size < share + 0.1, name
        assert window.tabs.width() > 0.35 * window.width()

    def test_a_number_goes_to_a_panel_even_to_a_hidden_one(self, window: Window, qtbot: QtBot) -> None:
        order = PANELS.in_order()
        for name in ("studies", "log", "chat"):
            window.services.actions[f"go.{name}"].trigger()
            assert window.services.actions[f"go.{name}"].keys == f"Ctrl+{order.index(name) + 1}"
            panel: Any = window.panels[name]
            qtbot.waitUntil(lambda panel=panel: panel.isVisible())  # type: ignore[misc]
            assert window.focusWidget() is panel.edit
        assert window.services.actions["show.studies"].isChecked()

    def test_panels_are_hidden_and_shown(self, window: Window) -> None:
        actions = window.services.actions
        for name in ("finetune", "chat"):
            assert actions[f"show.{name}"].isChecked()
            actions[f"show.{name}"].trigger()
            assert not window.panels[name].isVisible()
            actions[f"show.{name}"].trigger()
            assert actions[f"show.{name}"].isChecked()
        window.docks["finetune"].close()
        assert not actions["show.finetune"].isChecked()

    def test_a_dock_in_a_tab_needs_no_title(self, window: Window, qtbot: QtBot) -> None:
        def titled(name: str) -> bool:
            bar: QWidget = window.docks[name].titleBarWidget()
            return bar.objectName() == "dockTitle"

        qtbot.waitUntil(lambda: not titled("monitor"))
        assert titled("finetune")
        window.docks["log"].hide()
        qtbot.waitUntil(lambda: titled("monitor"))

    def test_a_broken_panel_does_not_take_the_others_with_it(self, services: Services, make_window: MakeWindow, qtbot: QtBot) -> None:
        def broken(given: Services) -> QWidget:
            raise DataError("No such file.")

        PANELS.register("broken", label="Broken", help="It breaks.", place=PanelPlace("centre", order=99))(broken)
        with qtbot.waitSignal(services.notify.posted) as shown:
            window = make_window()
        assert shown.args[0].text == "No such file."
        assert set(window.panels) == set(PANELS.names())

    def test_a_label_with_a_mnemonic_is_refused(self) -> None:
        with pytest.raises(ValueError, match="mnemonic"):
            PANELS.register("bad", label="This & that", help="Bad.")

    def test_an_unknown_panel_is_only_logged(self, window: Window, caplog: pytest.LogCaptureFixture) -> None:
        window.services.bus.show_panel.emit("nowhere")
        assert "nowhere" in caplog.text


class TestLayout:
    def test_everything_is_where_it_was(self, window: Window, services: Services, make_window: MakeWindow) -> None:
        window.docks["finetune"].setFloating(True)
        window.services.actions["show.welcome"].trigger()
        window.services.actions["go.studies"].trigger()
        window.tabs.tabBar().moveTab(window.tabs.indexOf(window.panels["studies"]), 0)
        window.docks["architecture"].hide()
        again = _again(window, services, make_window)
        assert again.docks["finetune"].isFloating()
        assert again.docks["architecture"].isHidden()
        assert again.tabs.currentWidget() is again.panels["studies"]
        assert again.tabs.indexOf(again.panels["studies"]) == 0
        assert not again.tabs.isTabVisible(again.tabs.indexOf(again.panels["welcome"]))
        assert not services.actions["show.welcome"].isChecked()

    def test_reset_puts_everything_back(self, window: Window, qtbot: QtBot) -> None:
        window.docks["finetune"].setFloating(True)
        window.docks["architecture"].hide()
        window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, window.docks["log"])
        window.services.actions["show.chat"].trigger()
        window.services.actions["view.reset"].trigger()
        assert not window.docks["finetune"].isFloating()
        assert not window.docks["architecture"].isHidden()
        assert window.dockWidgetArea(window.docks["log"]) == Qt.DockWidgetArea.BottomDockWidgetArea
        assert window.tabs.isTabVisible(window.tabs.indexOf(window.panels["chat"]))

    @pytest.mark.parametrize("text", ["garbage", '{"kind": "workbench window", "version": 1, "docks": "AAAA", "geometry": "AAAA"}'])
    def test_a_damaged_layout_is_left_unused(self, services: Services, make_window: MakeWindow, text: str) -> None:
        services.settings.folders.config.mkdir(parents=True)
        (services.settings.folders.config / "window.json").write_text(text)
        window = make_window()
        assert not window.docks["finetune"].isHidden()

    def test_a_panel_that_is_new_gets_its_place(self, window: Window, services: Services, make_window: MakeWindow) -> None:
        window.close()
        PANELS.register("extra", label="Extra", help="It is new.", place=PanelPlace("right", order=50))(QWidget)
        PANELS.register("more", label="More", help="It is new too.", place=PanelPlace("centre", order=50))(QWidget)
        PANELS._entries["extra"] = PANELS._entries["extra"].__class__(**{**vars(PANELS["extra"]), "make": lambda services: QWidget()})
        PANELS._entries["more"] = PANELS._entries["more"].__class__(**{**vars(PANELS["more"]), "make": lambda services: QWidget()})
        again = _again(window, services, make_window)
        assert again.dockWidgetArea(again.docks["extra"]) == Qt.DockWidgetArea.RightDockWidgetArea
        assert again.tabs.isTabVisible(again.tabs.indexOf(again.panels["more"]))

    def test_every_dock_can_be_saved(self, window: Window) -> None:
        names = [d.objectName() for d in window.docks.values()]
        assert all(names)
        assert len(set(names)) == len(names)


class TestClosing:
    def _start(self, window: Window, qtbot: QtBot, work: Any, lane: str) -> Job:
        job = window.services.jobs.start(f"the {lane} job", work, lane)
        qtbot.waitUntil(work.begun.is_set)
        return job

    def _question(self, window: Window) -> QMessageBox:
        assert window.closing.question is not None
        return window.closing.question

    def _answer(self, window: Window, text: str) -> None:
        next(b for b in self._question(window).buttons() if b.text().replace("&", "") == text).click()

    def test_an_idle_window_closes_and_saves_its_layout(self, window: Window, services: Services, qtbot: QtBot) -> None:
        with qtbot.waitSignal(window.closed):
            assert window.close()
        assert (services.settings.folders.config / "window.json").exists()

    def test_it_asks_once_and_may_go_on(self, window: Window, gate: Any, qtbot: QtBot) -> None:
        job = self._start(window, qtbot, gate(), "train")
        assert not window.close()
        first = self._question(window)
        assert "the train job" in first.text()
        assert not window.close()
        assert self._question(window) is first
        self._answer(window, "Continue")
        assert job.running
        assert not job.control.stopping
        assert window.isVisible()
        with qtbot.waitSignal(window.services.jobs.idle, timeout=5000):
            job.stop()

    @pytest.mark.parametrize(("button", "save"), [("Stop and save", True), ("Stop", False)])
    def test_it_stops_two_jobs_and_closes_when_they_have_ended(
        self, window: Window, gate: Any, qtbot: QtBot, button: str, save: bool
    ) -> None:
        jobs = [self._start(window, qtbot, gate(), lane) for lane in ("train", "chat")]
        window.close()
        with qtbot.waitSignal(window.closed, timeout=5000):
            self._answer(window, button)
            assert not window.isEnabled()  # it waits, it does not block
        assert [job.control.save_on_stop for job in jobs] == [save, save]
        assert all(not job.qthread.isRunning() for job in jobs)

    def test_a_reply_or_a_download_is_not_worth_a_question(self, window: Window, gate: Any, qtbot: QtBot) -> None:
        jobs = [self._start(window, qtbot, gate(), lane) for lane in ("chat", "background")]
        with qtbot.waitSignal(window.closed, timeout=5000):
            assert not window.close()
            assert window.closing.question is None
            assert not window.isVisible()
        assert all(not job.qthread.isRunning() for job in jobs)

    def test_work_that_does_not_stop_is_named(self, window: Window, gate: Any, qtbot: QtBot) -> None:
        job = self._start(window, qtbot, gate(), "train")
        window.closing._on_late((job,))
        assert "has not stopped" in self._question(window).text()
        self._answer(window, "Wait")
        window.closing.without_asking()
        with qtbot.waitSignal(window.closed, timeout=5000):
            window.close()


class TestCommands:
    def test_pause_and_stop_follow_the_run(self, window: Window, gate: Any, qtbot: QtBot) -> None:
        actions, work = window.services.actions, gate()
        assert actions["run.pause"].reason == "No run is going on."
        job = window.services.jobs.start("run", work, "train")
        assert actions["run.pause"].isEnabled()
        qtbot.waitUntil(work.begun.is_set)
        actions["run.pause"].trigger()
        assert job.state == "Paused"
        actions["run.pause"].trigger()
        assert job.state != "Paused"
        with qtbot.waitSignal(window.services.bus.job_finished, timeout=5000):
            actions["run.stop"].trigger()
        assert job.control.save_on_stop
        assert not actions["run.stop"].isEnabled()

    def test_escape_ends_a_reply_only_while_one_is_written(self, window: Window, gate: Any, qtbot: QtBot) -> None:
        actions = window.services.actions
        assert not actions["chat.stop"].isEnabled()
        job = window.services.jobs.start("reply", gate("Generating"), "chat")
        with qtbot.waitSignal(window.services.bus.job_finished, timeout=5000):
            actions["chat.stop"].trigger()
        assert job.state == "Stopped"

    def test_the_theme_is_switched_and_remembered(self, window: Window) -> None:
        window.services.actions["view.theme.dark"].trigger()
        assert window.services.theme.dark
        assert window.services.settings.value.theme == "dark"
        assert [m for m in ("system", "light", "dark") if window.services.actions[f"view.theme.{m}"].isChecked()] == ["dark"]
        window.services.actions["view.theme.dark"].trigger()  # a second time: it stays the one that is checked
        assert window.services.actions["view.theme.dark"].isChecked()
        window.services.actions["view.theme.toggle"].trigger()
        assert not window.services.theme.dark

    def test_text_size_stays_within_its_bounds(self, window: Window) -> None:
        actions, settings = window.services.actions, window.services.settings
        actions["view.larger"].trigger()
        assert settings.value.font_scale == pytest.approx(1.1)
        for _ in range(20):
            actions["view.smaller"].trigger()
        assert settings.value.font_scale == pytest.approx(0.8)
        actions["view.normal"].trigger()
        assert settings.value.font_scale == 1.0

    def test_models_can_be_opened_once_the_engine_is_there(self, window: Window, fake_session: Any) -> None:
        actions = window.services.actions
        assert actions["model.open_file"].reason == "The engine is still loading."
        window.services.bus.engine_ready.emit(fake_session)
        assert actions["model.open_file"].isEnabled()

    def test_help_explains_the_focused_field_or_what_holds_it(self, window: Window, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[str] = []
        monkeypatch.setattr("ui.commands.QWhatsThis.showText", lambda where, text, widget: told.append(text))
        window.services.actions["go.chat"].trigger()
        with qtbot.waitSignal(window.services.notify.posted) as hint:
            window.services.actions["help.field"].trigger()
        assert "F1" in hint.args[0].text
        panel: Any = window.panels["chat"]
        panel.setWhatsThis("What a chat is.")
        window.services.actions["help.field"].trigger()
        panel.edit.setToolTip("What is sent.")
        window.services.actions["help.field"].trigger()
        assert told == ["What a chat is.", "What is sent."]

    @pytest.mark.parametrize("id", ["app.settings", "help.shortcuts", "help.about"])
    def test_pages_open_without_blocking(self, window: Window, qtbot: QtBot, id: str) -> None:
        from PySide6.QtWidgets import QDialog

        window.services.actions[id].trigger()
        dialogs = [d for d in window.findChildren(QDialog) if d.isVisible()]
        assert len(dialogs) == 1
        assert _nameless(dialogs[0]) == []
        dialogs[0].close()

    def test_a_setting_acts_at_once(self, window: Window) -> None:
        from ui.pages import SettingsDialog

        window.services.actions["app.settings"].trigger()
        dialog = window.findChild(SettingsDialog)
        dialog.form.changed.emit(window.services.settings.value.__class__(theme="dark"))
        assert window.services.theme.dark
        dialog.close()


class TestDrop:
    def test_a_model_that_falls_on_the_window_is_opened(self, window: Window, tmp_path: Path, qtbot: QtBot) -> None:
        path = tmp_path / "model.gguf"
        path.write_bytes(b"GGUF")
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path))])
        keys = (Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
        enter = QDragEnterEvent(QPoint(9, 9), *keys)
        QApplication.sendEvent(window, enter)
        assert enter.isAccepted()
        assert not window.drops.overlay.isHidden()
        with qtbot.waitSignal(window.services.bus.open_model) as opened:
            QApplication.sendEvent(window, QDropEvent(QPointF(9, 9), *keys))
        assert opened.args == [path]
        assert window.drops.overlay.isHidden()


class TestTitle:
    def test_the_model_is_in_the_title(self, window: Window) -> None:
        from types import SimpleNamespace

        model = SimpleNamespace(name="SmolLM2", parameters=1, parameter_bytes=4, dtype="float32", precision="float32", path="/m")
        window.services.bus.model_changed.emit(model)
        assert window.windowTitle() == f"SmolLM2 – {TITLE}"
        window.services.bus.model_changed.emit(None)
        assert window.windowTitle() == TITLE


def _nameless(root: QWidget) -> list[str]:
    """Widgets a screen reader could not name."""
    found = []
    for child in root.findChildren(QWidget):
        if isinstance(child, NAMED) and child.focusPolicy() != Qt.FocusPolicy.NoFocus and not child.objectName().startswith("qt_"):
            if child.parent().metaObject().className() == "QComboBoxPrivateContainer":
                continue  # the list of a combo box is named by the box
            face = QAccessible.queryAccessibleInterface(child)
            if not face.text(QAccessible.Text.Name):
                found.append(f"{type(child).__name__} {child.objectName()} in {type(child.parent()).__name__}")
    return found


def test_everything_that_takes_the_keyboard_has_a_name(window: Window) -> None:
    assert _nameless(window) == []
