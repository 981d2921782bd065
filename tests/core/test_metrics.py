"""What can be measured."""

from __future__ import annotations

import dataclasses

import pytest

from workbench.core import metrics
from workbench.core.metrics import METRICS, PLOTS, MetricInfo


@pytest.mark.parametrize("info", METRICS.values(), ids=lambda i: i.name)
def test_a_metric_is_explained_and_has_a_chart(info: MetricInfo) -> None:
    assert METRICS[info.name] is info
    assert info.label
    assert info.help.endswith(".")
    assert info.plot in PLOTS
    assert info.unit == PLOTS[info.plot].unit, "curves of one chart share its axis"
    assert info.axis in ("step", "time")
    assert info.better in ("lower", "higher", "neither")


@pytest.mark.parametrize("plot", PLOTS)
def test_a_chart_has_curves_that_are_told_apart_and_share_their_x_axis(plot: str) -> None:
    curves = [m for m in METRICS.values() if m.plot == plot]
    assert curves, "a chart nobody draws on"
    assert len({m.label for m in curves}) == len(curves)
    assert len({m.axis for m in curves}) == 1


def test_names_are_taken_once_and_charts_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "METRICS", dict(METRICS))
    monkeypatch.setattr(metrics, "PLOTS", dict(PLOTS))
    with pytest.raises(ValueError, match="metric 'loss' is declared twice"):
        metrics.metric(metrics.LOSS)
    with pytest.raises(ValueError, match="unknown plot 'nowhere'"):
        metrics.metric(dataclasses.replace(metrics.LOSS, name="other", plot="nowhere"))
    with pytest.raises(ValueError, match="plot 'loss' is declared twice"):
        metrics.plot("loss", "Loss", "loss", "")
    metrics.plot("new", "New", "n", "u")
    info = metrics.metric(MetricInfo("fresh", "Fresh", "u", "new", "Something new."))
    assert metrics.METRICS["fresh"] is info
    assert "fresh" not in METRICS
