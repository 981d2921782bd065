"""The fine-tune panel with a session that computes nothing: what the button says, what a start asks for, and how runs end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QAccessible, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QLabel,
    QLineEdit,
    QMainWindow,
    QPlainTextEdit,
    QWidget,
)
from pytestqt.qtbot import QtBot

from ui.panels.finetune import FinetunePanel
from ui.services import Services
from ui.widgets.labels import ElidingLabel
from workbench.core.control import Control
from workbench.core.errors import DataError
from workbench.core.events import Event, Phase, Progress
from workbench.data import DataConfig, DataReport, RowProblem, Sample, Segment
from workbench.requests import AdapterState, FinetuneRequest
from workbench.training.events import EvalEvent, SaveEvent, StepEvent, TrainingDiverged, TrainResult

WAIT = 5000
SAMPLE = Sample("chat.jsonl", 1, (Segment("Hi?", False), Segment("Hello.", True), Segment("<|end|>", True, True)), 9, 5)
GOOD = DataReport(
    rows=100, kept=100, dropped=0, truncated=2, sequences=100, tokens=9000, trained_tokens=6000, longest=200, samples=(SAMPLE,) * 3
)  # fmt: skip
EMPTY = replace(
    GOOD, kept=0, dropped=2, rows=2, truncated=0, sequences=0, tokens=0, trained_tokens=0, longest=0, samples=(),
    problems=tuple(RowProblem("a.jsonl", row, "There is no reply.", "Add a reply.") for row in (3, 7)),
    reasons=(("There is no reply.", 2),),
)  # fmt: skip


@dataclass
class FakeSession:
    """Trains nothing, but says all that a run says; one step each time `step` is released."""

    model: Any = None
    adapter: AdapterState | None = None
    report: DataReport = GOOD
    data_error: DataError | None = None
    fail_at: int = 0
    folder: Path = Path("runs/r1")
    requests: list[FinetuneRequest] = field(default_factory=list)
    checks: list[tuple[DataConfig, int]] = field(default_factory=list)
    save_on_stop: bool | None = None
    step: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    reading: threading.Event = field(default_factory=threading.Event)
    compute: Any = field(default_factory=lambda: SimpleNamespace(label="CPU", reason="", dtype="torch.float32"))

    def __post_init__(self) -> None:
        self.reading.set()

    def account(self) -> Any:
        tensors = {"blocks.0.attention.q_proj.weight": 64 * 64, "blocks.0.mlp.up_proj.weight": 64 * 256, "embedding.weight": 64 * 100}
        return SimpleNamespace(parameters=100_000, config=SimpleNamespace(d_model=64), by_tensor=tensors)

    def preflight(self, data: DataConfig, max_length: int, control: Control) -> Generator[Event, None, DataReport]:
        self.checks.append((data, max_length))
        yield Progress(message="Reading data", done=12, unit="rows")
        while not self.reading.wait(0.005):
            if control.stopping:
                return replace(self.report, stopped=True)
        if self.data_error is not None:
            raise self.data_error
        return self.report

    def finetune(self, request: FinetuneRequest, control: Control) -> Generator[Event, None, TrainResult]:
        self.requests.append(request)
        yield Phase(word="Training")
        of = request.train.max_steps or 60
        for n in range(1, of + 1):
            while not self.step.acquire(timeout=0.005):
                control.wait_while_paused(every=0.005)
                if control.stopping:
                    self.save_on_stop = control.save_on_stop
                    saved = self.folder / "adapter" if control.save_on_stop else None
                    return TrainResult(reason="stopped", steps=n - 1, adapter=saved)
            if n == self.fail_at:
                raise TrainingDiverged("The loss became NaN at step 5.", hint="Lower the rate.", step=n, good_step=n - 1, saved=None)
            metrics = {"loss": 4.0 / n, "train_tokens_per_second": 1234.4}
            yield StepEvent(step=n, of=of, tokens=10, trained_tokens=5, seconds=1.0, eta_seconds=float(of - n), metrics=metrics)
            if n == 4:
                yield EvalEvent(step=n, of=of, tokens=10, seconds=1.0, metrics={"eval_loss": 1.5})
                yield SaveEvent(step=n, of=of, path=self.folder / "checkpoint-000004")
        return TrainResult(reason="done", steps=of, adapter=self.folder / "adapter")

    def use_adapter(self, path: Path | None, strength: float = 1.0) -> AdapterState | None:
        self.adapter = None if path is None else AdapterState(path.parent.name, path, strength)
        return self.adapter

    def set_strength(self, strength: float) -> None:
        assert self.adapter is not None
        self.adapter = AdapterState(self.adapter.name, self.adapter.path, strength)


def model(name: str = "tiny") -> Any:
    return SimpleNamespace(name=name, parameters=100_000, dtype="float32", device="cpu", chat=True)


@pytest.fixture
def session(tmp_path: Path) -> FakeSession:
    return FakeSession(model=model(), folder=tmp_path / "runs" / "r1")


@pytest.fixture
def open_panel(services: Services, qtbot: QtBot) -> Iterator[Callable[..., FinetunePanel]]:
    """Makes a shown panel; with a session, the engine is ready."""
    made: list[FinetunePanel] = []

    def make(session: FakeSession | None = None) -> FinetunePanel:
        panel = FinetunePanel(services)
        qtbot.addWidget(panel)
        made.append(panel)
        panel.resize(340, 700)
        with qtbot.waitExposed(panel):
            panel.show()
        if session is not None:
            services.session = session
            services.bus.engine_ready.emit(session)
        return panel

    yield make
    for panel in made:
        if panel.run_card.job is not None:
            panel.run_card.job.stop(save=False)


@pytest.fixture
def panel(open_panel: Callable[..., FinetunePanel], session: FakeSession, qtbot: QtBot) -> FinetunePanel:
    """Open, with a model and data that were found good."""
    made = open_panel(session)
    qtbot.waitUntil(lambda: made.start_button.isEnabled(), timeout=WAIT)
    return made


def run_steps(panel: FinetunePanel, session: FakeSession, steps: int, qtbot: QtBot) -> None:
    """Let the run make so many steps, and wait until the panel shows them."""
    wanted = panel.run_card.track.step + steps
    session.step.release(steps)
    qtbot.waitUntil(lambda: panel.run_card.track.step == wanted, timeout=WAIT)


def finish(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    session.step.release(1000)
    qtbot.waitUntil(lambda: panel.run_card.job is None, timeout=WAIT)


def type_number(panel: FinetunePanel, name: str, text: str) -> None:
    form = panel.setup.method.adapter if name in panel.setup.method.adapter.rows else panel.setup.method.run
    form.editor(name).stops()[-1].lineEdit().setText(text)  # type: ignore[attr-defined]
    form.commit()


def click(qtbot: QtBot, widget: Any) -> None:
    qtbot.mouseClick(widget, Qt.MouseButton.LeftButton)


# ---- what is missing ---------------------------------------------------------------------------------------------


def test_opening_the_panel_does_not_import_torch() -> None:
    code = "import sys; import ui.panels.finetune; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0


def test_the_button_says_what_is_missing(open_panel: Callable[..., FinetunePanel], services: Services, qtbot: QtBot) -> None:
    panel = open_panel()
    assert panel.start_button.text() == "The engine is loading…"
    session = FakeSession()
    session.reading.clear()
    services.session = session
    services.bus.engine_ready.emit(session)
    assert panel.start_button.text() == "Load a model first"
    assert not services.actions["run.start"].isEnabled()
    assert "starter model" in services.actions["run.start"].reason
    session.model = model()
    services.bus.model_changed.emit(session.model)
    assert panel.start_button.text() == "Checking the data…"
    session.reading.set()
    qtbot.waitUntil(lambda: panel.start_button.text() == "Start fine-tuning", timeout=WAIT)
    assert panel.start_button.isEnabled()
    assert services.actions["run.start"].isEnabled()
    panel.setup.picker._set(())
    assert panel.start_button.text() == "Choose a dataset"
    assert not panel.start_button.isEnabled()


def test_without_an_engine_it_says_so(open_panel: Callable[..., FinetunePanel], services: Services) -> None:
    panel = open_panel()
    services.bus.engine_failed.emit(None)
    assert panel.start_button.text() == "The engine did not load"
    assert not panel.start_button.isEnabled()


def test_a_wrong_number_is_named_on_the_button(panel: FinetunePanel) -> None:
    type_number(panel, "r", "0")
    assert panel.start_button.text() == "Correct “Rank”"
    assert "the least is 1" in panel.start_button.toolTip()
    type_number(panel, "r", "8")
    assert "Correct" not in panel.start_button.text()


def test_a_layer_that_does_not_exist_is_named(panel: FinetunePanel) -> None:
    targets: Any = panel.setup.method.targets.editor
    targets.set_value(("banana_proj",))
    targets.edited.emit()
    assert panel.start_button.text() == "Correct “Layers”"
    assert "banana_proj" in panel.setup.method.counts.text()


def test_no_model_offers_the_two_ways_to_one(
    open_panel: Callable[..., FinetunePanel], services: Services, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for name in ("model.fetch_starter", "model.open"):
        services.actions.bind(name, lambda name=name: asked.append(name))
    panel = open_panel(FakeSession())
    click(qtbot, panel.model.starter)
    click(qtbot, panel.model.open)
    assert asked == ["model.fetch_starter", "model.open"]


def test_a_run_of_another_panel_is_named(panel: FinetunePanel, services: Services, gate: Callable[..., Any], qtbot: QtBot) -> None:
    work = gate()
    services.jobs.start("Merging", work, "model")
    assert panel.start_button.text() == "Wait for “Merging”"
    work.through.set()
    qtbot.waitUntil(lambda: panel.start_button.isEnabled(), timeout=WAIT)


# ---- the check of the data ---------------------------------------------------------------------------------------


def test_the_check_shows_what_would_be_learnt(panel: FinetunePanel, session: FakeSession) -> None:
    report = panel.setup.report
    assert "100 rows kept · 0 left out · 2 cut" in report.figures.text()
    assert "6,000 of 9,000 tokens learnt (67 %)" in report.figures.text()
    assert report.message.isHidden()
    report.samples.set_expanded(True)
    view = report.sample_view
    assert "1 of 3" in view.place.full_text
    assert "text-decoration:underline" in view.text.text()
    assert "Learnt: Hello." in view.text.accessibleName()
    assert session.checks == [(DataConfig(sources=("sample-chat",)), 256)]


def test_data_that_teach_nothing_cannot_start(open_panel: Callable[..., FinetunePanel], session: FakeSession, qtbot: QtBot) -> None:
    session.report = EMPTY
    panel = open_panel(session)
    qtbot.waitUntil(lambda: panel.setup.check.word == "checked", timeout=WAIT)
    assert panel.start_button.text() == "Nothing to learn in these data"
    assert not panel.start_button.isEnabled()
    message = panel.setup.report.message
    assert message.text.text() == "Rows 3, 7: There is no reply."
    assert message.hint.text() == "Add a reply."
    assert panel.data_step.state == "problem"
    panel.start()
    assert session.requests == []


def test_data_that_cannot_be_read_say_why(open_panel: Callable[..., FinetunePanel], session: FakeSession, qtbot: QtBot) -> None:
    session.data_error = DataError("x.jsonl does not exist.", hint="Check the path.")
    panel = open_panel(session)
    qtbot.waitUntil(lambda: panel.setup.check.word == "failed", timeout=WAIT)
    assert panel.start_button.text() == "The data cannot be used"
    assert panel.setup.report.message.text.text() == "x.jsonl does not exist."
    session.data_error = None
    click(qtbot, panel.setup.report.refresh)
    qtbot.waitUntil(lambda: panel.start_button.isEnabled(), timeout=WAIT)
    assert panel.setup.report.message.isHidden()


def test_it_is_checked_again_when_the_length_or_the_model_changes(
    panel: FinetunePanel, session: FakeSession, services: Services, qtbot: QtBot
) -> None:
    type_number(panel, "max_length", "64")
    assert not panel.start_button.isEnabled()
    qtbot.waitUntil(lambda: panel.start_button.isEnabled(), timeout=WAIT)
    session.model = model("other")
    services.bus.model_changed.emit(session.model)
    qtbot.waitUntil(lambda: panel.start_button.isEnabled(), timeout=WAIT)
    assert [length for _, length in session.checks] == [256, 64, 64]
    type_number(panel, "learning_rate", "1e-4")  # the data do not depend on it
    assert panel.start_button.isEnabled()


def test_a_newer_choice_overtakes_a_check_that_is_running(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    session.reading.clear()
    panel.setup.picker.take(["stdlib-docstrings"])
    qtbot.waitUntil(lambda: len(session.checks) == 2, timeout=WAIT)
    session.report = replace(GOOD, kept=7)
    panel.setup.picker.take(["sample-chat"])
    qtbot.waitUntil(lambda: len(session.checks) == 3, timeout=WAIT)
    session.reading.set()
    qtbot.waitUntil(lambda: panel.start_button.isEnabled(), timeout=WAIT)
    assert "7 rows kept" in panel.setup.report.figures.text()


# ---- choosing data -----------------------------------------------------------------------------------------------


def drag(paths: list[Path]) -> QMimeData:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(p)) for p in paths])
    return mime


def drop(panel: FinetunePanel, mime: QMimeData) -> bool:
    where, buttons, keys = QPointF(50, 50), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(where.toPoint(), Qt.DropAction.CopyAction, mime, buttons, keys)
    panel.dragEnterEvent(enter)
    if not enter.isAccepted():
        return False
    panel.dropEvent(QDropEvent(where, Qt.DropAction.CopyAction, mime, buttons, keys))
    return True


def test_files_are_dropped_onto_the_panel(panel: FinetunePanel, tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.md"]
    for file in files:
        file.write_text("x")
    mime = drag(files)
    assert drop(panel, mime)
    assert panel.setup.picker.sources == tuple(map(str, files))
    assert panel.setup.picker.combo.currentText() == "2 files: a.jsonl, b.md"
    assert panel._drop_hint.isHidden()


def test_a_model_dropped_onto_it_is_left_to_the_window(panel: FinetunePanel, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for path in (tmp_path / "m.gguf", tmp_path):
        mime = drag([path])
        assert not drop(panel, mime)
    assert panel.setup.picker.sources == ("sample-chat",)


def test_files_chosen_in_the_dialog_are_used_and_remembered(panel: FinetunePanel, tmp_path: Path, qtbot: QtBot) -> None:
    picker = panel.setup.picker
    picker.choose = lambda parent, chosen: chosen([str(tmp_path / "mine.txt")])
    click(qtbot, picker.files)
    assert picker.sources == (str(tmp_path / "mine.txt"),)
    picker.take(["sample-chat"])
    assert [picker.combo.itemText(i) for i in range(picker.combo.count()) if picker.combo.itemText(i)][-1] == "mine.txt"


def test_settings_are_there_again_on_the_next_start(
    panel: FinetunePanel, session: FakeSession, open_panel: Callable[..., FinetunePanel], services: Services, tmp_path: Path
) -> None:
    panel.setup.picker.take([str(tmp_path / "mine.txt")])
    type_number(panel, "r", "64")
    type_number(panel, "max_length", "128")
    panel.setup.remember()
    saved = json.loads(panel.setup.path.read_text())
    assert saved["version"] == 1
    panel.setup.check.want(None)
    again = open_panel(session)
    if again._setup is None:
        services.bus.engine_ready.emit(session)
    assert again.setup.request() == panel.setup.request()
    assert again.setup.request().lora.r == 64


# ---- a run -------------------------------------------------------------------------------------------------------


def test_three_clicks_at_most_from_a_fresh_start(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    click(qtbot, panel.start_button)
    qtbot.waitUntil(lambda: bool(session.requests), timeout=WAIT)
    assert session.requests == [FinetuneRequest(data=DataConfig())]


def test_start_asks_for_what_is_shown(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    method: Any = panel.setup.method
    click(qtbot, method.adapter.editor("method").segments.buttons()[1])
    type_number(panel, "r", "32")
    type_number(panel, "lora_alpha", "8")
    type_number(panel, "max_steps", "5")
    type_number(panel, "learning_rate", "2e-4")
    method.targets.editor.set_value(("attention",))
    method.more_run.editor("seed").box.lineEdit().setText("7")
    method.more_adapter.editor("lora_dropout").box.lineEdit().setText("0.1")
    click(qtbot, panel.start_button)
    qtbot.waitUntil(lambda: bool(session.requests), timeout=WAIT)
    lora, train = session.requests[0].lora, session.requests[0].train
    assert (lora.method, lora.r, lora.lora_alpha, lora.target_modules, lora.lora_dropout) == ("rslora", 32, 8.0, ("attention",), 0.1)
    assert (train.max_steps, train.learning_rate, train.seed, train.max_length) == (5, 2e-4, 7, 256)
    assert session.requests[0].out is None


def test_a_run_shows_its_figures_and_locks_the_settings(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    panel.start()
    run_steps(panel, session, 4, qtbot)
    card = panel.run_card
    qtbot.waitUntil(lambda: card.track.eval_loss == 1.5, timeout=WAIT)
    card.refresh()
    assert card.word.full_text == "Training · step 4 of 60"
    assert card.left.text() == "56 s left"
    assert card.figures.text() == "loss 1.000 · validation 1.500 · 1,234 tokens/s"
    assert card.bar.value() == round(1000 * 4 / 60)
    assert panel.start_button.isHidden()
    assert not panel.setup.picker.isEnabled()
    assert not panel.setup.method.adapter.isEnabled()


def test_the_command_starts_a_run_too(panel: FinetunePanel, services: Services, session: FakeSession, qtbot: QtBot) -> None:
    window = QMainWindow()
    qtbot.addWidget(window)
    window.addAction(services.actions["run.start"])
    window.setCentralWidget(panel)
    with qtbot.waitExposed(window):
        window.show()
    window.activateWindow()
    qtbot.keyClick(panel, Qt.Key.Key_R, Qt.KeyboardModifier.ControlModifier)
    qtbot.waitUntil(lambda: bool(session.requests), timeout=WAIT)
    assert not services.actions["run.start"].isEnabled()
    assert services.actions["run.start"].reason == "A run is going on."
    finish(panel, session, qtbot)
    window.takeCentralWidget()


def test_pause_and_resume(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    panel.start()
    run_steps(panel, session, 2, qtbot)
    click(qtbot, panel.run_card.pause)
    assert panel.run_card.word.full_text == "Paused · step 2 of 60"
    assert panel.run_card.pause.text() == "Resume"
    assert panel.run_card.left.text() == ""
    qtbot.keyClick(panel.run_card.pause, Qt.Key.Key_Space)
    assert panel.run_card.word.full_text.startswith("Training")
    run_steps(panel, session, 1, qtbot)
    panel.run_card.job.pause()  # by the command of the menu
    assert panel.run_card.pause.text() == "Resume"


@pytest.mark.parametrize("save", [True, False])
def test_stop_asks_in_place(panel: FinetunePanel, session: FakeSession, qtbot: QtBot, save: bool) -> None:
    panel.start()
    run_steps(panel, session, 2, qtbot)
    card = panel.run_card
    click(qtbot, card.stop)
    assert card.choice.isVisible()
    assert card.buttons.isHidden()
    assert "Nothing is saved yet" in card.choice.question.text()
    run_steps(panel, session, 1, qtbot)  # it goes on until the answer
    click(qtbot, card.choice.save if save else card.choice.drop)
    qtbot.waitUntil(lambda: card.job is None, timeout=WAIT)
    assert session.save_on_stop is save
    assert panel.result.message.title.text() == "Stopped after 3 of 60 steps."
    assert ("The adapter is saved." if save else "Nothing was kept.") in panel.result.message.text.text()
    assert panel.result.chat.isVisible() is save
    assert panel.start_button.isEnabled()


def test_a_stop_can_be_taken_back(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    panel.start()
    run_steps(panel, session, 4, qtbot)
    card = panel.run_card
    qtbot.waitUntil(lambda: card.track.saved_step == 4, timeout=WAIT)
    for answer in (lambda: click(qtbot, card.choice.stay), lambda: qtbot.keyClick(card.choice.save, Qt.Key.Key_Escape)):
        click(qtbot, card.stop)
        assert "Saved last at step 4" in card.choice.question.text()
        answer()
        assert card.choice.isHidden()
        assert card.buttons.isVisible()
    run_steps(panel, session, 1, qtbot)
    assert not card.job.stopping


def test_a_stop_by_the_command_is_shown(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    panel.start()
    run_steps(panel, session, 1, qtbot)
    click(qtbot, panel.run_card.stop)
    panel.run_card.job.stop(save=True)
    assert panel.run_card.choice.isHidden()
    assert panel.run_card.word.full_text == "Saving and stopping after this step…"
    assert not panel.run_card.pause.isEnabled()
    qtbot.waitUntil(lambda: panel.run_card.job is None, timeout=WAIT)


def test_a_failed_run_never_says_done(panel: FinetunePanel, session: FakeSession, services: Services, qtbot: QtBot) -> None:
    said: list[Any] = []
    services.notify.posted.connect(said.append)
    session.fail_at = 6
    panel.start()
    finish(panel, session, qtbot)
    message = panel.result.message
    assert message.title.text() == "Failed after 5 of 60 steps."
    assert message.text.text() == "The loss became NaN at step 5."
    assert message.hint.text() == "Lower the rate.\nKept: the checkpoint of step 4."
    assert "TrainingDiverged" in message.details.toPlainText()
    click(qtbot, message.details_button)
    assert message.details.isVisible()
    assert panel.result.folder.isVisible()
    assert panel.result.chat.isHidden()
    assert panel.start_button.text() == "Start another run"
    assert said == []  # it is told here, not a second time above the chat


def test_a_result_can_be_put_away(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    panel.start()
    finish(panel, session, qtbot)
    assert panel.start_button.text() == "Start another run"
    click(qtbot, panel.result.dismiss)
    assert panel.result.isHidden()
    assert panel.start_button.text() == "Start fine-tuning"


def test_what_a_failed_run_kept_can_be_used(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    kept = session.folder / "checkpoint-000004" / "adapter"
    kept.mkdir(parents=True)
    session.fail_at = 6
    panel.start()
    finish(panel, session, qtbot)
    assert panel.result.adapter == kept
    assert panel.result.chat.isVisible()


def test_a_failure_nobody_sees_goes_to_the_message_bar(
    panel: FinetunePanel, session: FakeSession, services: Services, qtbot: QtBot
) -> None:
    said: list[Any] = []
    services.notify.posted.connect(said.append)
    session.fail_at = 1
    panel.start()
    panel.hide()
    finish(panel, session, qtbot)
    qtbot.waitUntil(lambda: bool(said), timeout=WAIT)
    assert said[0].text.endswith("The loss became NaN at step 5.")


# ---- afterwards --------------------------------------------------------------------------------------------------


def test_chat_with_it(panel: FinetunePanel, session: FakeSession, services: Services, qtbot: QtBot) -> None:
    news: list[Any] = []
    shown: list[str] = []
    services.bus.adapter_changed.connect(news.append)
    services.bus.show_panel.connect(shown.append)
    panel.start()
    finish(panel, session, qtbot)
    assert panel.result.message.title.text().startswith("Done: 60 steps in ")
    assert panel.result.message.text.text() == "Loss 4.000 → 0.067, validation 1.500."
    click(qtbot, panel.result.chat)
    qtbot.waitUntil(lambda: shown == ["chat"], timeout=WAIT)
    assert session.adapter == AdapterState("r1", session.folder / "adapter", 1.0)
    assert news == [(session.adapter,)]
    assert panel.adapter.isVisible()
    assert panel.adapter.name.full_text == "Chat uses r1"


def test_strength_acts_on_the_next_message(panel: FinetunePanel, session: FakeSession, services: Services, qtbot: QtBot) -> None:
    services.bus.use_adapter.emit(Path("runs/r1/adapter"))
    qtbot.waitUntil(lambda: panel.adapter.isVisible(), timeout=WAIT)
    slider = panel.adapter.slider
    assert panel.adapter.strength == 1.0
    qtbot.keyClick(slider, Qt.Key.Key_Right)
    assert session.adapter is not None
    assert session.adapter.strength == pytest.approx(1.05)
    qtbot.keyClick(slider, Qt.Key.Key_End)
    assert session.adapter.strength == 1.5
    assert panel.adapter.value.text() == "1.50 ×"
    qtbot.keyClick(slider, Qt.Key.Key_Home)
    assert session.adapter.strength == 0.0
    qtbot.waitUntil(lambda: services.jobs.running("chat") is None, timeout=WAIT)
    click(qtbot, panel.adapter.off)
    qtbot.waitUntil(lambda: session.adapter is None and panel.adapter.isHidden(), timeout=WAIT)


def test_an_adapter_waits_for_the_reply_that_is_written(
    panel: FinetunePanel, session: FakeSession, services: Services, gate: Callable[..., Any], qtbot: QtBot, caplog: pytest.LogCaptureFixture
) -> None:
    services.jobs.start("Reply", gate("Generating"), "chat")
    said: list[Any] = []
    services.notify.posted.connect(said.append)
    services.bus.use_adapter.emit(Path("runs/r1/adapter"))
    assert session.adapter is None
    qtbot.waitUntil(lambda: bool(said), timeout=WAIT)
    assert "“Reply” is still running." in said[0].text


def test_another_model_takes_its_adapter_with_it(panel: FinetunePanel, session: FakeSession, services: Services, qtbot: QtBot) -> None:
    panel.start()
    finish(panel, session, qtbot)
    click(qtbot, panel.result.chat)
    qtbot.waitUntil(lambda: panel.adapter.isVisible(), timeout=WAIT)
    session.adapter, session.model = None, model("other")
    with qtbot.waitSignal(services.bus.adapter_changed, timeout=WAIT) as news:
        services.bus.model_changed.emit(session.model)
    assert news.args == [()]
    assert panel.adapter.isHidden()
    assert not panel.result.chat.isEnabled()
    assert "another model" in panel.result.chat.toolTip()


def test_closing_during_a_run_stops_it(panel: FinetunePanel, session: FakeSession, services: Services, qtbot: QtBot) -> None:
    panel.start()
    run_steps(panel, session, 1, qtbot)
    with qtbot.waitSignal(services.jobs.idle, timeout=WAIT):
        services.jobs.shutdown(save=True)
    assert session.save_on_stop is True


# ---- for everyone ------------------------------------------------------------------------------------------------

FIELDS = (QAbstractButton, QLineEdit, QAbstractSpinBox, QComboBox, QAbstractSlider, QPlainTextEdit)


def test_everything_that_takes_the_keyboard_has_a_name(panel: FinetunePanel) -> None:
    nameless = [
        f"{type(w).__name__} {w.objectName()}"
        for w in panel.findChildren(QWidget)
        if isinstance(w, FIELDS)
        and w.focusPolicy().value
        and not w.objectName().startswith("qt_")
        and w.parent().metaObject().className() != "QComboBoxPrivateContainer"
        and not QAccessible.queryAccessibleInterface(w).text(QAccessible.Text.Name)
    ]
    assert nameless == []


def test_tab_goes_from_the_data_over_the_method_to_the_start(panel: FinetunePanel) -> None:
    order: list[QWidget] = []
    widget = panel.setup.picker.combo.nextInFocusChain()
    while widget is not panel.setup.picker.combo:
        order.append(widget)
        widget = widget.nextInFocusChain()
    method: Any = panel.setup.method
    wanted = [panel.setup.picker.files, method.adapter.editor("r").box, method.targets.editor.combo, method.run.editor("max_length").box]
    places = [order.index(w) for w in [*wanted, panel.start_button]]
    assert places == sorted(places)


def clipped(panel: FinetunePanel) -> list[str]:
    """Buttons and texts that are narrower than they need, or stand out of the panel."""
    found = []
    for widget in panel.findChildren(QWidget):
        if isinstance(widget, (QAbstractButton, QLabel)) and widget.isVisible() and not isinstance(widget, ElidingLabel):
            right = widget.mapTo(panel, QPoint(widget.width(), 0)).x()
            if widget.width() < widget.minimumSizeHint().width() or right > panel.width():
                found.append(f"{type(widget).__name__} {widget.property('text')!r} {widget.width()} {widget.minimumSizeHint().width()}")
    return found


@pytest.mark.parametrize(("width", "scale"), [(320, 1.0), (340, 1.1), (380, 1.25)])
def test_nothing_is_cut_off_in_a_narrow_dock(
    open_panel: Callable[..., FinetunePanel], session: FakeSession, services: Services, qtbot: QtBot, width: int, scale: float
) -> None:
    services.theme.set_font_scale(scale)
    session.model, session.report = None, EMPTY
    panel = open_panel(session)
    panel.resize(width, 700)
    panel.layout().activate()
    assert clipped(panel) == []
    session.model = model()
    services.bus.model_changed.emit(session.model)
    qtbot.waitUntil(lambda: panel.setup.check.word == "checked", timeout=WAIT)
    assert clipped(panel) == []
    session.report = GOOD
    panel.setup.check.again()
    qtbot.waitUntil(lambda: panel.start_button.isEnabled(), timeout=WAIT)
    panel.start()
    run_steps(panel, session, 1, qtbot)
    panel.run_card.stop.click()
    assert clipped(panel) == []
    session.fail_at = 3
    finish(panel, session, qtbot)
    assert clipped(panel) == []
    services.bus.use_adapter.emit(Path("runs/r1/adapter"))
    qtbot.waitUntil(lambda: panel.adapter.isVisible() and not services.jobs.jobs, timeout=WAIT)
    assert clipped(panel) == []
    services.theme.set_font_scale(1.0)
