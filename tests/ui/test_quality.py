"""The Quality page on a real session with a tiny model: a measurement that runs, stops, goes on, and can be taken along."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from ui.caching.named import OTHER
from ui.panels.quality import QualityPanel
from ui.quality.table import COLUMNS, rows_csv, rows_markdown
from ui.quality.view import QualityView, command
from ui.services import Services
from workbench.caches import CACHE_PRESETS, CacheConfig
from workbench.checkpoints import save_checkpoint
from workbench.commands.cache_flags import cache_config, cache_flags
from workbench.model import ModelConfig, build_model
from workbench.quality import FLOOR, QualityConfig, QualitySide
from workbench.quantization import QuantizationConfig
from workbench.session import Session
from workbench.tokenizers import CHATML, ByteTokenizer

SIZES = {"n_layers": 1, "d_model": 32, "n_heads": 2, "d_ff": 48, "max_positions": 256}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(build_model(ModelConfig(vocab_size=ByteTokenizer().vocab_size, **SIZES), seed=1), ByteTokenizer(), CHATML, path)
    return path


@pytest.fixture
def session(home: Path, folder: Path, services: Services) -> Session:
    made = Session(home, device="cpu", dtype="float32", threads=1)
    for _ in made.load(folder):
        pass
    services.session = made
    return made


@pytest.fixture
def view(qtbot: QtBot, services: Services, session: Session) -> QualityView:
    made = QualityView(services)
    qtbot.addWidget(made)
    made.form.set_value(QualityConfig(contexts=(128,), tokens=256, retrieval=False))
    made.resize(900, 700)
    made.show()
    made.refresh()
    return made


def finish(view: QualityView, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not view.running, timeout=60_000)


def test_presets_are_measured_and_told(view: QualityView, qtbot: QtBot, session: Session) -> None:
    assert [side.name for side in view.sides()] == [p.label for n, p in CACHE_PRESETS.items() if n != "exact"]
    view.run_button.click()
    assert view.run_button.text() == "Stop"
    finish(view, qtbot)
    shown = [view.table.item(n, 0).text() for n in range(view.table.rowCount())]
    assert shown == [FLOOR.name, *(side.name for side in view.sides())]
    assert view.table.item(0, 4).text() == "reference"
    assert view.notes.isVisible()
    assert list((session.home / "quality").glob("*.json"))
    assert len(rows_csv(view.table.rows).splitlines()) == 5
    view.table.setFocus()
    qtbot.keyClick(view.table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    lines = QGuiApplication.clipboard().text().splitlines()
    assert lines[0].count("|") == len(COLUMNS) + 1
    assert QGuiApplication.clipboard().text() == rows_markdown(view.table.rows)


def test_it_stops_and_goes_on(view: QualityView, qtbot: QtBot) -> None:
    view.form.set_value(QualityConfig(contexts=(128,), tokens=4000, retrieval=False))
    view.run_button.click()
    qtbot.waitUntil(lambda: view.table.rowCount() > 0, timeout=30_000)
    view.run_button.click()
    finish(view, qtbot)
    assert "goes on" in view.status.text()
    view.run_button.click()
    finish(view, qtbot)
    assert all(row.tokens >= 4000 for row in view.table.rows)


def test_what_is_in_use_is_asked_about(view: QualityView, services: Services, session: Session, qtbot: QtBot) -> None:
    assert view.boxes[OTHER].isHidden()
    assert view.boxes["weights"].isHidden()
    for _ in session.quantize(QuantizationConfig()):
        pass
    services.runtime.set_cache(CacheConfig(codec="int8", value_codec="int8"))  # type: ignore[arg-type]
    view.ask_about_what_is_in_use()
    assert [side.name for side in view.sides()] == ["The chat's cache", "Weights in use"]
    assert view.sides()[1].weights == QuantizationConfig()
    view.run_button.click()
    finish(view, qtbot)
    rows = {row.side: row for row in view.table.rows}
    assert rows["Weights in use"].weight_bytes < rows[FLOOR.name].weight_bytes  # held against the weights as they were loaded
    assert session.quantization is not None


def test_nothing_to_compare_is_said(view: QualityView) -> None:
    for box in view.boxes.values():
        box.setChecked(False)
    assert view.run_button.text() == "Check something to compare"
    assert not view.run_button.isEnabled()


def test_errors_stay_in_the_page(view: QualityView, qtbot: QtBot, tmp_path: Path) -> None:
    view.form.set_value(QualityConfig(contexts=(128,), tokens=256, text=str(tmp_path / "none.txt")))
    view.refresh()
    view.run_button.click()
    finish(view, qtbot)
    assert view.message.isVisible()
    assert "cannot be read" in view.message.title.text()
    view.save(str(tmp_path / "no" / "folder" / "x.csv"))


@pytest.mark.parametrize("preset", [*CACHE_PRESETS, "own"])
def test_the_command_means_the_same(preset: str) -> None:
    own = replace(CACHE_PRESETS["safe"].config, window=7, layer_overrides=("0=int8", "-1/keys=turboquant:bits=6"))
    config = own if preset == "own" else CACHE_PRESETS[preset].config
    words = shlex.split(command("starter", QualitySide(name="x", cache=config), QualityConfig()))
    parser = argparse.ArgumentParser()
    cache_flags(parser)
    found = cache_config(parser.parse_args(words[words.index("--cache") :]))
    assert found == config


def test_the_panel_comes_up_when_it_is_asked_for(qtbot: QtBot, services: Services, session: Session) -> None:
    shown: list[Any] = []
    services.bus.show_panel.connect(shown.append)
    panel = QualityPanel(services)
    qtbot.addWidget(panel)
    assert panel.view is None
    services.bus.quality_requested.emit()
    assert panel.view is not None
    assert shown == ["quality"]
