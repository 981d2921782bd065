"""Two runs side by side: choosing what B changes, both curves and their difference, the table beside them, and the verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from tests.ui.build_fakes import WAIT, FakeSession, click, finish, open_page, page, ready, run_steps, session, set_train
from ui.building.result_card import Outcome
from ui.building.track import BuildTrack
from ui.building.variant_part import SAME
from ui.building.words import ONE_SEED, verdict
from ui.panels.build import BuildPanel
from ui.panels.monitor import MonitorPanel
from ui.plots.pair_plot import PairPlot
from ui.services import Services
from workbench.core.fields import describe
from workbench.model import PRESETS, ModelConfig
from workbench.model.differences import differences
from workbench.training.events import PairEvent, StepEvent, TrainResult

__all__ = ["open_page", "page", "session"]  # fixtures


@pytest.fixture
def pair(page: BuildPanel, qtbot: QtBot) -> BuildPanel:
    """The page with a variant that has another position encoding and untied embeddings."""
    set_train(page, max_minutes=None, max_steps=60, sample_every=2)
    page.setup.variant.switch.click()
    a = page.setup.model
    page.setup.variant.change("position", a.position.registry.choose("alibi"))
    page.setup.variant.change("tie_embeddings", False)
    ready(page, qtbot)
    return page


# ---- choosing ------------------------------------------------------------------------------------------------------


def test_a_toggle_is_chosen_from_the_menu(page: BuildPanel, qtbot: QtBot) -> None:
    variant = page.setup.variant
    variant.switch.click()
    variant.menu.aboutToShow.emit()
    menus = {a.text(): a.menu() for a in variant.menu.actions() if a.menu() is not None}
    menu = next(m for text, m in menus.items() if text.startswith("Position encoding"))
    next(a for a in menu.actions() if a.text() == "ALiBi").trigger()
    assert variant.table.rows == [("Position encoding", "RoPE", "ALiBi")]
    assert variant.config.position.kind == "alibi"
    assert page.start_button.text() == "Train A and B"


def test_the_menu_offers_every_toggle_but_those_a_pair_must_share(page: BuildPanel) -> None:
    variant = page.setup.variant
    variant.menu.aboutToShow.emit()
    texts = [a.text().split(":")[0].rstrip("…") for a in variant.menu.actions() if not a.isSeparator()]
    assert sorted(texts) == sorted(i.label for i in describe(ModelConfig) if i.name not in SAME)


def test_a_number_opens_its_field_and_must_differ(page: BuildPanel, qtbot: QtBot) -> None:
    variant: Any = page.setup.variant
    variant.switch.click()
    variant.change("n_layers", page.setup.model.n_layers)
    assert page.start_button.text() == "B does not differ from A"
    variant.form.editor("n_layers").box.stepBy(1)
    assert variant.table.rows == [("Layers", "4", "5")]
    assert page.start_button.text() == "Train A and B"


def test_each_change_can_be_taken_back(pair: BuildPanel, qtbot: QtBot) -> None:
    variant = pair.setup.variant
    assert len(variant.table.rows) == 2
    click(qtbot, variant.table.buttons["position"])
    assert variant.table.rows == [("Tie embeddings", "on", "off")]


def test_a_variant_that_cannot_be_built_does_not_start(page: BuildPanel, qtbot: QtBot) -> None:
    variant = page.setup.variant
    variant.switch.click()
    variant.change("n_heads", 3)
    assert page.start_button.text() == "Correct the variant"
    assert page.setup.steps["variant"].state == "problem"


def test_changes_stay_when_a_is_another_architecture(pair: BuildPanel) -> None:
    pair.setup.architecture.take("tiny-gpt2", PRESETS["tiny-gpt2"].config)
    request = pair.setup.pair_request()
    assert [d.field for d in differences(request.a.model, request.b.model)] == ["position", "tie_embeddings"]


# ---- the runs ------------------------------------------------------------------------------------------------------


def test_both_get_the_same_request_but_for_the_toggles(pair: BuildPanel, session: FakeSession, qtbot: QtBot) -> None:
    click(qtbot, pair.start_button)
    qtbot.waitUntil(lambda: bool(session.pairs), timeout=WAIT)
    a, b = session.pairs[0].a, session.pairs[0].b
    assert replace(b, model=a.model) == a
    assert {d.field for d in differences(a.model, b.model)} == {"position", "tie_embeddings"}
    assert session.pairs[0].out is not None
    assert session.pairs[0].out.name.endswith("tiny-llama-pair")


def test_curves_table_and_samples_are_shown_while_they_run(pair: BuildPanel, session: FakeSession, qtbot: QtBot) -> None:
    click(qtbot, pair.start_button)
    run_steps(pair, session, 4, qtbot)
    plot = pair.stage.pair
    qtbot.waitUntil(lambda: (c := plot.difference.curve("loss_difference")) is not None and len(c.series) == 4, timeout=WAIT)
    assert plot.losses.curve("loss_a").series.y.tolist() == pytest.approx([4, 2, 4 / 3, 1])  # type: ignore[union-attr]
    assert plot.difference.curve("loss_difference").series.y.tolist() == pytest.approx([-1, -1 / 2, -1 / 3, -1 / 4])  # type: ignore[union-attr]
    assert pair.stage.diff.rows == [("Position encoding", "RoPE", "ALiBi"), ("Tie embeddings", "on", "off")]
    assert "same seed (0)" in pair.stage.same.text()
    heads = [c.head.full_text.split(" · ")[:2] for c in pair.stage.timeline.cards]
    assert heads == [["B", "Step 4"], ["A", "Step 4"], ["B", "Step 2"], ["A", "Step 2"]]
    pair.run_card.refresh()
    assert pair.run_card.figures.text() == "A 1.000 · B 0.750 · B − A −0.250 · 1,000 tokens/s each"
    finish(pair, session, qtbot)
    assert pair.stage.verdict.isVisible()
    assert "B is lower by 0.017 nats/token after 60 steps (6,000 tokens read by each)" in pair.stage.verdict.text()
    assert pair.stage.one_seed.isVisible()


def test_each_model_of_a_pair_can_be_used(pair: BuildPanel, services: Services, session: FakeSession, qtbot: QtBot) -> None:
    opened: list[Path] = []
    services.bus.open_model.disconnect(services.models.open)
    services.bus.open_model.connect(opened.append)
    click(qtbot, pair.start_button)
    finish(pair, session, qtbot)
    click(qtbot, pair.result.generate)
    click(qtbot, pair.result.side.buttons()[1])
    click(qtbot, pair.result.generate)
    out = session.pairs[0].out
    assert out is not None
    assert opened == [out / "A", out / "B"]


def test_a_pair_that_was_stopped_goes_on_in_its_folder(pair: BuildPanel, session: FakeSession, qtbot: QtBot) -> None:
    click(qtbot, pair.start_button)
    run_steps(pair, session, 5, qtbot)
    assert pair.run_card.job is not None
    pair.run_card.job.stop(save=True)
    qtbot.waitUntil(lambda: pair.run_card.job is None, timeout=WAIT)
    assert pair.track.folder == session.pairs[0].out, "of the pair, not of one of its runs"
    click(qtbot, pair.result.resume)
    qtbot.waitUntil(lambda: len(session.pairs) == 2, timeout=WAIT)
    assert session.pairs[1] == replace(session.pairs[0], resume=True)


# ---- words and figures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("final", "noise", "begins"),
    [
        ({"eval_loss_a": 3.0, "eval_loss_b": 3.2}, None, "A is lower by 0.200 nats/token after 100 steps: validation loss"),
        ({"loss_a": 3.2, "loss_b": 3.0}, None, "B is lower by 0.200 nats/token after 100 steps: training loss"),
        ({"loss_a": 3.2, "loss_b": 3.0, "eval_loss_a": 1.0, "eval_loss_b": 2.0}, None, "A is lower by 1.000"),
        ({"loss_a": 3.000, "loss_b": 3.001}, None, "No difference to speak of"),
        ({"loss_a": 3.00, "loss_b": 3.05}, 0.04, "No difference to speak of"),
        ({"loss_a": 3.00, "loss_b": 3.05}, 0.01, "A is lower"),
        ({}, None, ""),
    ],
)
def test_the_verdict(final: dict[str, float], noise: float | None, begins: str) -> None:
    assert verdict(final, 100, 0, noise).startswith(begins)
    assert "one seed" in ONE_SEED


def test_the_noise_is_that_of_the_newest_differences() -> None:
    track = BuildTrack()
    track.follow([PairEvent(step=i, of=20, metrics={"loss_difference": 1.0 if i % 2 else -1.0}) for i in range(9)])
    assert track.noise is None
    track.follow([PairEvent(step=9, of=20, metrics={"loss_difference": 1.0})])
    assert track.noise == pytest.approx((10 / 9) ** 0.5 / 10**0.5)


def test_what_a_result_offers(tmp_path: Path) -> None:
    runs = {s: TrainResult(reason="done", steps=1, model=tmp_path / s / "model", folder=tmp_path / s) for s in "AB"}
    both = Outcome.of(TrainResult(reason="done", steps=1, runs=runs, folder=tmp_path), BuildTrack())
    assert both.models == {"A": tmp_path / "A", "B": tmp_path / "B"}
    one = {**runs, "B": TrainResult(reason="diverged", steps=0)}
    assert list(Outcome.of(TrainResult(reason="done", steps=1, runs=one, folder=tmp_path), BuildTrack()).models) == ["A"]


# ---- the monitor ---------------------------------------------------------------------------------------------------


@pytest.fixture
def monitor(services: Services, qtbot: QtBot) -> MonitorPanel:
    panel = MonitorPanel(services)
    qtbot.addWidget(panel)
    panel.resize(1300, 280)
    with qtbot.waitExposed(panel):
        panel.show()
    return panel


def test_the_monitor_shows_both_runs_over_each_other(
    pair: BuildPanel, monitor: MonitorPanel, session: FakeSession, qtbot: QtBot
) -> None:
    click(qtbot, pair.start_button)
    run_steps(pair, session, 4, qtbot)
    plot = monitor.plots["pair"]
    qtbot.waitUntil(lambda: (c := plot.curve("loss_b")) is not None and len(c.series) == 4, timeout=WAIT)
    assert plot.curve("loss_a").series.x.tolist() == [1, 2, 3, 4], "once per step, though each run says it too"  # type: ignore[union-attr]
    assert monitor.first.currentWidget() is plot
    colours = [plot.curve(n).style.colour for n in ("loss_a", "loss_b")]  # type: ignore[union-attr]
    assert colours[0] != colours[1]
    assert monitor.plots["loss"].runs == ()


def test_the_next_run_by_itself_brings_the_loss_chart_back(monitor: MonitorPanel, services: Services) -> None:
    services.bus.events.emit([PairEvent(step=1, of=2, metrics={"loss_a": 1.0})])
    assert monitor.first.currentWidget() is monitor.plots["pair"]
    step = StepEvent(step=1, of=2, tokens=1, trained_tokens=1, seconds=1.0, eta_seconds=1.0, metrics={"loss": 1.0})
    services.bus.events.emit([step])
    assert monitor.first.currentWidget() is monitor.plots["loss"]


def test_what_each_run_measures_is_a_run_of_its_own(monitor: MonitorPanel, services: Services) -> None:
    for run, value in (("A", 1.0), ("B", 2.0)):
        metrics = {"gradient_norm": value, f"loss_{run.lower()}": value}
        step = StepEvent(step=1, of=2, run=run, tokens=1, trained_tokens=1, seconds=1.0, eta_seconds=1.0, metrics=metrics)
        services.bus.events.emit([step])
    plot = monitor.plots["gradient"]
    assert plot.runs == ("run 1 A", "run 1 B")
    assert monitor.plots["pair"].runs == ()


# ---- the chart -----------------------------------------------------------------------------------------------------


def test_zooming_one_half_zooms_the_other(qtbot: QtBot) -> None:
    plot = PairPlot()
    qtbot.addWidget(plot)
    plot.resize(500, 400)
    with qtbot.waitExposed(plot):
        plot.show()
    plot.follow([PairEvent(step=i, of=99, metrics={"loss_a": 2.0, "loss_b": 1.0, "loss_difference": -1.0}) for i in range(1, 100)])
    plot.refresh()
    plot.losses.canvas.zoomed.emit()
    assert not plot.difference.following
    plot.losses.canvas.view.setXRange(20, 30, padding=0)
    assert plot.difference.canvas.view.viewRange()[0] == pytest.approx([20, 30], abs=1.5)
    plot.difference.follow()
    assert plot.losses.following


