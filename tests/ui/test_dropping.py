"""Dragging onto the window: models are opened, anything else is told why not, fields leave files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDragMoveEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QMainWindow, QPlainTextEdit
from pytestqt.qtbot import QtBot

from ui.dropping import ModelDrop, judge
from ui.services import Services


@pytest.fixture
def window(services: Services, qtbot: QtBot) -> QMainWindow:
    made = QMainWindow()
    made.setCentralWidget(QPlainTextEdit())
    qtbot.addWidget(made)
    made.resize(800, 500)
    with qtbot.waitExposed(made):
        made.show()
    return made


@pytest.fixture
def drops(window: QMainWindow, services: Services) -> ModelDrop:
    made = ModelDrop(window, services)
    made.watch_text_fields()
    return made


def data_of(*paths: Path) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    return data


def enter(target: Any, data: QMimeData) -> QDragEnterEvent:
    event = QDragEnterEvent(QPoint(9, 9), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(target, event)
    return event


def hf(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(9))
    return folder


def gguf(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"GGUF" + bytes(96))
    return path


class TestJudge:
    def test_models_of_every_kind_are_taken(self, tmp_path: Path) -> None:
        folder, file, inside = hf(tmp_path / "hf"), gguf(tmp_path / "m.gguf"), gguf(tmp_path / "one" / "x.gguf")
        assert judge([folder]).path == folder
        assert judge([folder / "config.json"]).path == folder
        assert judge([folder / "model.safetensors"]).path == folder
        assert judge(sorted(folder.iterdir())).path == folder
        assert (judge([file]).path, judge([file]).words) == (file, "GGUF file, 100 B")
        assert judge([inside.parent]).path == inside

    @pytest.mark.parametrize(
        ("names", "why"),
        [
            (["notes.txt"], "is no model; drop a GGUF file or a model folder. Data to learn from goes onto the Fine-tune panel."),
            (["pytorch_model.bin"], "is a Python pickle"), (["a.gguf", "b.gguf"], "one model at a time"), ([], "on this computer"),
            (["alone.safetensors"], "holds no model"),
        ],
    )  # fmt: skip
    def test_other_files_are_told_why_not(self, tmp_path: Path, names: list[str], why: str) -> None:
        for name in names:
            (tmp_path / name).write_bytes(b"x" * 9)
        verdict = judge([tmp_path / name for name in names])
        assert verdict.path is None
        assert why in verdict.words

    @pytest.mark.parametrize(
        ("names", "why"),
        [
            (["config.json", "pytorch_model.bin"], "weights as a Python pickle"), (["config.json"], "no weights"),
            (["adapter_config.json", "adapter_model.safetensors"], "holds an adapter"), (["a.gguf", "b.gguf"], "holds 2 GGUF files"),
            (["README.md"], "holds no model"),
        ],
    )  # fmt: skip
    def test_other_folders_are_told_why_not(self, tmp_path: Path, names: list[str], why: str) -> None:
        for name in names:
            (tmp_path / name).write_bytes(b"x" * 9)
        verdict = judge([tmp_path])
        assert verdict.path is None
        assert why in verdict.words


class TestDrag:
    def test_a_model_is_announced_and_opened(
        self, window: QMainWindow, drops: ModelDrop, services: Services, tmp_path: Path, qtbot: QtBot
    ) -> None:
        data = data_of(gguf(tmp_path / "m.gguf"))
        assert enter(window, data).isAccepted()
        assert drops.overlay.isVisible()
        assert drops.overlay.title.text() == "Drop to open m.gguf"
        move = QDragMoveEvent(QPoint(9, 9), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
        QApplication.sendEvent(window, move)
        assert move.dropAction() == Qt.DropAction.CopyAction
        with qtbot.waitSignal(services.bus.open_model) as opened:
            drop = QDropEvent(QPointF(9, 9), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
            QApplication.sendEvent(window, drop)
        assert opened.args == [tmp_path / "m.gguf"]
        assert not drops.overlay.isVisible()

    def test_what_cannot_be_opened_says_why_while_it_hovers_and_when_it_falls(
        self, window: QMainWindow, drops: ModelDrop, services: Services, tmp_path: Path, qtbot: QtBot
    ) -> None:
        (tmp_path / "model.bin").write_bytes(b"x")
        data = data_of(tmp_path / "model.bin")
        assert enter(window, data).dropAction() == Qt.DropAction.IgnoreAction
        assert "model.bin is a Python pickle" in drops.overlay.words.text()
        messages: list[Any] = []
        services.notify.posted.connect(messages.append)
        with qtbot.assertNotEmitted(services.bus.open_model):
            drop = QDropEvent(QPointF(9, 9), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
            QApplication.sendEvent(window, drop)
        qtbot.waitUntil(lambda: len(messages) == 1)
        assert "pickle" in messages[0].text
        assert not drops.overlay.isVisible()

    def test_leaving_takes_the_words_away_and_the_next_drag_is_looked_at_anew(
        self, window: QMainWindow, drops: ModelDrop, tmp_path: Path
    ) -> None:
        enter(window, data_of(tmp_path / "nothing"))
        QApplication.sendEvent(window, QDragLeaveEvent())
        assert not drops.overlay.isVisible()
        enter(window, data_of(gguf(tmp_path / "m.gguf")))
        assert drops.overlay.title.text() == "Drop to open m.gguf"

    def test_text_is_none_of_our_business(self, window: QMainWindow, drops: ModelDrop) -> None:
        data = QMimeData()
        data.setText("hello")
        assert not enter(window, data).isAccepted()
        assert not drops.overlay.isVisible()
        field: Any = window.centralWidget()
        assert enter(field.viewport(), data).isAccepted()

    def test_a_field_leaves_files_to_the_window(self, window: QMainWindow, drops: ModelDrop, tmp_path: Path) -> None:
        data = data_of(gguf(tmp_path / "m.gguf"))
        field: Any = window.centralWidget()
        assert enter(field.viewport(), data).isAccepted()
        assert drops.overlay.isVisible()  # the window took it, not the field
