"""A model from scratch, whole: the real window, the real engine, a text of one's own; by clicks to its first words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from tests.ui.build_fakes import click, set_train
from ui.app import Launch, Program
from ui.export import ExportWindow
from workbench.model import PRESETS
from workbench.runs import list_runs
from workbench.tokenizers.config import TokenizerConfig

pytestmark = pytest.mark.timeout(240)
LONG = 60_000
TEXT = "The cat sat on the mat and looked at the moon. The moon looked at the cat. " * 120


@pytest.fixture
def program(qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> Iterator[Program]:
    """The window with the engine, and no model on the machine."""
    made = Program(qapp, Launch(home=tmp_path / "home", theme="light"))
    qtbot.addWidget(made.window)
    made.start()
    qtbot.waitUntil(lambda: made.services.session is not None, timeout=LONG)
    yield made
    made.window.closing.without_asking()
    made.window.close()
    made.services.jobs.shutdown(save=False)
    qtbot.waitUntil(lambda: not made.services.jobs.jobs, timeout=30_000)


def prepare(program: Program, qtbot: QtBot, folder: Path, **train: Any) -> Any:
    """The Build page with a very small model, a text of one's own and bytes as tokens."""
    text = folder / "moon.txt"
    text.write_text(TEXT)
    page: Any = program.window.panels["build"]
    tiny = replace(PRESETS["tiny-llama"].config, n_layers=2, d_model=16, n_heads=2, n_kv_heads=2, d_ff=32, max_positions=64)
    program.services.bus.build_requested.emit(tiny)
    page.setup.picker.take([str(text)])
    page.setup.tokenizer.set_value(TokenizerConfig(kind="bytes"))
    page.setup.tokenizer.form.changed.emit(page.setup.tokenizer.value)
    set_train(page, max_minutes=None, per_device_train_batch_size=4, max_length=16, **train)
    qtbot.waitUntil(page.start_button.isEnabled, timeout=LONG)
    return page


def test_from_the_first_card_to_a_reply(program: Program, qtbot: QtBot, tmp_path: Path) -> None:
    card: Any = program.window.findChild(QWidget, "emptyCard")
    click(qtbot, card.build_button)
    page = prepare(program, qtbot, tmp_path, max_steps=30, sample_every=15, sample_tokens=8, eval_steps=10, probe_every=5)
    click(qtbot, page.start_button)
    qtbot.waitUntil(lambda: not page.result.isHidden(), timeout=LONG)
    assert page.result.message.title.text().startswith("Done: 30 steps"), page.result.message.text.text()
    assert len(page.stage.timeline.cards) == 2
    monitor: Any = program.window.panels["monitor"]
    losses = monitor.plots["loss"].curve("loss").series.y
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < losses[0]
    assert monitor.blocks["block_gradient_norm"].profiles().table().shape == (6, 2)
    assert [r.status for r in list_runs(program.services.session.library.runs_folder)] == ["done"]
    qtbot.waitUntil(lambda: page.run_card.job is None, timeout=LONG)
    with qtbot.waitSignal(program.services.bus.model_changed, timeout=LONG):
        click(qtbot, page.result.generate)
    assert program.services.session.model.name.endswith("-own")
    click(qtbot, page.result.export)
    qtbot.waitUntil(lambda: any(isinstance(w, ExportWindow) and w.isVisible() for w in QApplication.topLevelWidgets()), timeout=LONG)
    next(w for w in QApplication.topLevelWidgets() if isinstance(w, ExportWindow)).close()
    chat: Any = program.window.panels["chat"]
    chat.controller.set_generation(replace(chat.controller.generation, max_new_tokens=4))
    edit: Any = program.window.findChild(QWidget, "chat.composer")
    edit.setFocus()
    qtbot.keyClicks(edit, "The cat")
    done: list[Any] = []
    program.services.bus.job_finished.connect(done.append)
    qtbot.waitUntil(lambda: not program.services.jobs.jobs, timeout=LONG)
    qtbot.keyClick(edit, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: any(j.lane == "chat" for j in done), timeout=LONG)
    assert next(j for j in done if j.lane == "chat").state == "Done"


def test_a_pair_stopped_and_gone_on_with(program: Program, qtbot: QtBot, tmp_path: Path) -> None:
    page = prepare(program, qtbot, tmp_path, max_steps=400, sample_every=None, eval_steps=5, save_steps=10)
    page.setup.variant.switch.click()
    page.setup.variant.change("position", page.setup.model.position.registry.choose("alibi"))
    click(qtbot, page.start_button)
    qtbot.waitUntil(lambda: page.run_card.job is not None and page.track.step >= 12, timeout=LONG)
    page.run_card.job.stop(save=True)
    qtbot.waitUntil(lambda: page.run_card.job is None, timeout=LONG)
    stopped = page.track.step
    assert "nats/token" in page.stage.verdict.text()
    assert set(page.result.outcome.models) == {"A", "B"}
    click(qtbot, page.result.resume)
    qtbot.waitUntil(lambda: page.run_card.job is not None and page.track.step > stopped, timeout=LONG)
    curve = page.stage.pair.difference.curve("loss_difference")
    assert curve.series.ordered, "the curve goes on where it was"
    page.run_card.job.stop(save=False)
    qtbot.waitUntil(lambda: page.run_card.job is None, timeout=LONG)
