"""A session that trains nothing but says all that a run from scratch says, and fixtures of a build page on it."""

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

from ui.panels.build import BuildPanel
from ui.services import Services
from workbench.core.control import Control
from workbench.core.errors import DataError
from workbench.core.events import Event, Phase, Progress
from workbench.pretraining import PretrainCheck
from workbench.requests import PairRequest, PretrainRequest
from workbench.training.events import EvalEvent, PairEvent, ProbeEvent, SampleEvent, SaveEvent, StepEvent, TrainResult

WAIT = 5000
GOOD = PretrainCheck(
    tokens=460_000, windows=3_400, held_out=180, length=128, vocabulary=2_048, beginning=("The", " cat", " sat", "\n", "on")
)  # fmt: skip
BLOCKS = 4


@dataclass
class FakeSession:
    """Does one step each time `step` is released; `sample_every` steps it writes something."""

    model: Any = None
    found: PretrainCheck = GOOD
    data_error: DataError | None = None
    folder: Path = Path("runs")
    fail_at: int = 0
    requests: list[PretrainRequest] = field(default_factory=list)
    pairs: list[PairRequest] = field(default_factory=list)
    checks: list[PretrainRequest] = field(default_factory=list)
    save_on_stop: bool | None = None
    step: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    reading: threading.Event = field(default_factory=threading.Event)
    compute: Any = field(default_factory=lambda: SimpleNamespace(label="CPU", reason="", dtype="torch.float32"))

    def __post_init__(self) -> None:
        self.reading.set()

    def run_folder(self, label: str) -> Path:
        return self.folder / f"2026-01-01-{label}"

    def preflight_pretrain(self, request: PretrainRequest, control: Control) -> Generator[Event, None, PretrainCheck]:
        self.checks.append(request)
        yield Progress(message="Reading data", done=12, unit="rows")
        while not self.reading.wait(0.005):
            if control.stopping:
                return PretrainCheck(stopped=True)
        if self.data_error is not None:
            raise self.data_error
        return self.found

    def pretrain(self, request: PretrainRequest, control: Control) -> Generator[Event, None, TrainResult]:
        self.requests.append(request)
        assert request.out is not None
        yield Phase(word="Training")
        of = _steps(request)
        for n in range(1, of + 1):
            if not self._allowed(control):
                return self._stopped(n - 1, request.out, control)
            yield from self._events(n, of, request, "", 4.0 / n)
        return TrainResult(reason="done", steps=of, model=request.out / "model", folder=request.out)

    def pretrain_pair(self, request: PairRequest, control: Control) -> Generator[Event, None, TrainResult]:
        self.pairs.append(request)
        assert request.out is not None
        yield Phase(word="Training")
        of = _steps(request.a)
        final: dict[str, float] = {}
        for n in range(1, of + 1):
            if not self._allowed(control):
                return self._stopped(n - 1, request.out, control)
            a, b = 4.0 / n, 3.0 / n
            yield from self._events(n, of, replace(request.a, out=request.out / "A"), "A", a)
            yield from self._events(n, of, replace(request.b, out=request.out / "B"), "B", b)
            final |= {"loss_a": a, "loss_b": b, "loss_difference": b - a}
            yield PairEvent(step=n, of=of, metrics=dict(final))
        runs = {s: TrainResult(reason="done", steps=of, model=request.out / s / "model", folder=request.out / s) for s in "AB"}
        return TrainResult(reason="done", steps=of, final=final, folder=request.out, runs=runs)

    def _allowed(self, control: Control) -> bool:
        while not self.step.acquire(timeout=0.005):
            control.wait_while_paused(every=0.005)
            if control.stopping:
                return False
        return True

    def _stopped(self, steps: int, out: Path, control: Control) -> TrainResult:
        self.save_on_stop = control.save_on_stop
        return TrainResult(reason="stopped", steps=steps, model=out / "model" if control.save_on_stop else None, folder=out)

    def _events(self, n: int, of: int, request: PretrainRequest, run: str, loss: float) -> Iterator[Event]:
        suffix = f"_{run.lower()}" if run else ""
        metrics = {f"loss{suffix}": loss, "train_tokens_per_second": 1_000.0}
        yield StepEvent(
            step=n, of=of, run=run, tokens=100, trained_tokens=100, seconds=0.1, eta_seconds=float(of - n), metrics=metrics
        )  # fmt: skip
        train = request.train
        if train.probe_every and n % train.probe_every == 0:
            members = {f"{f}.{i}": (i + 1.0) / n for f in ("block_gradient_norm", "residual_rms", "activation_max") for i in range(BLOCKS)}
            yield ProbeEvent(step=n, of=of, run=run, metrics=members)
        if train.sample_every and n % train.sample_every == 0:
            yield SampleEvent(step=n, of=of, run=run, prompt="Once", text=f" upon a time {n}{run}")
        if n == 4:
            yield EvalEvent(step=n, of=of, run=run, tokens=10, seconds=1.0, metrics={f"eval_loss{suffix}": 1.5})
            yield SaveEvent(step=n, of=of, run=run, path=(request.out or self.folder) / "checkpoint-000004")


def _steps(request: PretrainRequest) -> int:
    """So many fit into the time, in this machine's imagination."""
    return 60 if request.train.max_minutes is not None else request.train.max_steps or 60


@pytest.fixture
def session(tmp_path: Path) -> FakeSession:
    return FakeSession(folder=tmp_path / "runs")


@pytest.fixture
def open_page(services: Services, qtbot: QtBot) -> Iterator[Callable[..., BuildPanel]]:
    """Makes a shown page; with a session, the engine is ready."""
    made: list[BuildPanel] = []

    def make(session: FakeSession | None = None, width: int = 720) -> BuildPanel:
        page = BuildPanel(services)
        qtbot.addWidget(page)
        made.append(page)
        page.resize(width, 700)
        with qtbot.waitExposed(page):
            page.show()
        if session is not None:
            services.session = session
            services.bus.engine_ready.emit(session)
        return page

    yield make
    for page in made:
        if page.run_card.job is not None:
            page.run_card.job.stop(save=False)


@pytest.fixture
def page(open_page: Callable[..., BuildPanel], session: FakeSession, qtbot: QtBot) -> BuildPanel:
    """Open, with data that were found good."""
    made = open_page(session)
    ready(made, qtbot)
    return made


def ready(page: BuildPanel, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: page.start_button.isEnabled(), timeout=WAIT)


def set_train(page: BuildPanel, **changes: Any) -> None:
    """As typing into the fields does."""
    length = page.setup.length
    main = {k: v for k, v in changes.items() if k in length.main.rows}
    more = {k: v for k, v in changes.items() if k in length.more_train.rows}
    if "probe_every" in changes:
        length.look.set_value(changes["probe_every"])
    length.main.set_value(replace(length.main.value, **main))
    length.more_train.set_value(replace(length.more_train.value, **more))
    length.main.changed.emit(length.main.value)


def run_steps(page: BuildPanel, session: FakeSession, steps: int, qtbot: QtBot) -> None:
    """Let the run make so many steps, and wait until the page shows them."""
    wanted = page.track.step + steps
    session.step.release(steps)
    qtbot.waitUntil(lambda: page.track.step == wanted, timeout=WAIT)


def finish(page: BuildPanel, session: FakeSession, qtbot: QtBot) -> None:
    session.step.release(1000)
    qtbot.waitUntil(lambda: page.run_card.job is None, timeout=WAIT)


def click(qtbot: QtBot, widget: Any) -> None:
    qtbot.mouseClick(widget, Qt.MouseButton.LeftButton)
