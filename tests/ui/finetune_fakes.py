"""A session that trains nothing but says all that a run says, and fixtures of a fine-tune panel on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from ui.panels.finetune import FinetunePanel
from ui.services import Services
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
        if request.full:
            return TrainResult(reason="done", steps=of, model=self.folder / "model")
        return TrainResult(reason="done", steps=of, adapter=self.folder / "adapter")

    def use_adapter(self, path: Path | None, strength: float = 1.0) -> AdapterState | None:
        self.adapter = None if path is None else AdapterState(path.parent.name, path, strength)
        return self.adapter

    def set_strength(self, strength: float) -> None:
        assert self.adapter is not None
        self.adapter = AdapterState(self.adapter.name, self.adapter.path, strength)


def model(name: str = "tiny") -> Any:
    return SimpleNamespace(name=name, parameters=100_000, dtype="float32", precision="float32", device="cpu", chat=True)


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
