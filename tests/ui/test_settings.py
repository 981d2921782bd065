"""Preferences and the window's layout file: kept, tolerant of damage, and inside the folder they were given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from ui import window_state
from ui.settings import Folders, Preferences, Settings, tolerant
from ui.window_state import WindowState
from workbench.core.errors import FileError
from workbench.core.fields import describe


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders.find(tmp_path / "home", {})


def test_a_home_holds_everything(tmp_path: Path) -> None:
    for folders in (Folders.find(tmp_path, {}), Folders.find(None, {"WORKBENCH_HOME": str(tmp_path)})):
        assert folders == Folders(tmp_path, tmp_path / "config", tmp_path / "logs")


def test_without_a_home_the_platforms_folders_are_used() -> None:
    folders = Folders.find(None, {})
    assert folders.home is None
    assert "llm-workbench" in str(folders.config)
    assert "llm-workbench" in str(folders.logs)


def test_the_defaults_are_usable_and_explained() -> None:
    assert Preferences().problems() == []
    assert all(info.help.endswith(".") and info.group for info in describe(Preferences))


def test_a_change_is_announced_and_found_again(folders: Folders, qtbot: QtBot) -> None:
    settings = Settings(folders)
    with qtbot.waitSignal(settings.changed) as changed:
        settings.change(theme="dark", threads=3)
    assert changed.args[0].theme == "dark"
    assert Settings(folders).value == Preferences(theme="dark", threads=3)


def test_the_same_value_writes_nothing(folders: Folders, qtbot: QtBot) -> None:
    settings = Settings(folders)
    with qtbot.assertNotEmitted(settings.changed):
        settings.change(theme="system")
    assert not settings.path.exists()


def test_a_damaged_file_is_kept_and_the_defaults_hold(folders: Folders) -> None:
    settings = Settings(folders)
    settings.path.parent.mkdir(parents=True)
    settings.path.write_text("{ not json")
    again = Settings(folders)
    assert again.value == Preferences()
    assert "could not be read" in str(again.problem)
    assert (folders.config / "preferences.damaged.json").read_text() == "{ not json"


def test_unknown_and_unusable_values_fall_back_one_by_one() -> None:
    value = tolerant({"theme": "pink", "font_scale": 99, "threads": 2, "from_the_future": True})
    assert value == Preferences(threads=2)


def test_a_disk_that_refuses_is_said_and_the_value_holds(folders: Folders) -> None:
    folders.config.parent.mkdir(parents=True)
    folders.config.write_text("a file where the folder should be")
    settings = Settings(folders)
    with pytest.raises(FileError):
        settings.change(theme="dark")
    assert settings.value.theme == "dark"


class TestWindowState:
    def test_it_is_found_again(self, tmp_path: Path) -> None:
        state = WindowState(geometry="abc", docks="def", tabs=("chat", "runs"), hidden=("runs",), current="chat")
        window_state.save(tmp_path / "window.json", state)
        assert window_state.load(tmp_path / "window.json") == state

    @pytest.mark.parametrize(
        "text", ["", "[]", "{}", json.dumps({"kind": "workbench window", "version": 99}),
                 json.dumps({"kind": "workbench window", "version": 1, "unknown": 1})],
    )  # fmt: skip
    def test_what_cannot_be_read_is_not_used(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "window.json"
        path.write_text(text)
        assert window_state.load(path) == WindowState()

    def test_blobs_survive_as_text(self) -> None:
        from PySide6.QtCore import QByteArray

        blob = QByteArray(bytes(range(256)))
        assert window_state.decode(window_state.encode(blob)) == blob
