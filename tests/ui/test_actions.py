"""Commands, menus, palette: nothing twice, every refusal with its reason, everything found by a few letters."""

from __future__ import annotations

from collections import Counter

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QMainWindow
from pytestqt.qtbot import QtBot

from ui.actions import MENUS, STANDARD
from ui.menus import Menus
from ui.palette import CommandPalette, match
from ui.services import Services


def test_no_shortcut_belongs_to_two_commands(services: Services) -> None:
    keys = Counter(k.toString() for c in services.actions for k in c.shortcuts())
    assert {k: n for k, n in keys.items() if n > 1} == {}
    assert "" not in keys


def test_the_promised_shortcuts_are_there(services: Services) -> None:
    promised = {
        "Ctrl+K": "app.palette", "Ctrl+N": "chat.new", "Esc": "chat.stop", "Ctrl+Return": "chat.regenerate", "Ctrl+L": "model.pick",
        "Ctrl+R": "run.start", "Ctrl+Shift+R": "run.pause", "Ctrl+.": "run.stop", "Ctrl+,": "app.settings", "F1": "help.field",
        "Ctrl+Q": "app.quit",
    }  # fmt: skip
    found = {k.toString(): c.info.id for c in services.actions for k in c.shortcuts()}
    assert {k: found.get(QKeySequence(k).toString()) for k in promised} == promised


@pytest.mark.parametrize("info", STANDARD, ids=lambda i: i.id)
def test_every_command_explains_itself(info: object) -> None:
    assert info.tooltip.endswith(".")  # type: ignore[attr-defined]
    assert info.menu.split("/")[0] in MENUS  # type: ignore[attr-defined]
    assert info.idle.endswith(".")  # type: ignore[attr-defined]


def test_a_command_nobody_offers_is_disabled_and_says_why(services: Services) -> None:
    command = services.actions["run.start"]
    assert not command.isEnabled()
    assert "The fine-tune panel is not open." in command.toolTip()


def test_binding_enables_and_the_last_one_wins(services: Services) -> None:
    heard: list[str] = []
    services.actions.bind("run.start", lambda: heard.append("first"))
    command = services.actions.bind("run.start", lambda: heard.append("second"))
    command.trigger()
    assert heard == ["second"]
    assert "Not now" not in command.toolTip()


def test_a_refusal_is_explained_and_taken_back(services: Services) -> None:
    heard: list[str] = []
    services.actions.bind("run.start", lambda: heard.append("x"), enabled=False, reason="Choose a dataset.")
    services.actions["run.start"].trigger()
    assert heard == []
    assert services.actions["run.start"].reason == "Choose a dataset."
    services.actions.allow("run.start", True)
    services.actions["run.start"].trigger()
    assert heard == ["x"]


def test_a_checkable_command_is_told_its_state(services: Services) -> None:
    heard: list[bool] = []
    command = services.actions.add("x.grid", "Grid", heard.append, tooltip="Show a grid.", checkable=True)
    command.trigger()
    command.trigger()
    assert heard == [True, False]


def test_nothing_can_be_added_twice(services: Services) -> None:
    services.actions.add("x.one", "One", lambda: None, tooltip="One.", shortcut="Ctrl+J")
    with pytest.raises(ValueError, match=r"x\.one"):
        services.actions.add("x.one", "One", lambda: None, tooltip="One.")
    with pytest.raises(ValueError, match=r"Ctrl\+J.*x\.one"):
        services.actions.add("x.two", "Two", lambda: None, tooltip="Two.", shortcut=("F9", "Ctrl+J"))


class TestMenus:
    @pytest.fixture
    def window(self, services: Services, qtbot: QtBot) -> QMainWindow:
        made = QMainWindow()
        qtbot.addWidget(made)
        made.menus = Menus(made.menuBar(), services.actions)  # type: ignore[attr-defined]
        return made

    def test_every_command_is_in_its_menu(self, window: QMainWindow, services: Services) -> None:
        menus = window.menus._menus  # type: ignore[attr-defined]
        assert [m.title().replace("&", "") for m in menus.values()][: len(MENUS)] == list(MENUS)
        for command in services.actions:
            assert command in menus[command.info.menu].actions()

    def test_mnemonics_are_unique_within_a_menu(self, window: QMainWindow) -> None:
        for path, menu in window.menus._menus.items():  # type: ignore[attr-defined]
            marks = Counter(a.text()[a.text().index("&") + 1].lower() for a in menu.actions() if "&" in a.text())
            assert {m: n for m, n in marks.items() if n > 1} == {}, path

    def test_a_new_command_appears_in_its_group(self, window: QMainWindow, services: Services, qtbot: QtBot) -> None:
        command = services.actions.add("x.one", "One", lambda: None, tooltip="One.", menu="Model/Export", group=3)
        menus = window.menus._menus  # type: ignore[attr-defined]
        qtbot.waitUntil(lambda: "Model/Export" in menus and command in menus["Model/Export"].actions())
        assert menus["Model/Export"].menuAction() in menus["Model"].actions()


class TestMatch:
    @pytest.mark.parametrize(
        ("query", "better", "worse"),
        [("rl", "Reset layout", "Larger text"), ("set", "Settings", "Reset layout"), ("stop", "Stop generating", "Show or export topics"),
         ("log", "Go to Log", "Larger dialog"), ("dark", "Theme: Dark", "Discard a mark")],
    )  # fmt: skip
    def test_starts_of_words_and_runs_come_first(self, query: str, better: str, worse: str) -> None:
        good, bad = match(query, better), match(query, worse)
        assert good is not None
        assert bad is None or good < bad

    @pytest.mark.parametrize(("query", "text"), [("xyz", "Reset layout"), ("lr", "Rel"), ("aa", "a")])
    def test_letters_that_do_not_occur_in_order_do_not_match(self, query: str, text: str) -> None:
        assert match(query, text) is None

    def test_everything_matches_nothing_asked(self) -> None:
        assert match("", "Anything") is not None
        assert match("", "") == 0


class TestPalette:
    @pytest.fixture
    def host(self, services: Services, qtbot: QtBot) -> QMainWindow:
        made = QMainWindow()
        qtbot.addWidget(made)
        made.resize(900, 600)
        made.show()
        return made

    def _open(self, services: Services, host: QMainWindow) -> CommandPalette:
        palette = CommandPalette(services.actions, services.theme, host)
        palette.open_over(host)
        return palette

    def _texts(self, palette: CommandPalette) -> list[str]:
        model = palette.list.model()
        return [model.index(n, 0).data() for n in range(model.rowCount())]

    def test_every_command_but_itself_is_listed_and_what_works_comes_first(self, services: Services, host: QMainWindow) -> None:
        services.actions.bind("app.settings", lambda: None)
        palette = self._open(services, host)
        assert len(self._texts(palette)) == len(list(services.actions)) - 1
        assert self._texts(palette)[0] == "Edit: Settings"
        palette.close()

    def test_typing_and_enter_run_a_command(self, services: Services, host: QMainWindow, qtbot: QtBot) -> None:
        heard: list[str] = []
        services.actions.bind("view.reset", lambda: heard.append("reset"))
        palette = self._open(services, host)
        qtbot.keyClicks(palette.filter, "rstl")
        assert self._texts(palette)[0] == "View: Reset layout"
        qtbot.keyClick(palette.filter, Qt.Key.Key_Return)
        assert heard == ["reset"]
        assert not palette.isVisible()

    def test_a_commands_own_words_count_before_its_menus(self, services: Services, host: QMainWindow) -> None:
        for id in ("app.settings", "view.larger"):
            services.actions.bind(id, lambda: None)
        services.actions.add("x.show", "Fine-tune", lambda: None, tooltip="Show it.", menu="View/Show")
        palette = self._open(services, host)
        palette.filter.setText("st")
        texts = self._texts(palette)
        assert texts.index("Edit: Settings") < next(n for n, text in enumerate(texts) if "Fine-tune" in text)
        palette.close()

    def test_arrow_keys_choose(self, services: Services, host: QMainWindow, qtbot: QtBot) -> None:
        palette = self._open(services, host)
        qtbot.keyClick(palette.filter, Qt.Key.Key_Down)
        assert palette.list.currentIndex().row() == 1
        qtbot.keyClick(palette.filter, Qt.Key.Key_PageUp)
        assert palette.list.currentIndex().row() == 0
        palette.close()

    def test_a_disabled_command_says_why_and_stays(self, services: Services, host: QMainWindow, qtbot: QtBot) -> None:
        palette = self._open(services, host)
        palette.filter.setText("start run")
        index = palette.list.currentIndex()
        assert "not open" in index.data(Qt.ItemDataRole.AccessibleTextRole)
        qtbot.keyClick(palette.filter, Qt.Key.Key_Return)
        assert palette.isVisible()
        palette.close()
