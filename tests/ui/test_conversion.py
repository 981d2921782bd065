"""Conversion of the loaded model in the panel: verdicts before it is applied, measuring, applying, healing, undoing."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from tests.ui.test_architecture_panel import pick, summary_of
from ui.architecture.conversion import Conversion
from ui.architecture.editor import ArchitectureEditor
from ui.architecture.verdicts import loss_text, of_change, of_plan
from ui.panels.architecture import ArchitecturePanel
from ui.services import Services
from workbench.core.control import Control
from workbench.core.errors import DataError
from workbench.core.events import Event, Phase
from workbench.model import PRESETS, ModelConfig
from workbench.model.convert import ConversionPlan, plan

TINY = PRESETS["tiny-llama"].config


@dataclass(frozen=True)
class Measure:
    nats_before: float = 2.41
    nats_after: float | None = 3.21
    difference: float | None = 0.8
    standard_error: float | None = 0.05
    sample: str = "built-in prose"
    tokens: int = 1023
    unseen: bool = False


class Converter:
    """A session that plans as the engine does, and measures and converts when it is let."""

    def __init__(self) -> None:
        self.compute = SimpleNamespace(label="CPU", reason="", dtype="torch.float32")
        self.model: Any = summary_of(TINY, Path("mine.gguf"))
        self.conversion: Any = None
        self.gate = threading.Event()
        self.gate.set()
        self.measured: list[ModelConfig] = []
        self.samples: list[Path | None] = []
        self.error: Exception | None = None
        self._before: list[tuple[Any, Any]] = []

    def plan_conversion(self, new: ModelConfig) -> ConversionPlan:
        return plan(self.model.config, new)

    def measure_conversion(self, new: ModelConfig, sample: Any, control: Control) -> Generator[Event, None, Measure | None]:
        self.measured.append(new)
        self.samples.append(sample)
        yield Phase(word="Loading")
        while not self.gate.wait(0.005):
            if control.stopping:
                return None
        if self.error is not None:
            raise self.error
        return Measure()

    def convert(self, new: ModelConfig, control: Control) -> Generator[Event, None, Any]:
        yield Phase(word="Loading")
        found = plan(self.model.config, new)
        self._before.append((self.model, self.conversion))
        self.model = summary_of(new, Path("mine.gguf"), "mine (converted)")
        self.conversion = SimpleNamespace(changes=found.changes, verdict=found.verdict)
        return self.conversion

    @property
    def can_undo_conversion(self) -> bool:
        return bool(self._before)

    def undo_conversion(self) -> Any:
        self.model, self.conversion = self._before.pop()
        return self.model


@pytest.fixture
def session(services: Services) -> Converter:
    services.session = Converter()
    return services.session


@pytest.fixture
def editor(session: Converter, services: Services, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> ArchitectureEditor:
    monkeypatch.setattr("ui.architecture.conversion.MEASURE_AFTER_MS", 1)
    panel = ArchitecturePanel(services)
    qtbot.addWidget(panel)
    panel.resize(344, 800)
    with qtbot.waitExposed(panel):
        panel.show()
    assert panel.editor is not None
    return panel.editor


def note_of(editor: ArchitectureEditor, field: str) -> str:
    row = editor.form.row(field)
    assert row is not None
    return row.note.text if row.note is not None and row.note.isVisible() else ""


def idle(services: Services, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not services.jobs.jobs, timeout=5000)


class TestWords:
    def of(self, **changes: Any) -> ConversionPlan:
        return plan(TINY, replace(TINY, **changes))

    def test_a_change_that_keeps_the_model_says_so(self) -> None:
        verdict = of_plan(self.of(tie_embeddings=False), None, False)
        assert (verdict.kind, verdict.hollow) == ("exact", False)
        assert verdict.words == "Keeps the model: it computes the same."

    def test_what_is_not_measured_is_hollow(self) -> None:
        planned = self.of(norm="layernorm")
        assert of_plan(planned, None, True).words == "Changes it: estimating by how much…"
        assert of_plan(planned, None, True).hollow
        assert of_plan(planned, None, True).role == "muted"
        measured = of_plan(planned, Measure(), False)
        assert measured.words == "Changes it: +0.80 ± 0.05 nats per token on built-in prose (2.41 → 3.21)."
        assert not measured.hollow
        assert "too short" in of_plan(planned, None, False, "The text is too short.").words

    def test_fresh_parameters_are_counted(self) -> None:
        verdict = of_plan(self.of(position="learned"), None, False)
        assert verdict.words == "Needs training (32.77 k of 857.6 k parameters are fresh)."
        change = next(c for c in self.of(position="learned").changes if c.field == "position")
        assert of_change(change).words.startswith("Needs training (32.77 k fresh parameters). ")

    def test_a_loss_that_does_not_exist_is_no_number(self) -> None:
        assert "no such loss" in loss_text(Measure(nats_after=None, difference=None, standard_error=None))
        assert loss_text(Measure(difference=-0.004, standard_error=None)).startswith("−0.004 nats")

    def test_every_verdict_has_its_own_icon(self) -> None:
        found = [of_plan(self.of(**c), None, False).icon for c in ({"mlp_bias": True}, {"norm": "layernorm"}, {"residual": "post"})]
        assert len(set(found)) == 3


class TestVerdicts:
    def test_each_toggle_has_its_verdict_before_anything_is_applied(self, editor: ArchitectureEditor, session: Converter) -> None:
        pick(editor, "tie_embeddings", False)
        assert note_of(editor, "tie_embeddings").startswith("Keeps the model.")
        pick(editor, "position", "learned")
        assert note_of(editor, "position").startswith("Needs training")
        assert editor.actions_bar.verdict.text.startswith("Needs training")
        assert editor.actions_bar.apply_button.isEnabled()
        assert session.model.config == TINY
        editor.reset()
        assert note_of(editor, "position") == note_of(editor, "tie_embeddings") == ""
        assert not editor.actions_bar.apply_button.isVisible()

    def test_an_approximate_change_is_measured_by_itself(
        self, editor: ArchitectureEditor, session: Converter, services: Services, qtbot: QtBot
    ) -> None:
        session.gate.clear()
        pick(editor, "norm", "layernorm")
        assert editor.actions_bar.verdict.text == "Changes it: estimating by how much…"
        qtbot.waitUntil(lambda: session.measured == [editor.shown.config], timeout=5000)
        session.gate.set()
        qtbot.waitUntil(lambda: "+0.80" in editor.actions_bar.verdict.text, timeout=5000)
        idle(services, qtbot)
        pick(editor, "norm", "rmsnorm")
        pick(editor, "norm", "layernorm")
        assert "+0.80" in editor.actions_bar.verdict.text, "what was measured once is known"
        assert len(session.measured) == 1

    def test_only_the_last_of_quick_toggles_is_measured(
        self, editor: ArchitectureEditor, session: Converter, services: Services, qtbot: QtBot
    ) -> None:
        session.gate.clear()
        pick(editor, "norm", "layernorm")
        qtbot.waitUntil(lambda: len(session.measured) == 1, timeout=5000)
        pick(editor, "qk_norm", "head")
        qtbot.waitUntil(lambda: len(session.measured) == 2, timeout=5000)
        session.gate.set()
        qtbot.waitUntil(lambda: editor.conversion.measured is not None, timeout=5000)
        assert session.measured[-1] == editor.shown.config
        idle(services, qtbot)

    def test_exact_and_fresh_changes_are_not_measured_unasked(self, editor: ArchitectureEditor, session: Converter, qtbot: QtBot) -> None:
        pick(editor, "tie_embeddings", False)
        assert not editor.conversion.estimating
        assert not editor.actions_bar.measure_button.isVisible(), "there is nothing to measure"
        pick(editor, "residual", "post")
        assert not editor.conversion.estimating
        editor.actions_bar.measure_button.menu().actions()[0].trigger()
        qtbot.waitUntil(lambda: "+0.80" in editor.actions_bar.verdict.text, timeout=5000)
        assert editor.actions_bar.verdict.text.startswith("Needs training")

    def test_a_model_too_large_is_measured_on_request_only(self, editor: ArchitectureEditor, session: Converter) -> None:
        session.model.parameters = 10**10
        pick(editor, "norm", "layernorm")
        assert not editor.conversion.estimating
        assert "has not been measured" in editor.actions_bar.verdict.text
        assert editor.actions_bar.measure_button.isVisible()

    def test_a_text_of_ones_own_is_measured_on_from_then_on(
        self, editor: ArchitectureEditor, session: Converter, services: Services, qtbot: QtBot
    ) -> None:
        pick(editor, "norm", "layernorm")
        qtbot.waitUntil(lambda: editor.conversion.measured is not None, timeout=5000)
        idle(services, qtbot)
        editor.actions_bar._on_sample("mine.txt")
        qtbot.waitUntil(lambda: session.samples == [None, Path("mine.txt")] and editor.conversion.measured is not None, timeout=5000)
        idle(services, qtbot)
        pick(editor, "qk_norm", "head")
        qtbot.waitUntil(lambda: session.samples[2:] == [Path("mine.txt")], timeout=5000)
        idle(services, qtbot)
        editor.conversion.measure_on_builtin()
        qtbot.waitUntil(lambda: session.samples[3:] == [None], timeout=5000)
        idle(services, qtbot)

    def test_measuring_gives_way_to_a_persons_own_work_and_comes_back(
        self, editor: ArchitectureEditor, session: Converter, services: Services, gate: Any, qtbot: QtBot
    ) -> None:
        session.gate.clear()
        pick(editor, "norm", "layernorm")
        qtbot.waitUntil(lambda: len(session.measured) == 1, timeout=5000)
        work = gate()
        services.jobs.start("A reply", work, "chat")
        qtbot.waitUntil(lambda: len(services.jobs.jobs) == 1, timeout=5000)
        assert editor.conversion.measured is None
        assert "has not been measured" in editor.actions_bar.verdict.text
        session.gate.set()
        work.through.set()
        qtbot.waitUntil(lambda: editor.conversion.measured is not None, timeout=5000)
        idle(services, qtbot)

    def test_why_nothing_could_be_measured_is_said_beside_the_verdict(
        self, editor: ArchitectureEditor, session: Converter, services: Services, qtbot: QtBot
    ) -> None:
        messages: list[Any] = []
        services.notify.posted.connect(messages.append)
        session.error = DataError("The text is too short.")
        pick(editor, "norm", "layernorm")
        qtbot.waitUntil(lambda: "too short" in editor.actions_bar.verdict.text, timeout=5000)
        idle(services, qtbot)
        assert messages == []
        assert len(session.measured) == 1, "what failed is not tried again by itself"

    def test_what_cannot_be_built_can_be_neither_applied_nor_trained(self, editor: ArchitectureEditor) -> None:
        editor.actions_bar.allow_build(True)
        pick(editor, "tie_embeddings", False)
        pick(editor, "n_heads", 7)
        bar = editor.actions_bar
        assert not bar.apply_button.isEnabled()
        assert bar.apply_button.text() == "Correct “Attention heads” first"
        assert "cannot be split over 7 heads" in bar.apply_button.toolTip()
        assert not bar.build_button.isVisible()
        assert note_of(editor, "tie_embeddings") == ""
        pick(editor, "n_heads", 4)
        assert bar.apply_button.isEnabled()
        assert bar.build_button.isEnabled()


class TestApplying:
    def test_apply_converts_and_undo_brings_the_old_model_back(
        self, editor: ArchitectureEditor, session: Converter, services: Services, qtbot: QtBot
    ) -> None:
        heard: list[Any] = []
        services.bus.model_changed.connect(heard.append)
        pick(editor, "position", "learned")
        editor.actions_bar.apply_button.click()
        assert editor.actions_bar.apply_button.text() == "Converting…"
        assert not editor.actions_bar.apply_button.isEnabled()
        qtbot.waitUntil(lambda: len(heard) == 1, timeout=5000)
        idle(services, qtbot)
        assert heard == [session.model]
        assert editor.title.full_text == "As converted"
        assert editor.home.config.position.kind == "learned"
        bar = editor.actions_bar
        assert bar.verdict.text == "Converted: 1 setting changed; it needs training."
        assert bar.heal_button.isVisible()
        assert bar.undo_button.isVisible()
        bar.undo_button.click()
        assert heard[-1].config == TINY
        assert editor.form.value == TINY
        assert not bar.undo_button.isVisible()
        assert not bar.heal_button.isVisible()
        assert bar.verdict.text == ""

    def test_healing_is_asked_for_with_the_reason(
        self, editor: ArchitectureEditor, session: Converter, services: Services, qtbot: QtBot
    ) -> None:
        pick(editor, "norm", "layernorm")
        qtbot.waitUntil(lambda: editor.conversion.measured is not None, timeout=5000)
        idle(services, qtbot)
        editor.conversion.apply()
        qtbot.waitUntil(lambda: session.conversion is not None and not services.jobs.jobs, timeout=5000)
        assert "+0.80" in editor.actions_bar.verdict.text, "the measure of what was applied stays"
        with qtbot.waitSignal(services.bus.heal_requested) as asked:
            editor.actions_bar.heal_button.click()
        assert "nats per token" in asked.args[0]

    def test_an_exact_conversion_needs_no_healing(self, editor: ArchitectureEditor, services: Services, qtbot: QtBot) -> None:
        pick(editor, "tie_embeddings", False)
        editor.conversion.apply()
        qtbot.waitUntil(lambda: editor.conversion.report is not None and not services.jobs.jobs, timeout=5000)
        assert "computes the same" in editor.actions_bar.verdict.text
        assert not editor.actions_bar.heal_button.isVisible()
        assert editor.actions_bar.undo_button.isVisible()

    def test_apply_waits_for_a_measurement_to_give_way(
        self, editor: ArchitectureEditor, session: Converter, services: Services, qtbot: QtBot
    ) -> None:
        session.gate.clear()
        pick(editor, "norm", "layernorm")
        qtbot.waitUntil(lambda: len(session.measured) == 1, timeout=5000)
        editor.conversion.apply()
        assert editor.conversion.busy
        qtbot.waitUntil(lambda: session.conversion is not None, timeout=5000)
        idle(services, qtbot)
        assert not editor.conversion.busy

    def test_another_job_in_the_way_is_named(self, editor: ArchitectureEditor, services: Services, gate: Any, qtbot: QtBot) -> None:
        messages: list[Any] = []
        services.notify.posted.connect(messages.append)
        work = gate()
        services.jobs.start("Fine-tuning mine", work, "train")
        pick(editor, "tie_embeddings", False)
        editor.conversion.apply()
        qtbot.waitUntil(lambda: len(messages) == 1, timeout=5000)
        assert "Fine-tuning mine" in messages[0].text
        assert not editor.conversion.busy
        assert editor.actions_bar.apply_button.isEnabled()


class TestWithoutAModel:
    def test_nothing_is_planned_and_nothing_can_be_applied(self, services: Services, qtbot: QtBot) -> None:
        session = Converter()
        session.model = None
        services.session = session
        conversion = Conversion(services, services.bus)
        conversion.want(TINY)
        assert conversion.verdict() is None
        assert not conversion.has_model
        conversion.apply()
        conversion.undo()
        conversion.heal()
        conversion.measure()
        assert not services.jobs.jobs

    def test_the_draft_is_handed_to_the_page_that_builds(self, editor: ArchitectureEditor, services: Services, qtbot: QtBot) -> None:
        editor.actions_bar.allow_build(True)
        pick(editor, "mlp", "gelu")
        with qtbot.waitSignal(services.bus.build_requested) as asked:
            editor.actions_bar.build_button.click()
        assert asked.args == [replace(TINY, mlp="gelu")]


def test_no_difference_within_a_short_text_is_said_as_that() -> None:
    assert loss_text(Measure(difference=0.0, unseen=True)) == (
        "no difference within 1,023 tokens of built-in prose; longer texts were not measured"
    )
