"""The status bar: measured figures, the job that matters, and widths that do not jump."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from ui.jobs.runner import JobProgress
from ui.services import Services
from ui.statusbar import StatusBar, progress_text
from workbench.core.events import Progress


@pytest.fixture
def bar(services: Services, qtbot: QtBot) -> StatusBar:
    made = StatusBar(services)
    qtbot.addWidget(made)
    made.resize(1100, 24)
    with qtbot.waitExposed(made):
        made.show()
    return made


def test_it_begins_honestly(bar: StatusBar) -> None:
    assert (bar.device.text(), bar.model.text(), bar.job.text()) == ("Loading the engine…", "No model", "Idle")
    assert not bar.bar.isVisible()


def test_memory_is_measured(bar: StatusBar) -> None:
    assert any(unit in bar.memory.text() for unit in ("MB", "GB"))
    assert "free" in bar.memory.text()


def test_engine_and_model_are_named(bar: StatusBar, services: Services, fake_session: Any) -> None:
    services.bus.engine_ready.emit(fake_session)
    assert bar.device.text() == "CPU · float32 · 2 threads"
    model = SimpleNamespace(name="SmolLM2", parameters=134_515_008, parameter_bytes=538_060_032, precision="float32", path="/m")
    services.bus.model_changed.emit(model)
    assert bar.model.text() == "SmolLM2 · 134.5 M"
    assert bar.model.accessibleName() == "Model: SmolLM2 · 134.5 M"
    services.bus.model_changed.emit(None)
    assert bar.model.text() == "No model"


def test_cache_bytes_come_from_the_newest_event(bar: StatusBar, services: Services) -> None:
    services.bus.events.emit([Progress(message="x", metrics={"cache_bytes": 1e6}), Progress(message="x", metrics={"cache_bytes": 12.3e6})])
    assert bar.cache.text() == "KV cache 12.3 MB"
    services.bus.events.emit([Progress(message="x")])
    assert bar.cache.text() == "KV cache 12.3 MB"
    services.bus.model_changed.emit(None)
    assert not bar.cache.isVisible()


def test_the_running_job_and_its_progress_are_shown(bar: StatusBar, services: Services, gate: Any, qtbot: QtBot) -> None:
    work = gate()
    job = services.jobs.start("my run", work, "train")
    qtbot.waitUntil(lambda: bar.numbers.text() == "12/60")
    assert bar.job.text() == "Training: my run"
    assert bar.bar.value() == 200
    job.pause()
    assert bar.job.text() == "Paused: my run"
    job.stop()
    assert bar.job.text() == "Stopping…: my run"
    qtbot.waitUntil(lambda: bar.job.text() == "Idle")


def test_a_training_matters_more_than_what_runs_beside_it(bar: StatusBar, services: Services, gate: Any, qtbot: QtBot) -> None:
    services.jobs.start("my run", gate(), "train")
    services.jobs.start("a reply", gate("Generating"), "chat")
    qtbot.waitUntil(lambda: bar.job.text() == "Training: my run (+1)")
    with qtbot.waitSignal(services.bus.show_panel) as wanted:
        qtbot.mouseClick(bar.job, Qt.MouseButton.LeftButton)
    assert wanted.args == ["finetune"]


def test_cells_do_not_shrink(bar: StatusBar) -> None:
    bar.memory.show_text("Memory 1.23 GB · 23.4 GB free")
    wide = bar.memory.minimumWidth()
    bar.memory.show_text("Memory 9 B · 1 B free")
    assert bar.memory.minimumWidth() == wide


def test_it_fits_a_small_window(bar: StatusBar, services: Services, fake_session: Any, gate: Any, qtbot: QtBot) -> None:
    services.bus.engine_ready.emit(fake_session)
    model = SimpleNamespace(
        name="SmolLM2-135M-Instruct", parameters=134_515_008, parameter_bytes=538_060_032, precision="float32", path="/m"
    )
    services.bus.model_changed.emit(model)
    services.bus.events.emit([Progress(message="x", metrics={"cache_bytes": 123e6})])
    services.jobs.start("sample-chat-lora-r16", gate(), "train")
    qtbot.waitUntil(lambda: bar.numbers.text() == "12/60")
    assert bar.minimumSizeHint().width() <= 1100


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (JobProgress(12, 60, "steps", "", 65.0), "12/60 · ~1 min 05 s left"),
        (JobProgress(4e6, 98.4e6, "B"), "4.0 MB/98.4 MB"),
        (JobProgress(17, None, "tokens"), "17 tokens"),
        (JobProgress(0, None, "", "importing torch"), "importing torch"),
        (JobProgress(), ""),
    ],
)
def test_progress_in_words(progress: JobProgress, text: str) -> None:
    assert progress_text(SimpleNamespace(progress=progress, state="Training")) == text  # type: ignore[arg-type]
