"""Architectures side by side: the lines of the table, the page with its columns, the panel that follows draft and model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PySide6.QtCore import Qt
from pytestqt.modeltest import ModelTester
from pytestqt.qtbot import QtBot

from tests.ui.test_architecture_panel import summary_of
from ui.architecture.compare import DRAFT, LOADED, CompareView
from ui.architecture.side_by_side import Line, lines, relative
from ui.panels.compare import ComparePanel
from ui.services import Services
from workbench.model import PRESETS, account
from workbench.model.config import ModelConfig

GPT2, STARTER, GEMMA = (PRESETS[n].config for n in ("gpt2", "smollm2-135m", "gemma2-2b"))


def by_label(*configs: ModelConfig, context: int | None = None, only: bool = False) -> dict[str, Line]:
    return {line.label: line for line in lines([account(c) for c in configs], context, only_differences=only)}


class TestLines:
    def test_settings_are_put_beside_each_other_with_automatic_ones_spelt_out(self) -> None:
        found = by_label(GPT2, STARTER)
        assert found["Layers"].texts == ("12", "30")
        assert found["Key/value heads"].texts == ("12", "3")
        assert found["Position encoding: Base θ"].texts == ("–", "100,000")
        assert found["Tie embeddings"].texts == ("on", "on")
        assert not found["Tie embeddings"].differs

    def test_only_what_differs_is_listed_on_request(self) -> None:
        found = by_label(STARTER, replace(STARTER, norm="layernorm"), only=True)
        assert found["Norm"].texts == ("RMSNorm", "LayerNorm")
        assert "Layers" not in found
        assert "No setting differs." in by_label(STARTER, replace(STARTER, n_kv_heads=3), only=True), "what automatic comes to is alike"

    def test_an_epsilon_that_a_file_rounded_is_the_same(self) -> None:
        rounded = replace(STARTER, norm={"kind": "rmsnorm", "eps": 9.999999747378752e-06})
        assert "Norm: Epsilon" not in by_label(STARTER, rounded, only=True)

    def test_figures_are_told_relative_to_the_first(self) -> None:
        found = by_label(STARTER, GPT2, context=1000)
        assert found["All parameters"].texts == ("134.5 M", "124.4 M (−7.49 %)")
        assert found["Position embedding"].texts == ("–", "786.4 k")
        assert found["KV at 1,000"].texts == ("46.1 MB", "73.7 MB (+60 %)")
        labels = list(found)
        assert labels.index("Parameters") < labels.index("Position embedding") < labels.index("All parameters") < labels.index("Memory")

    def test_contexts_that_differ_are_priced_at_the_smallest(self) -> None:
        assert "KV at 1,024" in by_label(GPT2, STARTER, GEMMA)

    @pytest.mark.parametrize(("value", "text"), [(107, " (+7 %)"), (93, " (−7 %)"), (320, " (×3.2)"), (25, " (×0.25)"), (100, ""), (0, "")])
    def test_relative_words(self, value: float, text: str) -> None:
        assert relative(value, 100) == text


@pytest.fixture
def panel(services: Services, qtbot: QtBot) -> ComparePanel:
    services.session = SimpleNamespace(model=None)
    made = ComparePanel(services)
    qtbot.addWidget(made)
    made.resize(700, 600)
    with qtbot.waitExposed(made):
        made.show()
    return made


@pytest.fixture
def view(panel: ComparePanel) -> CompareView:
    assert panel.view is not None
    return panel.view


def shown_names(view: CompareView) -> list[str]:
    return [c.priced.name for c in view.shown() if c.priced is not None]


class TestPanel:
    def test_it_is_empty_until_it_is_looked_at(self, services: Services, qtbot: QtBot) -> None:
        services.session = SimpleNamespace(model=None)
        panel = ComparePanel(services)
        qtbot.addWidget(panel)
        assert panel.view is None

    def test_it_waits_for_the_engine(self, services: Services, qtbot: QtBot) -> None:
        panel = ComparePanel(services)
        qtbot.addWidget(panel)
        with qtbot.waitExposed(panel):
            panel.show()
        assert panel.view is None
        services.session = SimpleNamespace(model=None)
        services.bus.engine_ready.emit(services.session)
        assert panel.view is not None

    def test_two_presets_are_shown_first_and_a_third_on_request(self, view: CompareView, qtbot: QtBot) -> None:
        assert shown_names(view) == [PRESETS["gpt2"].label, PRESETS["smollm2-135m"].label]
        view.third.click()
        assert len(shown_names(view)) == 3
        assert view.table.compared.columnCount() == 4

    def test_a_choice_redraws_diagram_and_table(self, view: CompareView) -> None:
        combo = view.columns[1].combo
        combo.setCurrentIndex(combo.findData("gemma2-2b"))
        combo.activated.emit(combo.currentIndex())
        assert shown_names(view)[1] == PRESETS["gemma2-2b"].label
        assert view.columns[1].diagram.changed_parts
        assert not view.columns[0].diagram.changed_parts
        assert "Soft-cap" in view.columns[1].diagram.accessibleDescription()
        texts = {line.label: line.texts for line in view.table.compared.lines}
        assert texts["Logit soft-cap"] == ("off", "30")

    def test_the_draft_is_followed_while_it_is_shown(self, panel: ComparePanel, view: CompareView, services: Services) -> None:
        services.bus.draft_changed.emit(("mine", STARTER))
        services.bus.compare_requested.emit((DRAFT, "gpt2"))
        assert shown_names(view) == ["mine", PRESETS["gpt2"].label]
        services.bus.draft_changed.emit(("mine, changed", replace(STARTER, norm="layernorm")))
        assert shown_names(view)[0] == "mine, changed"
        assert not view.columns[0].edit.isEnabled(), "it is being edited"

    def test_the_loaded_model_is_followed_too(self, view: CompareView, services: Services) -> None:
        services.session.model = summary_of(STARTER, Path("a.gguf"), "first")
        services.bus.model_changed.emit(services.session.model)
        view.compare((LOADED, "gpt2"))
        assert shown_names(view)[0] == "first"
        services.session.model = summary_of(GPT2, Path("b.gguf"), "second")
        services.bus.model_changed.emit(services.session.model)
        assert shown_names(view)[0] == "second"
        services.session.model = None
        services.bus.model_changed.emit(None)
        assert shown_names(view)[0] == PRESETS["gpt2"].label, "without a model there is still something to see"

    def test_it_comes_to_the_front_when_it_is_asked_for(self, panel: ComparePanel, services: Services, qtbot: QtBot) -> None:
        with qtbot.waitSignal(services.bus.show_panel) as asked:
            services.bus.compare_requested.emit(("gpt2", "bert-base", "gemma2-2b"))
        assert asked.args == ["compare"]
        assert panel.view is not None
        assert len(shown_names(panel.view)) == 3

    def test_a_column_can_be_edited_and_trained(self, view: CompareView, services: Services, qtbot: QtBot) -> None:
        with qtbot.waitSignal(services.bus.edit_requested) as asked:
            view.columns[0].edit.click()
        assert asked.args == [(PRESETS["gpt2"].label, GPT2)]
        with qtbot.waitSignal(services.bus.build_requested) as wanted:
            view.columns[1].train.click()
        assert wanted.args == [STARTER]

    def test_all_settings_and_another_context(self, view: CompareView) -> None:
        few = len(view.table.compared.lines)
        view.all_settings.click()
        assert len(view.table.compared.lines) > few
        view.context._take({"context": 500})
        assert any(line.label == "KV at 500" for line in view.table.compared.lines)

    def test_the_table_is_a_sound_model_and_is_copied(self, view: CompareView, qtmodeltester: ModelTester) -> None:
        qtmodeltester.check(view.table.compared)
        text = view.table.as_text()
        assert text.splitlines()[0].split("\t")[1:] == shown_names(view)

    def test_the_page_fits_a_narrow_centre(self, panel: ComparePanel, view: CompareView, qtbot: QtBot) -> None:
        view.third.click()
        panel.resize(380, 500)
        qtbot.waitUntil(lambda: view.scroll.widget().width() <= view.scroll.viewport().width())
        right = max(c.widget.mapTo(view.scroll.widget(), c.widget.rect().topRight()).x() for c in view.columns)
        assert right <= view.scroll.viewport().width()

    def test_headings_cannot_be_chosen(self, view: CompareView) -> None:
        combo = view.columns[0].combo
        at = combo.findText(PRESETS["gpt2"].family)
        assert at >= 0
        assert not combo.model().flags(combo.model().index(at, 0)) & Qt.ItemFlag.ItemIsSelectable


def test_what_is_asked_for_by_the_model_panel(services: Services, qtbot: QtBot) -> None:
    from ui.panels.architecture import ArchitecturePanel

    services.session = SimpleNamespace(model=summary_of(STARTER, Path("a.gguf")), compute=SimpleNamespace(dtype="torch.float32"))
    panel = ArchitecturePanel(services)
    qtbot.addWidget(panel)
    assert panel.editor is not None
    asked: list[Any] = []
    services.bus.compare_requested.connect(asked.append)
    panel.editor.compare_with("gpt2")
    panel.editor.side_by_side()
    assert asked == [(DRAFT, "gpt2")]
    services.bus.edit_requested.emit(("Gemma", GEMMA))
    assert panel.editor.form.value == GEMMA
