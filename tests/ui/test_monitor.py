"""The monitor: every measured value reaches the chart that its metric names, and drawing has one clock."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from pytestqt.qtbot import QtBot

from ui.panels.monitor import MonitorPanel
from ui.services import Services
from workbench.core.events import Event
from workbench.core.metrics import METRICS, PLOTS


class _Step(Event):
    step = 0


def step(number: int, **metrics: float) -> Event:
    event = _Step(metrics=metrics)
    object.__setattr__(event, "step", number)
    return event


@pytest.fixture
def panel(services: Services, qtbot: QtBot) -> MonitorPanel:
    panel = MonitorPanel(services)
    qtbot.addWidget(panel)
    panel.resize(1300, 280)
    with qtbot.waitExposed(panel):
        panel.show()
    return panel


def train(panel: MonitorPanel, title: str) -> None:
    panel._services.bus.job_started.emit(SimpleNamespace(lane="train", title=title))


def test_there_is_one_chart_per_declared_plot_with_every_metric(panel: MonitorPanel) -> None:
    assert set(panel.plots) == set(PLOTS)
    assert {name for plot in panel.plots.values() for name in plot.metrics} == set(METRICS)


def test_values_land_on_their_metric_against_its_axis(panel: MonitorPanel) -> None:
    train(panel, "first")
    panel._services.bus.events.emit([step(1, loss=3.5, gradient_norm=1.0), step(2, loss=3.25), Event(metrics={"cache_bytes": 2048.0})])
    loss = panel.plots["loss"].curve("loss")
    assert loss is not None
    assert loss.series.x.tolist() == [1.0, 2.0]
    assert loss.series.y.tolist() == [3.5, 3.25]
    cache = panel.plots["cache"].curve("cache_bytes")
    assert cache is not None
    assert cache.series.y.tolist() == [2048.0]
    assert cache.series.x[0] >= 0
    assert panel.plots["gradient"].curve("gradient_norm") is not None


def test_an_unknown_metric_is_passed_over(panel: MonitorPanel) -> None:
    panel._services.bus.events.emit([Event(metrics={"no_such_metric": 1.0})])
    assert all(plot.curve("no_such_metric") is None for plot in panel.plots.values())


def test_a_new_run_overlays_the_last_one(panel: MonitorPanel) -> None:
    train(panel, "first")
    panel._services.bus.events.emit([step(1, loss=3.0)])
    train(panel, "second")
    panel._services.bus.events.emit([step(1, loss=2.0)])
    runs = panel.plots["loss"].runs
    assert len(runs) == 2
    values = [panel.plots["loss"].curve("loss", run).series.y.tolist() for run in runs]  # type: ignore[union-attr]
    assert values == [[3.0], [2.0]]


def test_the_clock_draws_what_changed_and_then_rests(panel: MonitorPanel, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not panel._clock.isActive(), timeout=3000)
    train(panel, "run")
    panel._services.bus.events.emit([step(i, loss=1.0 / i) for i in range(1, 50)])
    assert panel._clock.isActive()
    qtbot.waitUntil(lambda: not panel._clock.isActive(), timeout=3000)
    assert not panel.plots["loss"].dirty


def test_the_last_place_shows_the_chosen_chart(panel: MonitorPanel) -> None:
    index = panel.other_choice.findData("rate")
    panel.other_choice.setCurrentIndex(index)
    assert panel.others.currentWidget() is panel.plots["rate"]


def test_clear_forgets_all_points_and_goes_on(panel: MonitorPanel) -> None:
    panel._services.bus.events.emit([Event(metrics={"cache_bytes": 1.0})])
    panel._clear()
    assert panel.plots["cache"].curve("cache_bytes") is None
    panel._services.bus.events.emit([Event(metrics={"cache_bytes": 2.0})])
    assert panel.plots["cache"].curve("cache_bytes").series.y.tolist() == [2.0]  # type: ignore[union-attr]


def test_controls_act_on_every_chart(panel: MonitorPanel) -> None:
    train(panel, "run")
    panel._services.bus.events.emit([step(i, loss=float(i)) for i in range(1, 20)])
    panel.smoothing.setValue(0)
    curve = panel.plots["loss"].curve("loss")
    assert curve is not None
    assert curve.series.smooth.tolist() == curve.series.y.tolist()
    panel.log.setChecked(True)
    assert panel.plots["loss"].log
