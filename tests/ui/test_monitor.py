"""The monitor: every measured value reaches the chart that its metric names, and drawing has one clock."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible
from PySide6.QtWidgets import QAbstractButton, QComboBox, QFileDialog, QSlider
from pytestqt.qtbot import QtBot

from ui.panels.monitor import CLOCK_MS, FILE_KINDS, SESSION, MonitorPanel
from ui.plots.live_plot import LivePlot
from ui.services import Services
from workbench.core.events import Event
from workbench.core.metrics import METRICS, PLOTS
from workbench.pairing import SideEvent


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


def fake_job(lane: str, title: str = "", started_at: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(lane=lane, title=title, started_at=started_at, failure=None, state="Done", elapsed=0.0)


def train(panel: MonitorPanel, title: str) -> None:
    panel._services.bus.job_started.emit(fake_job("train", title))


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


def test_the_sides_of_a_comparison_are_curves_of_their_own(panel: MonitorPanel) -> None:
    def said(side: str, size: float) -> Event:
        return SideEvent(side=side, event=Event(), metrics={"cache_bytes": size, "generate_tokens_per_second": size})

    plots = (panel.plots["cache"], panel.plots["speed"])
    panel._services.bus.events.emit([Event(metrics={"cache_bytes": 1.0}), said("A", 2.0), said("B", 3.0)])
    panel._services.bus.events.emit([said("A", 4.0), Event(metrics={"cache_bytes": 5.0, "generate_tokens_per_second": 5.0})])
    for plot, name, own in zip(plots, ("cache_bytes", "generate_tokens_per_second"), ([1.0, 5.0], [5.0]), strict=True):
        curves = [plot.curve(name, run) for run in (SESSION, "A", "B")]
        assert all(curve is not None for curve in curves)
        assert [curve.series.y.tolist() for curve in curves] == [own, [2.0, 4.0], [3.0]]  # type: ignore[union-attr]
        assert len({curve.style.colour for curve in curves}) == 3  # type: ignore[union-attr]
        assert plot.newest_run is not None
        assert plot.newest_run[0] == SESSION


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
    train(panel, "run")
    panel._services.bus.events.emit([step(1, loss=3.0, cache_bytes=1.0)])
    panel._services.actions["monitor.clear"].trigger()
    assert not any(plot.has_values for plot in panel.plots.values())
    panel._services.bus.events.emit([step(2, loss=2.0, cache_bytes=2.0)])
    assert panel.plots["cache"].curve("cache_bytes").series.y.tolist() == [2.0]  # type: ignore[union-attr]
    assert panel.plots["loss"].runs == ("run 1",)
    assert panel.plots["loss"].curve("loss", "run 1").series.x.tolist() == [2.0]  # type: ignore[union-attr]


def test_controls_act_on_every_chart(panel: MonitorPanel, qtbot: QtBot) -> None:
    train(panel, "run")
    panel._services.bus.events.emit([step(i, loss=float(i)) for i in range(1, 200)])
    qtbot.keyClick(panel.smoothing.slider, Qt.Key.Key_Home)
    curve = panel.plots["loss"].curve("loss")
    assert curve is not None
    assert curve.series.smooth.tolist() == curve.series.y.tolist()
    qtbot.keyClick(panel.log, Qt.Key.Key_Space)
    assert panel.plots["loss"].log
    assert not panel.plots["speed"].log
    qtbot.keyClick(panel.log, Qt.Key.Key_Space)
    assert not panel.plots["loss"].log
    assert panel.plots["gradient"].log, "what is logarithmic by nature stays so"
    panel.window_choice.setCurrentIndex(panel.window_choice.findData(50))
    panel.plots["loss"].refresh()
    assert panel.plots["loss"].canvas.view.viewRange()[0][0] == 150


def test_time_in_which_nothing_ran_is_not_drawn(panel: MonitorPanel) -> None:
    bus = panel._services.bus
    for start in (100.0, 9_000.0):
        job = fake_job("chat", started_at=start)
        bus.job_started.emit(job)
        bus.events.emit([Event(metrics={"cache_bytes": 1.0}, at=start + i) for i in (1, 2)])
        bus.job_finished.emit(job)
    series = panel.plots["cache"].curve("cache_bytes").series  # type: ignore[union-attr]
    assert series.x.tolist() == [1.0, 2.0, 2.0, 4.0, 5.0]
    assert [math.isnan(y) for y in series.y] == [False, False, True, False, False], "and two replies are not one line"


def test_drawing_takes_a_small_share_of_the_time(panel: MonitorPanel, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chart that costs 6 ms to draw waits 400 ms before it is drawn again."""
    qtbot.waitUntil(lambda: not panel._clock.isActive(), timeout=3000)
    now = [1000.0]
    monkeypatch.setattr("ui.panels.monitor.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(type(panel.plots["loss"]), "cost_seconds", 0.006)
    panel._drawn_at = 0.0
    drawn = 0
    for i in range(100):  # five seconds of the clock
        panel._services.bus.events.emit([step(i, loss=1.0)])
        dirty = panel.plots["loss"].dirty
        panel._tick()
        drawn += dirty and not panel.plots["loss"].dirty
        now[0] += CLOCK_MS / 1000
    assert 10 <= drawn <= 14


def test_only_what_can_be_seen_is_drawn(panel: MonitorPanel, qtbot: QtBot) -> None:
    train(panel, "run")
    panel._services.bus.events.emit([step(1, loss=3.0, learning_rate=1e-4)])
    qtbot.waitUntil(lambda: not panel._clock.isActive(), timeout=3000)
    assert not panel.plots["loss"].dirty
    assert panel.plots["rate"].dirty
    panel.hide()
    panel._services.bus.events.emit([step(2, loss=2.0)])
    assert not panel._clock.isActive()
    panel.show()
    assert panel._clock.isActive()


@pytest.mark.parametrize("kind", FILE_KINDS)
def test_every_chart_with_values_is_saved(panel: MonitorPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    train(panel, "run")
    panel._services.bus.events.emit([step(i, loss=3.0, learning_rate=1e-4) for i in range(10)])
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path))
    written = panel.ask_export(kind)
    assert sorted(p.name for p in written) == [f"loss.{kind}", f"rate.{kind}"]
    assert all(p.stat().st_size > 100 for p in written)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: "")
    assert panel.ask_export(kind) == []


def test_every_control_has_a_name(panel: MonitorPanel) -> None:
    train(panel, "one")
    train(panel, "two")
    for kind in (QAbstractButton, QComboBox, QSlider, LivePlot):
        for widget in panel.findChildren(kind):
            if widget.focusPolicy() != Qt.FocusPolicy.NoFocus or isinstance(widget, LivePlot):
                assert QAccessible.queryAccessibleInterface(widget).text(QAccessible.Text.Name), widget
