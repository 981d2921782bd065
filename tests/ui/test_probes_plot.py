"""A look inside: the table of what was seen, the map and the profile, and when the monitor shows them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytestqt.qtbot import QtBot

from ui.panels.monitor import MonitorPanel
from ui.plots.block_plot import BlockPlot
from ui.plots.profile import LIMIT, Profiles
from ui.services import Services
from ui.training.look_inside import USUAL, LookInside
from workbench.core.errors import FileError
from workbench.core.metrics import FAMILIES
from workbench.training.events import ProbeEvent, StepEvent

RMS = FAMILIES["residual_rms"]


def probe(step: int, *values: float, run: str = "", family: str = "residual_rms") -> ProbeEvent:
    return ProbeEvent(step=step, of=1000, run=run, metrics={FAMILIES[family].key(i): v for i, v in enumerate(values)})


# ---- the table -----------------------------------------------------------------------------------------------------


def test_columns_are_as_wide_as_the_steps_between_looks() -> None:
    profiles = Profiles()
    for step in (25, 50, 75):
        profiles.append(step, (float(step), 1.0))
    values, low, high = profiles.picture(100)
    assert (low, high) == (12.5, 87.5)
    assert values.tolist() == [[25, 1], [50, 1], [75, 1]]


def test_a_gap_in_the_looks_is_drawn_as_wide_as_it_is() -> None:
    profiles = Profiles()
    for step in (10, 20, 30, 70):
        profiles.append(step, (float(step),))
    values, _, high = profiles.picture(100)
    assert high == 75
    assert values[:, 0].tolist() == [10, 20, 30, 30, 30, 70, 70], "each column is the look nearest to it"


def test_more_looks_than_columns_are_thinned_for_the_picture_only() -> None:
    profiles = Profiles()
    for step in range(1, 1001):
        profiles.append(step, (float(step),))
    values, low, high = profiles.picture(100)
    assert values.shape == (100, 1)
    assert (low, high) == (0.5, 1000.5)
    assert len(profiles) == 1000


def test_a_resumed_run_does_its_steps_again() -> None:
    profiles = Profiles()
    for step, value in ((10, 1.0), (20, 2.0), (30, 3.0), (20, 5.0)):
        profiles.append(step, (value,))
    assert profiles.steps == [10, 20]
    assert profiles.newest.tolist() == [5.0]


def test_a_block_that_was_not_measured_is_a_gap() -> None:
    profiles = Profiles()
    profiles.append(1, (1.0,))
    profiles.append(2, (1.0, 2.0))
    assert math.isnan(profiles.table()[0, 1])


def test_memory_is_bounded_and_the_ends_stay() -> None:
    profiles = Profiles()
    for step in range(1, 3 * LIMIT):
        profiles.append(step, (1.0,))
    assert len(profiles) <= LIMIT
    assert (profiles.steps[0], profiles.steps[-1]) == (1, 3 * LIMIT - 1)


# ---- the chart -----------------------------------------------------------------------------------------------------


@pytest.fixture
def plot(qtbot: QtBot) -> BlockPlot:
    plot = BlockPlot(RMS)
    qtbot.addWidget(plot)
    plot.resize(500, 300)
    with qtbot.waitExposed(plot):
        plot.show()
    return plot


def test_it_says_so_before_the_first_look(plot: BlockPlot) -> None:
    assert plot.empty.isVisible()
    assert not plot.has_values


def test_the_map_and_the_profile_show_what_was_seen(plot: BlockPlot) -> None:
    plot.start_run("run 1")
    for step in (10, 20):
        plot.append(step, (1.0, 10.0, 100.0))
    assert plot.refresh()
    assert not plot.empty.isVisible()
    assert plot._image.image.tolist() == [[0, 1, 2], [0, 1, 2]], "by the logarithm"
    x, y = plot._lines["run 1"].getData()
    assert (x.tolist(), y.tolist()) == ([0, 1, 2], [0, 1, 2])
    assert "step 20" in plot.accessibleDescription()
    assert plot.scale.accessibleName() == "Colours from 1 to 100"
    plot.set_log(False)
    assert plot._image.image.tolist()[0] == [1, 10, 100]


def test_values_that_have_no_logarithm_do_not_break_it(plot: BlockPlot) -> None:
    plot.append(1, (0.0, math.inf))
    plot.append(2, (math.nan, 0.0))
    plot.refresh()
    assert np.isfinite(plot._image.image).all()


def test_two_runs_have_two_profiles_and_the_checked_one_the_map(plot: BlockPlot) -> None:
    for run, value in (("A", 1.0), ("B", 10.0)):
        plot.start_run(run)
        plot.append(10, (value, value))
    plot.refresh()
    assert set(plot._lines) == {"A", "B"}
    assert plot._image.image[0, 0] == 1.0
    plot.legend.boxes()[1].setChecked(False)
    assert set(plot._lines) == {"A"}
    assert plot._image.image[0, 0] == 0.0


def test_the_oldest_run_goes(plot: BlockPlot) -> None:
    for number in range(6):
        plot.start_run(f"run {number}")
        plot.append(1, (1.0,))
    assert plot.runs == ("run 2", "run 3", "run 4", "run 5")


@pytest.mark.parametrize("kind", ["png", "svg", "csv"])
def test_it_is_saved(plot: BlockPlot, tmp_path: Path, kind: str) -> None:
    plot.append(10, (1.5, 2.5), run="run 1")
    path = tmp_path / f"rms.{kind}"
    plot.save(path)
    assert path.stat().st_size > 40
    if kind == "csv":
        assert path.read_text().splitlines() == [
            "run,metric,step,block,value", "run 1,residual_rms,10,0,1.5", "run 1,residual_rms,10,1,2.5",
        ]  # fmt: skip
    if kind != "svg":  # Qt itself warns of that one
        with pytest.raises(FileError):
            plot.save(tmp_path / "no" / "such" / f"folder.{kind}")


# ---- the monitor ---------------------------------------------------------------------------------------------------


@pytest.fixture
def monitor(services: Services, qtbot: QtBot) -> MonitorPanel:
    panel = MonitorPanel(services)
    qtbot.addWidget(panel)
    panel.resize(1300, 280)
    with qtbot.waitExposed(panel):
        panel.show()
    return panel


def choices(monitor: MonitorPanel) -> list[str]:
    return [monitor.other_choice.itemData(i) for i in range(monitor.other_choice.count())]


def test_without_a_look_there_is_no_chart_of_one(monitor: MonitorPanel, services: Services) -> None:
    step = StepEvent(step=1, of=2, tokens=1, trained_tokens=1, seconds=1.0, eta_seconds=1.0, metrics={"loss": 1.0})
    services.bus.events.emit([step])
    assert not monitor.blocks
    assert not set(FAMILIES) & set(choices(monitor))


def test_the_first_look_brings_its_charts_to_the_front(monitor: MonitorPanel, services: Services) -> None:
    for family in FAMILIES:
        services.bus.events.emit([probe(25, 1.0, 2.0, family=family)])
    assert list(monitor.blocks) == list(FAMILIES)
    assert monitor.others.currentWidget() is monitor.blocks["block_gradient_norm"]
    assert monitor.blocks["residual_rms"].profiles("run 1").newest.tolist() == [1.0, 2.0]  # type: ignore[union-attr]


def test_the_looks_of_a_pair_are_two_runs(monitor: MonitorPanel, services: Services) -> None:
    services.bus.events.emit([probe(25, 1.0, run="A"), probe(25, 2.0, run="B")])
    assert monitor.blocks["residual_rms"].runs == ("run 1 A", "run 1 B")


def test_clear_takes_them_away_until_the_next_look(monitor: MonitorPanel, services: Services, tmp_path: Path, monkeypatch: Any) -> None:
    services.bus.events.emit([probe(25, 1.0)])
    monkeypatch.setattr("PySide6.QtWidgets.QFileDialog.getExistingDirectory", lambda *_: str(tmp_path))
    assert [p.name for p in monitor.ask_export("csv")] == ["residual_rms.csv"]
    monitor.clear()
    assert not monitor.blocks
    assert "residual_rms" not in choices(monitor)
    services.bus.events.emit([probe(50, 1.0)])
    assert monitor.blocks["residual_rms"].profiles().steps == [50]  # type: ignore[union-attr]


# ---- the switch ----------------------------------------------------------------------------------------------------


def test_the_switch_is_off_until_a_person_turns_it_on(qtbot: QtBot) -> None:
    look = LookInside(None)
    qtbot.addWidget(look)
    assert look.value is None
    with qtbot.waitSignal(look.changed):
        look.editor.by_hand.click()
    assert look.value == USUAL
    assert "gradient norm by block" in look.words.text()
    look.editor.by_hand.click()
    assert look.value is None
