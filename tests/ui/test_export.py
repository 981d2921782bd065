"""The export window: what it proposes, what it refuses and why, and what it says of how it went."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from ui.export import ExportCommand, ExportWindow
from ui.services import Services
from workbench.checkpoints import SaveReport
from workbench.core.control import Control
from workbench.core.errors import FileError, ModelError
from workbench.core.events import Event, Phase, Progress
from workbench.exporting import ExportPlan

REPORT = SaveReport(Path(), "gguf", "llama", 143_000_000, 0.8916, type="q8_0", exact=False)


class FakeSession:
    """Plans sizes by format; an export waits until it is let through."""

    def __init__(self) -> None:
        self.model: Any = SimpleNamespace(name="SmolLM2-135M.Q4_1", parameters=134_500_000, dtype="float32", precision="float32")
        self.adapter: Any = None
        self.calls: list[tuple[Any, ...]] = []
        self.through = threading.Event()
        self.fails: Exception | None = None

    def plan_export(self, config: Any) -> ExportPlan:
        if config.format == "hf":
            raise ModelError("Hugging Face's llama cannot express this model's position = alibi.", hint="Keep it.", details="all of them")
        suffix, family = (".gguf", "llama") if config.format == "gguf" else ("", "workbench")
        return ExportPlan(config.format, family, config.type or "f32", 538_000_000, suffix, ("GGUF does not record something.",))

    def export(
        self, out: Path, format: str, type: str | None, overwrite: bool, control: Control
    ) -> Generator[Event, None, SaveReport | None]:
        self.calls.append((out, format, type, overwrite))
        yield Phase(word="Saving")
        yield Progress(message=f"Saving {out.name}", done=10, total=100, unit="B")
        while not control.stopping and not self.through.wait(0.005):
            pass
        if self.fails is not None:
            raise self.fails
        return None if control.stopping else replace(REPORT, path=out)


@pytest.fixture
def session() -> Iterator[FakeSession]:
    made = FakeSession()
    yield made
    made.through.set()


@pytest.fixture
def page(qtbot: QtBot, services: Services, session: FakeSession) -> ExportWindow:
    """The window as the command opens it."""
    main = QWidget()
    qtbot.addWidget(main)
    main.command = ExportCommand(main, services)  # type: ignore[attr-defined]
    services.session = session
    services.bus.model_changed.emit(session.model)
    services.actions["model.export"].trigger()
    found = main.command.page  # type: ignore[attr-defined]
    assert isinstance(found, ExportWindow)
    return found


def edit(page: ExportWindow, **changes: Any) -> None:
    page.form.set_value(replace(page.form.value, **changes))
    page.form.changed.emit(page.form.value)


def test_the_command_waits_for_a_model_and_opens_one_window(qtbot: QtBot, services: Services, session: FakeSession) -> None:
    main = QWidget()
    qtbot.addWidget(main)
    command = ExportCommand(main, services)
    action = services.actions["model.export"]
    assert (action.isEnabled(), action.reason) == (False, "No model is loaded.")
    services.session = session
    services.bus.model_changed.emit(session.model)
    action.trigger()
    first = command.page
    action.trigger()
    assert first is not None
    assert command.page is first
    with qtbot.waitSignal(first.destroyed):
        first.close()
    assert command.page is None
    services.bus.model_changed.emit(None)
    assert not action.isEnabled()


def test_it_says_what_will_be_written(page: ExportWindow) -> None:
    assert page.name.full_text == "SmolLM2-135M.Q4_1"
    assert page.words.text() == "134.5 M parameters, float32 in memory."
    said = page.plan_words.text().replace("\N{NO-BREAK SPACE}", " ")
    assert said.startswith("538 MB as f32 · kind of model: llama · ")
    assert "free there" in said
    assert said.endswith("GGUF does not record something.")
    assert page.path.name == "SmolLM2-135M-f32.gguf"
    assert page.start_button.isEnabled()


def test_an_adapter_in_force_is_named(page: ExportWindow, services: Services, session: FakeSession) -> None:
    session.adapter = SimpleNamespace(name="style", strength=0.5)
    services.bus.adapter_changed.emit((session.adapter,))
    assert "“style” is added into the weights at strength 0.5" in page.words.text()


def test_the_place_follows_the_format_until_it_is_chosen(page: ExportWindow, tmp_path: Path) -> None:
    edit(page, type="q8_0")
    assert page.path.name == "SmolLM2-135M-q8_0.gguf"
    edit(page, format="workbench", type=None)
    assert page.path.name == "SmolLM2-135M-workbench"
    page.choose(str(tmp_path / "mine"))
    edit(page, type="bf16")
    assert page.path == tmp_path / "mine"


def test_what_the_format_cannot_hold_is_said_before(page: ExportWindow) -> None:
    edit(page, format="hf")
    assert "position = alibi" in page.message.title.text()
    assert not page.message.isHidden()
    assert not page.start_button.isEnabled()
    edit(page, format="gguf")
    assert page.message.isHidden()
    assert page.start_button.isEnabled()


def test_a_type_that_the_format_lacks_is_told_at_the_field(page: ExportWindow) -> None:
    edit(page, format="hf", type="q8_0")
    assert page.plan_words.text() == "Hugging Face folder cannot store numbers as q8_0."
    assert not page.start_button.isEnabled()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda place: place, "The name must end in .gguf."),
        (lambda place: (place.with_suffix(".gguf").mkdir(), place.with_suffix(".gguf"))[1], "is a folder of another kind."),
    ],
)
def test_a_place_that_will_not_do_is_named(page: ExportWindow, tmp_path: Path, make: Callable[[Path], Path], says: str) -> None:
    page.choose(str(make(tmp_path / "model")))
    assert not page.start_button.isEnabled()
    assert says in page.plan_words.text()
    assert says in page.start_button.toolTip()
    page.choose("  ")
    assert "Say where to export to." in page.plan_words.text()


def test_it_writes_and_says_how_it_went(
    page: ExportWindow, qtbot: QtBot, session: FakeSession, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(page, type="q8_0")
    page.choose(str(tmp_path / "m.gguf"))
    qtbot.mouseClick(page.start_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: page.bar.maximum() == 1000)
    assert page.bar.value() == 100
    assert page.stop_button.isVisible()
    assert not page.start_button.isVisible()
    assert not page.place.isEnabled()
    assert services.jobs.running("model") is not None
    session.through.set()
    qtbot.waitUntil(page.start_button.isVisible)
    assert session.calls == [(tmp_path / "m.gguf", "gguf", "q8_0", False)]
    assert page.message.title.text().startswith("Exported 143 MB in ")
    assert "itself rounded to q8_0, largest difference of a logit 0.89; that is what the rounding costs" in page.message.text.text()
    opened: list[Any] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", opened.append)
    qtbot.mouseClick(page.folder_button, Qt.MouseButton.LeftButton)
    assert opened[0].toLocalFile() == str(tmp_path)


def test_a_checkpoint_that_is_there_is_replaced_only_by_a_button_that_says_so(
    page: ExportWindow, qtbot: QtBot, session: FakeSession, tmp_path: Path
) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    page.choose(str(tmp_path / "m.gguf"))
    assert page.start_button.text() == "Replace and export"
    session.through.set()
    qtbot.mouseClick(page.start_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not page.message.isHidden())
    assert session.calls[0][3] is True


def test_a_stop_says_that_nothing_was_written(page: ExportWindow, qtbot: QtBot, tmp_path: Path) -> None:
    page.choose(str(tmp_path / "m.gguf"))
    qtbot.mouseClick(page.start_button, Qt.MouseButton.LeftButton)
    qtbot.mouseClick(page.stop_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(page.start_button.isVisible)
    assert page.message.title.text() == "Stopped."
    assert page.folder_button.isHidden()


def test_a_failure_is_told_in_the_window(
    page: ExportWindow, qtbot: QtBot, session: FakeSession, services: Services, tmp_path: Path
) -> None:
    session.fails = FileError("The disk is full.", hint="Free some space.")
    session.through.set()
    page.choose(str(tmp_path / "m.gguf"))
    qtbot.mouseClick(page.start_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not page.message.isHidden())
    assert (page.message.title.text(), page.message.text.text()) == ("The disk is full.", "Free some space.")
    qtbot.waitUntil(page.start_button.isEnabled)


def test_work_that_is_in_the_way_is_named(page: ExportWindow, services: Services, gate: Callable[..., Any], qtbot: QtBot) -> None:
    busy = gate()
    services.jobs.start("A run", busy, "train")
    assert "“A run” is still running." in page.start_button.toolTip()
    assert not page.start_button.isEnabled()
    busy.through.set()
    qtbot.waitUntil(page.start_button.isEnabled)


def test_closing_it_leaves_the_export_running(
    page: ExportWindow, qtbot: QtBot, session: FakeSession, services: Services, tmp_path: Path
) -> None:
    page.choose(str(tmp_path / "m.gguf"))
    qtbot.mouseClick(page.start_button, Qt.MouseButton.LeftButton)
    with qtbot.waitSignal(page.destroyed):
        page.close()
    assert services.jobs.running("model") is not None
    session.through.set()
    qtbot.waitUntil(lambda: services.jobs.running("model") is None)


def test_it_closes_when_the_model_goes(page: ExportWindow, qtbot: QtBot, session: FakeSession, services: Services) -> None:
    session.model = None
    with qtbot.waitSignal(page.destroyed):
        services.bus.model_changed.emit(None)


def test_the_real_engine_behind_the_window(qtbot: QtBot, services: Services, tmp_path: Path) -> None:
    """A tiny model, loaded and exported for good: the window asks of the session what the session offers."""
    from workbench.checkpoints import load_checkpoint, save_checkpoint
    from workbench.model import ModelConfig, build_model
    from workbench.session import Session
    from workbench.tokenizers import ByteTokenizer

    model = build_model(ModelConfig(vocab_size=259, n_layers=1, d_model=32, n_heads=4, d_ff=64, max_positions=32), seed=1)
    save_checkpoint(model, ByteTokenizer(), None, tmp_path / "tiny")
    session = Session(tmp_path / "home", device="cpu", dtype="float32", threads=1)
    list(session.load(tmp_path / "tiny"))
    main = QWidget()
    qtbot.addWidget(main)
    command = ExportCommand(main, services)
    services.session = session
    services.bus.model_changed.emit(session.model)
    services.actions["model.export"].trigger()
    page = command.page
    assert page is not None
    edit(page, type="q8_0")
    page.choose(str(tmp_path / "m.gguf"))
    qtbot.mouseClick(page.start_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not page.message.isHidden(), timeout=20_000)
    assert page.message.title.text().startswith("Exported ")
    assert "largest difference of a logit 0.00" in page.message.text.text()
    assert isinstance(load_checkpoint(tmp_path / "m.gguf").tokenizer, ByteTokenizer)
    qtbot.waitUntil(page.start_button.isEnabled)
