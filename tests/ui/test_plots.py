"""Live plots: values in, curves out; the figure, the table and the words for assistive tools agree with them."""

# long: one widget and its fixtures
from __future__ import annotations

import csv
import io
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QAccessible, QColor, QContextMenuEvent, QGuiApplication, QImage
from PySide6.QtWidgets import QApplication, QFileDialog
from pytestqt.qtbot import QtBot

from ui.plots.axes import UnitAxis, clock_text, number_text
from ui.plots.curves import MARKERS, is_rough
from ui.plots.hover import value_text
from ui.plots.live_plot import LivePlot
from ui.theme import DARK, DASHES, LIGHT, Theme, contrast
from workbench.core.errors import FileError
from workbench.core.metrics import METRICS, PLOTS, MetricInfo, PlotInfo

MakePlot = Callable[..., LivePlot]


@pytest.fixture
def theme(qapp: QApplication) -> Iterator[Theme]:
    made = Theme(qapp, "light")
    yield made
    made.set_mode("light")
    made.setParent(None)  # type: ignore[call-overload]
    made.deleteLater()


@pytest.fixture
def make_plot(qtbot: QtBot, theme: Theme) -> MakePlot:
    def make(name: str = "loss", size: tuple[int, int] = (420, 260), **options: object) -> LivePlot:
        plot = LivePlot(PLOTS[name], [m for m in METRICS.values() if m.plot == name], **options)  # type: ignore[arg-type]
        qtbot.addWidget(plot)
        plot.resize(*size)
        with qtbot.waitExposed(plot):
            plot.show()
        return plot

    return make


def fill(plot: LivePlot, count: int = 100, run: str | None = None, seed: int = 0) -> np.ndarray:
    values = 2.0 + np.random.default_rng(seed).normal(0, 0.1, count)
    plot.extend("loss", np.arange(count), values, run)
    plot.refresh()
    return values


# ---- curves ------------------------------------------------------------------------------------------------------


def test_values_in_are_points_on_the_curve(make_plot: MakePlot) -> None:
    plot = make_plot(smoothing=0.5)
    values = fill(plot, 100)
    curve = plot.curve("loss")
    assert curve is not None
    x, y = curve.raw.getData()
    assert x.tolist() == list(range(100))
    np.testing.assert_array_equal(y, values)
    x, y = curve.line.getData()
    np.testing.assert_array_equal(y, curve.series.smooth)
    assert curve.dots.getData()[0].tolist() == [99]


def test_without_smoothing_the_values_themselves_are_the_line(make_plot: MakePlot) -> None:
    plot = make_plot(smoothing=0.9)
    values = fill(plot, 100)
    plot.set_smoothing(0.0)
    plot.refresh()
    curve = plot.curve("loss")
    assert curve is not None
    np.testing.assert_array_equal(curve.line.getData()[1], values)
    assert not len(curve.raw.getData()[0] if curve.raw.getData()[0] is not None else [])


def test_few_values_get_a_dot_each_and_are_not_averaged(make_plot: MakePlot) -> None:
    plot = make_plot()
    fill(plot, 60)
    plot.extend("eval_loss", [20, 40], [2.2, 2.1])
    plot.refresh()
    curve = plot.curve("eval_loss")
    assert curve is not None
    assert curve.dots.getData()[1].tolist() == [2.2, 2.1]
    assert curve.line.getData()[1].tolist() == [2.2, 2.1]


def test_a_logarithmic_axis_draws_log10_and_leaves_out_what_has_none(make_plot: MakePlot) -> None:
    plot = make_plot(smoothing=0.0)
    plot.extend("loss", [0, 1, 2, 3], [100.0, 0.0, -5.0, 1.0])
    plot.set_log(True)
    plot.refresh()
    curve = plot.curve("loss")
    assert curve is not None
    y = curve.line.getData()[1]
    assert [round(v, 9) for v in y if math.isfinite(v)] == [2.0, 0.0]
    bottom, top = plot.canvas.view.viewRange()[1]
    assert bottom < 0 < 2 < top < 3
    plot.set_log(False)
    plot.refresh()
    assert curve.line.getData()[1].tolist() == [100.0, 0.0, -5.0, 1.0]


def test_a_metric_that_asks_for_it_begins_logarithmic(make_plot: MakePlot) -> None:
    assert make_plot("gradient").log
    assert not make_plot("loss").log


def test_nothing_is_drawn_before_the_owner_refreshes_and_nothing_hidden(make_plot: MakePlot) -> None:
    plot = make_plot()
    plot.refresh(force=True)
    plot.extend("loss", [1], [2.0])
    assert plot.dirty
    plot.hide()
    assert not plot.refresh()
    assert plot.dirty
    plot.show()
    assert plot.refresh()
    assert not plot.dirty
    assert not plot.refresh()


def test_a_long_curve_is_drawn_with_few_points_and_all_its_peaks(make_plot: MakePlot) -> None:
    plot = make_plot(smoothing=0.9)
    values = np.random.default_rng(0).normal(size=100_000)
    values[31_415] = 50.0
    plot.extend("loss", np.arange(100_000), values)
    plot.refresh()
    curve = plot.curve("loss")
    assert curve is not None
    assert len(curve.raw.getData()[0]) <= 2 * plot.width()
    assert curve.raw.getData()[1].max() == 50.0
    assert len(curve.line.getData()[0]) <= 500


def test_a_refresh_of_a_hundred_thousand_points_costs_under_20_ms(make_plot: MakePlot) -> None:
    plot = make_plot(size=(1000, 500), smoothing=0.9)
    plot.extend("loss", np.arange(100_000), np.random.default_rng(0).normal(size=100_000))
    costs = []
    for step in range(5):
        plot.append("loss", 100_000 + step, 1.0)
        plot.refresh()
        plot.canvas.grab()  # paints, as the screen would
        costs.append(plot.cost_seconds)
    assert min(costs) < 0.020, f"{min(costs) * 1e3:.1f} ms"


def test_metrics_of_different_axes_cannot_share_a_plot(qapp: QApplication) -> None:
    with pytest.raises(ValueError, match="share one horizontal axis"):
        LivePlot(PLOTS["loss"], [METRICS["loss"], METRICS["cache_bytes"]])


# ---- runs --------------------------------------------------------------------------------------------------------


def test_runs_lie_over_each_other_and_the_oldest_goes(make_plot: MakePlot) -> None:
    plot = make_plot(max_runs=3)
    for number in range(5):
        plot.start_run(f"run {number}")
        fill(plot, 50, seed=number)
    assert plot.runs == ("run 2", "run 3", "run 4")
    assert plot.curve("loss", "run 0") is None
    assert plot.curve("loss", "run 3") is not None
    assert plot.curve("loss") is plot.curve("loss", "run 4")


def test_curves_differ_without_their_colour(make_plot: MakePlot) -> None:
    plot = make_plot()
    for number in range(4):
        plot.start_run(f"run {number}")
        fill(plot, 50, seed=number)
        plot.extend("eval_loss", [10, 20], [2.0, 2.0])
    looks = [(c.style.dash % len(DASHES), c.style.marker % len(MARKERS)) for c in plot._curves.values()]
    assert len(set(looks)) == 8


def test_clear_forgets_the_runs_and_goes_on(make_plot: MakePlot) -> None:
    plot = make_plot()
    plot.start_run("one")
    fill(plot)
    items = len(plot.canvas.view.childGroup.childItems())
    plot.clear()
    plot.refresh()
    assert not plot.has_values
    assert plot.runs == ()
    assert len(plot.canvas.view.childGroup.childItems()) == items - 3
    assert plot.canvas.empty.isVisible()
    fill(plot)
    assert plot.has_values
    assert not plot.canvas.empty.isVisible()


def test_legend_boxes_hide_a_metric_or_a_run_by_keyboard(make_plot: MakePlot, qtbot: QtBot) -> None:
    plot = make_plot()
    for name in ("first", "second"):
        plot.start_run(name)
        fill(plot)
        plot.append("eval_loss", 10, 2.0)
    boxes = {b.text(): b for b in plot.legend.boxes()}
    assert list(boxes) == ["Training loss", "Validation loss", "first", "second"]
    qtbot.keyClick(boxes["Validation loss"], Qt.Key.Key_Space)
    assert [c.metric.name for c in plot._shown_curves()] == ["loss", "loss"]
    qtbot.keyClick(boxes["first"], Qt.Key.Key_Space)
    assert [c.run for c in plot._shown_curves()] == ["second"]
    qtbot.keyClick(boxes["Validation loss"], Qt.Key.Key_Space)
    assert [(c.run, c.metric.name) for c in plot._shown_curves()] == [("second", "loss"), ("second", "eval_loss")]


# ---- view --------------------------------------------------------------------------------------------------------


def test_the_view_follows_until_a_person_zooms_and_again_on_home(make_plot: MakePlot, qtbot: QtBot) -> None:
    plot = make_plot()
    fill(plot, 100)
    assert plot.canvas.view.viewRange()[0][1] >= 99
    plot.canvas.view.setXRange(10, 20, padding=0)
    plot.canvas.view.sigRangeChangedManually.emit([True, True])
    assert not plot.following
    assert plot.header.follow_button.isVisible()
    plot.append("loss", 500, 2.0)
    plot.refresh()
    assert plot.canvas.view.viewRange()[0] == [10, 20]
    curve = plot.curve("loss")
    assert curve is not None
    assert curve.raw.getData()[0].max() <= 21
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Home)
    plot.refresh()
    assert plot.following
    assert plot.canvas.view.viewRange()[0][1] >= 500


def test_a_window_shows_the_newest_points_only(make_plot: MakePlot) -> None:
    plot = make_plot()
    fill(plot, 400)
    plot.set_window(50)
    plot.refresh()
    low, high = plot.canvas.view.viewRange()[0]
    assert low == 350
    assert high > 399


def test_the_cross_hair_reads_every_visible_curve(make_plot: MakePlot, qtbot: QtBot) -> None:
    plot = make_plot(smoothing=0.5)
    plot.extend("loss", [1, 2, 3], [4.0, 3.0, 2.0])
    plot.extend("eval_loss", [2], [3.25])
    plot.refresh()
    plot.hover.show_at(2.2)
    text = plot.hover.box.text()
    assert "step 2" in text
    assert "nats/token" in text
    assert ">3<" in text
    assert ">3.25<" in text
    plot.hover.hide()
    assert not plot.hover.visible


def test_arrow_keys_walk_along_the_points(make_plot: MakePlot, qtbot: QtBot) -> None:
    plot = make_plot()
    plot.extend("loss", [10, 20, 30], [4.0, 3.0, 2.0])
    plot.refresh()
    for key, place in ((Qt.Key.Key_Left, "step 30"), (Qt.Key.Key_Left, "step 20"), (Qt.Key.Key_Right, "step 30")):
        qtbot.keyClick(plot.canvas, key)
        assert place in plot.hover.box.text()
    qtbot.keyClick(plot.canvas, Qt.Key.Key_Escape)
    assert not plot.hover.visible


def test_reference_lines_say_that_they_are_estimates(make_plot: MakePlot) -> None:
    plot = make_plot("speed")
    plot.extend("generate_tokens_per_second", [0, 1, 2], [30.0, 31.0, 32.0])
    plot.add_reference("roof", 40.0, "Memory roof")
    plot.add_reference("best", 33.0, "Best so far", estimated=False)
    plot.refresh()
    roof, best = plot._references["roof"], plot._references["best"]
    assert roof.text == "Memory roof (estimated)"
    assert roof.line.pen.dashPattern()
    assert best.line.pen.style() == Qt.PenStyle.SolidLine
    assert "Memory roof (estimated) 40 tokens/s" in plot.canvas.accessibleDescription()
    assert plot.canvas.view.viewRange()[1][1] >= 40
    plot.set_log(True)
    plot.refresh()
    assert roof.line.value() == pytest.approx(math.log10(40))
    plot.remove_reference("roof")
    plot.refresh()
    assert "roof" not in plot.canvas.accessibleDescription()


# ---- colours -----------------------------------------------------------------------------------------------------


def test_a_theme_switch_recolours_what_is_already_drawn(make_plot: MakePlot, theme: Theme) -> None:
    plot = make_plot()
    fill(plot)
    curve = plot.curve("loss")
    assert curve is not None
    assert curve.line.opts["pen"].color().name() == LIGHT.plots[0]
    assert plot.canvas.backgroundBrush().color().name() == LIGHT.base
    theme.set_mode("dark")
    QApplication.processEvents()
    assert curve.line.opts["pen"].color().name() == DARK.plots[0]
    assert plot.canvas.backgroundBrush().color().name() == DARK.base
    assert plot.canvas.axes[0].textPen().color().name() == DARK.muted
    assert curve.raw.opts["pen"].color().alpha() < 255


def test_pens_grow_with_the_screens_ratio(make_plot: MakePlot) -> None:
    plot = make_plot()
    fill(plot)
    curve = plot.curve("loss")
    assert curve is not None
    at_one = curve.line.opts["pen"].widthF()
    plot._restyle(2.0)
    assert curve.line.opts["pen"].widthF() == 2 * at_one


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_every_curve_colour_can_be_seen(colours: object) -> None:
    for colour in colours.plots:  # type: ignore[attr-defined]
        assert contrast(colour, colours.base) >= 3  # type: ignore[attr-defined]


def test_a_rough_line_is_thin_and_a_smooth_one_is_not() -> None:
    assert is_rough(np.random.default_rng(0).normal(size=500))
    assert not is_rough(np.linspace(0, 1, 500))
    assert not is_rough(np.array([np.nan]))


# ---- words -------------------------------------------------------------------------------------------------------


def test_the_plot_has_a_name_and_tells_its_newest_values(make_plot: MakePlot) -> None:
    plot = make_plot()
    plot.refresh(force=True)
    assert plot.canvas.accessibleName() == "Loss plot"
    assert "No run yet" in plot.canvas.accessibleDescription()
    plot.extend("loss", [1, 2], [3.5, 3.25])
    plot.append("eval_loss", 2, 3.4)
    plot.refresh()
    told = plot.canvas.accessibleDescription()
    assert told == "Training loss 3.25 nats/token step 2; Validation loss 3.4 nats/token step 2"
    assert {b.text(): b.value_text for b in plot.legend.boxes()} == {"Training loss": "3.25", "Validation loss": "3.4"}


def test_everything_that_takes_the_focus_has_a_name(make_plot: MakePlot) -> None:
    plot = make_plot()
    for name in ("first", "second"):
        plot.start_run(name)
        fill(plot)
    for widget in (*plot.legend.boxes(), *plot.header.tools, plot.canvas):
        assert QAccessible.queryAccessibleInterface(widget).text(QAccessible.Text.Name), widget


def test_numbers_carry_no_si_prefix() -> None:
    assert number_text(0.0002) == "0.0002"
    assert number_text(0.000002) == "2e-6"
    assert number_text(12.5, 2.5) == "12.5"
    assert number_text(0.0) == "0"
    assert number_text(0.25, 0.05) == "0.25"
    assert number_text(1500, 500) == "1500"
    assert number_text(2.5e6) == "2.5e6"
    assert [clock_text(s) for s in (5, 200, 3900, -65)] == ["0:05", "3:20", "1:05:00", "-1:05"]
    assert value_text(12_600_000, "B") == "12.6 MB"
    assert value_text(1.3461, "nats/token") == "1.346 nats/token"


def test_bytes_are_labelled_in_decimal_units(qapp: QApplication) -> None:
    axis = UnitAxis("left", "B")
    axis.setRange(0, 50e6)
    assert axis.tickStrings([0, 10e6, 12.5e6], 1.0, 2.5e6) == ["0", "10.0 MB", "12.5 MB"]
    axis.setLogMode(x=False, y=True)
    assert axis.tickStrings([3, 6], 1.0, 1.0) == ["1 kB", "1 MB"]


def test_steps_are_whole_and_seconds_sexagesimal(qapp: QApplication) -> None:
    steps = UnitAxis("bottom", "step")
    assert all(spacing >= 1 for spacing, _ in steps.tickSpacing(0, 2, 400))
    seconds = UnitAxis("bottom", "s")
    assert seconds.tickStrings([60, 90], 1.0, 30) == ["1:00", "1:30"]
    for span in (30, 200, 316, 5_000, 90_000, 1e6):
        (spacing, _), *_rest = seconds.tickSpacing(0, span, 210)
        assert 2 <= span / spacing <= 8, span


@pytest.mark.parametrize(("low", "high"), [(2.0, 4.2), (0.9, 30.0), (0.01, 100.0), (1e-9, 1e6)])
def test_a_logarithmic_axis_has_a_handful_of_labels(qapp: QApplication, low: float, high: float) -> None:
    axis = UnitAxis("left", "")
    axis.setLogMode(x=False, y=True)
    labels = []
    for spacing, values in axis.logTickValues(math.log10(low), math.log10(high), 150, []):
        assert all(math.log10(low) <= v <= math.log10(high) for v in values)
        labels += [s for s in axis.tickStrings(values, 1.0, spacing) if s]
    assert 2 <= len(labels) <= 8, labels
    assert len(set(labels)) == len(labels)


# ---- files -------------------------------------------------------------------------------------------------------


def test_the_table_has_every_value_of_every_run(make_plot: MakePlot, tmp_path: Path) -> None:
    plot = make_plot(smoothing=0.5)
    for name in ("a", "b"):
        plot.start_run(name)
        plot.extend("loss", [1, 2, 3], [4.0, math.nan, 1.0])
    plot.append("eval_loss", 3, 2.5)
    plot.save(tmp_path / "loss.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "loss.csv").read_text("utf-8"))))
    assert list(rows[0]) == ["run", "metric", "unit", "step", "value", "smoothed"]
    assert [(r["run"], r["metric"], r["step"], r["value"]) for r in rows] == [
        ("a", "loss", "1", "4.0"), ("a", "loss", "3", "1.0"), ("b", "loss", "1", "4.0"), ("b", "loss", "3", "1.0"),
        ("b", "eval_loss", "3", "2.5"),
    ]  # fmt: skip
    assert float(rows[1]["smoothed"]) == pytest.approx(2.0)
    assert rows[-1]["smoothed"] == ""
    plot.copy_values()
    assert QGuiApplication.clipboard().text() == (tmp_path / "loss.csv").read_text("utf-8")


def test_a_picture_has_the_curve_and_none_of_the_buttons(make_plot: MakePlot, tmp_path: Path) -> None:
    plot = make_plot()
    fill(plot)
    plot.canvas.view.sigRangeChangedManually.emit([True, True])
    assert plot.header.follow_button.isVisible()
    path = tmp_path / "loss.png"
    plot.save(path)
    picture = QImage(str(path))
    assert (picture.width(), picture.height()) == (2 * plot.width(), 2 * plot.height())
    wanted = QColor(LIGHT.plots[0]).rgb()
    scanned = (picture.pixel(x, y) for y in range(0, picture.height(), 2) for x in range(0, picture.width(), 2))
    assert wanted in scanned
    assert plot.header.follow_button.isVisible(), "the buttons come back"
    plot.copy_image()
    assert not QGuiApplication.clipboard().image().isNull()


def test_a_drawing_is_made_of_lines(make_plot: MakePlot, tmp_path: Path) -> None:
    plot = make_plot()
    fill(plot)
    path = tmp_path / "loss.svg"
    plot.save(path)
    root = ET.parse(path).getroot()
    tags = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert tags.count("polyline") + tags.count("path") > 20
    assert "image" not in tags
    assert LIGHT.plots[0] in path.read_text("utf-8").lower()
    assert "Training loss" in path.read_text("utf-8")


def test_an_export_that_cannot_be_written_says_so(make_plot: MakePlot, tmp_path: Path) -> None:
    plot = make_plot()
    with pytest.raises(FileError, match=r"loss\.pdf"):
        plot.save(tmp_path / "loss.pdf")
    with pytest.raises(FileError, match="cannot be written"):
        plot.save(tmp_path / "no such folder" / "loss.csv")
    with pytest.raises(FileError, match="cannot be written"):
        plot.save(tmp_path / "no such folder" / "loss.png")


@pytest.mark.parametrize("answer", ["loss", "loss.svg", ""])
def test_the_file_gets_the_right_ending(make_plot: MakePlot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    plot = make_plot()
    fill(plot)
    chosen = str(tmp_path / answer) if answer else ""
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (chosen, ""))
    path = plot.ask_export("svg")
    if answer:
        assert path == tmp_path / "loss.svg"
        assert path.stat().st_size > 1000
    else:
        assert path is None
        assert not list(tmp_path.iterdir())


@pytest.mark.qt_log_ignore("This plugin does not support", extend=True)
def test_the_menu_opens_by_keyboard_and_mouse_and_sets_the_axis(make_plot: MakePlot) -> None:
    plot = make_plot()
    where = QPoint(50, 50)
    event = QContextMenuEvent(QContextMenuEvent.Reason.Mouse, where, plot.canvas.mapToGlobal(where))
    QApplication.sendEvent(plot.canvas.viewport(), event)
    assert plot.header.menu.isVisible()
    plot.header.menu.close()
    plot.header.log_action.trigger()
    assert plot.log
    assert plot.header.log_action.isChecked()


def test_any_metric_can_be_plotted(qtbot: QtBot, theme: Theme) -> None:
    info = PlotInfo("error", "Error by layer", "relative error", "")
    plot = LivePlot(info, [MetricInfo("error", "Error", "", "error", "Of each layer.")], x_label="layer", empty_text="Nothing yet")
    qtbot.addWidget(plot)
    plot.show()
    plot.extend("error", range(12), np.linspace(0, 1, 12))
    plot.refresh()
    assert plot.canvas.axes[0].labelText == "layer"
    assert plot.header.reading.full_text == "1"
