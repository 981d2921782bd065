"""The Model panel: picker, settings, diagram and costs in step; prices in time; failures that leave it usable."""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible
from PySide6.QtWidgets import QAbstractButton, QAbstractItemView, QAbstractSpinBox, QApplication, QComboBox, QLineEdit
from pytestqt.modeltest import ModelTester
from pytestqt.qtbot import QtBot
from torch import nn

from ui.architecture.editor import STARTER_PRESET, ArchitectureEditor
from ui.architecture.prices import PriceModel, price_rows, tying_text
from ui.models import STARTER
from ui.panels.architecture import ArchitecturePanel
from ui.services import Services
from workbench.core.control import Control
from workbench.core.errors import FileError
from workbench.core.events import Event, Progress
from workbench.library import CATALOGUE
from workbench.model import PRESETS, ModelConfig, account
from workbench.parts.norms import NORMS

BUDGET_MS = 50


def summary_of(config: ModelConfig, path: Path, name: str = "mine") -> Any:
    count = account(config).parameters
    return SimpleNamespace(
        name=name, path=path, format="gguf", family="llama", config=config, parameters=count, parameter_bytes=4 * count,
        dtype="float32", precision="float32",
        prefill_dtype=None, device="cpu", chat=True, notices=(), context=config.max_positions,
    )  # fmt: skip


class OneSession:
    """Loads tiny-llama from any path but a broken one."""

    def __init__(self) -> None:
        self.compute = SimpleNamespace(label="CPU", reason="", dtype="torch.float32")
        self.model: Any = None

    def load(self, model: Any, control: Control) -> Generator[Event, None, Any]:
        yield Progress(message="Loading", done=1, total=2, unit="B")
        if "broken" in Path(model).name:
            raise FileError("broken.gguf is cut off.", hint="Download it again.")
        self.model = summary_of(PRESETS["tiny-llama"].config, Path(model))
        return self.model


@pytest.fixture
def panel(services: Services, qtbot: QtBot) -> ArchitecturePanel:
    services.session = OneSession()
    made = ArchitecturePanel(services)
    qtbot.addWidget(made)
    made.resize(344, 620)
    with qtbot.waitExposed(made):
        made.show()
    return made


@pytest.fixture
def editor(panel: ArchitecturePanel) -> ArchitectureEditor:
    assert panel.editor is not None
    return panel.editor


def pick(editor: ArchitectureEditor, field: str, value: Any) -> None:
    """Choose as a person does: through the field's drop-down or switch."""
    box = editor.form.editor(field)
    combo = box.findChild(QComboBox)
    if combo is not None:
        combo.setCurrentIndex(combo.findData(value))
        combo.activated.emit(combo.currentIndex())
    else:
        box.set_value(value)
        box.edited.emit()


def loaded(services: Services, config: ModelConfig, path: Path = Path("mine.gguf")) -> None:
    services.session.model = summary_of(config, path)
    services.bus.model_changed.emit(services.session.model)


class TestBeforeTheEngine:
    def test_the_picker_is_there_and_the_rest_comes_with_the_engine(self, services: Services, qtbot: QtBot) -> None:
        panel = ArchitecturePanel(services)
        qtbot.addWidget(panel)
        assert panel.editor is None
        assert panel.picker.starter_button.text() == "Get the starter model (98 MB)"
        services.session = OneSession()
        services.bus.engine_ready.emit(services.session)
        assert panel.editor is not None

    def test_an_engine_that_fails_is_said(self, services: Services, qtbot: QtBot) -> None:
        panel = ArchitecturePanel(services)
        qtbot.addWidget(panel)
        services.bus.engine_failed.emit(object())
        assert "did not load" in panel._waiting.text()


class TestToggling:
    def test_the_starters_architecture_is_there_before_any_model(self, editor: ArchitectureEditor) -> None:
        assert editor.shown.config == PRESETS[STARTER_PRESET].config
        assert editor.strip.values[0].text() == "134.5 M"
        assert "not loaded" in editor.title.full_text

    def test_untying_is_drawn_priced_and_said(self, editor: ArchitectureEditor) -> None:
        pick(editor, "tie_embeddings", False)
        assert editor.diagram.spec is not None
        assert not editor.diagram.spec.tied
        rows = {row.label: row for row in editor.rows}
        assert rows["All parameters"].difference == 49152 * 576
        assert editor.strip.differences[0].text() == "+28.31 M"
        assert "would save 28.31 M parameters (113 MB" in editor.tying.text()
        assert "1 changed" in editor.title.full_text

    def test_norm_placement_and_position_redraw(self, editor: ArchitectureEditor) -> None:
        pick(editor, "residual", "double")
        pick(editor, "position", "alibi")
        assert editor.diagram.spec is not None
        assert editor.diagram.spec.placement == "Double norm"
        assert {"block", "attention"} <= editor.diagram.changed_parts

    def test_reset_goes_back_to_the_loaded_model(self, editor: ArchitectureEditor, services: Services) -> None:
        config = PRESETS["tiny-llama"].config
        loaded(services, config)
        pick(editor, "residual", "post")
        assert editor.title.full_text == "1 setting changed"
        assert editor.form.rows["residual"].mark.kind == "changed"
        editor.reset_button.click()
        assert editor.form.value == config
        assert editor.title.full_text == "As loaded"
        assert not editor.reset_button.isEnabled()
        assert all(row.mark.kind == "" for row in editor.form.rows.values())

    def test_what_cannot_be_built_says_why_and_keeps_the_last_drawing(self, editor: ArchitectureEditor) -> None:
        before = editor.shown
        pick(editor, "n_heads", 7)
        assert editor.shown is before
        assert "cannot be split over 7 heads" in editor.trouble.words
        assert editor.trouble.isVisible()
        pick(editor, "n_heads", 9)
        assert not editor.trouble.isVisible()

    def test_the_loaded_model_is_not_touched(self, editor: ArchitectureEditor, services: Services) -> None:
        loaded(services, PRESETS["tiny-llama"].config)
        model = services.session.model
        pick(editor, "mlp", "relu")
        assert services.session.model is model
        assert model.config == PRESETS["tiny-llama"].config

    def test_every_toggle_is_priced_and_drawn_in_time(self, editor: ArchitectureEditor) -> None:
        editor.show_preset("gpt2-xl")
        spent = []
        for n in range(9):
            start = time.perf_counter()
            pick(editor, "residual", ("post", "double", "pre")[n % 3])
            editor.diagram.repaint()
            editor.table.viewport().repaint()
            spent.append(1000 * (time.perf_counter() - start))
        assert statistics.median(spent) < BUDGET_MS


class TestSettings:
    def test_a_problem_of_a_deep_option_is_shown_at_that_option(self, editor: ArchitectureEditor) -> None:
        pick(editor, "position.scaling", "llama3")
        editor.form.editor("position.scaling.low").set_value(8.0)
        editor.form.editor("position.scaling.low").edited.emit()
        row = editor.form.row("position.scaling.low")
        assert row is not None
        assert row.mark.kind == "problem"
        assert "not below" in row.problem
        assert editor.actions_bar.build_button.text() == f"Correct “{row.info.label}” first"
        editor.trouble.linkActivated.emit("0")
        assert editor.form.focused_row() is row

    def test_the_search_finds_kinds_deep_options_and_what_acts_on_the_next_message(self, editor: ArchitectureEditor) -> None:
        def found(text: str) -> list[str]:
            editor.form.search.setText(text)
            return [name for name, row in editor.form.rows.items() if row.isVisibleTo(editor.form)]

        costs, live = editor.sections
        assert found("yarn") == ["position"]
        assert not costs.isVisibleTo(editor)
        assert "norm" in found("layernorm")
        assert found("num_key_value_heads") == ["n_kv_heads"]
        assert found("kv cache storage") == []
        assert live.isVisibleTo(editor) == editor.cache.rows["codec"].isVisibleTo(editor.cache)
        assert found("no such thing") == []
        assert editor.form.nothing.isVisibleTo(editor.form)
        assert len(found("")) > 10
        assert costs.isVisibleTo(editor)

    def test_f1_explains_what_a_field_costs_here_and_a_click_takes_it(
        self, panel: ArchitecturePanel, editor: ArchitectureEditor, qtbot: QtBot
    ) -> None:
        with qtbot.waitActive(panel):
            panel.activateWindow()
        editor.form.focus_field("norm")
        qtbot.keyClick(editor.form.editor("norm").stops()[0], Qt.Key.Key_F1)
        assert editor.card.isVisible()
        assert "+35,136" in editor.card.body.text()
        link = next(n for n, a in enumerate(editor.card._found) if a.label == "LayerNorm")
        editor.card.body.linkActivated.emit(f"pick:{link}")
        assert editor.form.value.norm.kind == "layernorm"
        assert "−35,136" in editor.card.body.text(), "the card follows"
        qtbot.keyClick(editor.form.editor("norm").stops()[0], Qt.Key.Key_Escape)
        assert not editor.card.isVisible()

    def test_a_card_asked_for_is_scrolled_to(self, panel: ArchitecturePanel, editor: ArchitectureEditor, qtbot: QtBot) -> None:
        row = editor.form.row("tie_embeddings")
        assert row is not None
        editor.form.explain(row)
        qtbot.waitUntil(lambda: not row.visibleRegion().isEmpty() and not editor.card.visibleRegion().isEmpty(), timeout=5000)

    @pytest.fixture
    def new_norm(self) -> Iterator[str]:
        @NORMS.register("halfnorm", label="Half norm", help="Halves every vector.", source="arXiv:1234.56789", equation="y = x / 2")
        class HalfNorm(nn.Module):
            def __init__(self, width: int, device: Any = None, dtype: Any = None) -> None:
                super().__init__()
                self.weight = nn.Parameter(torch.empty(width, device=device, dtype=dtype))

            def forward(self, x: Any) -> Any:
                return x / 2

        yield "halfnorm"
        NORMS.unregister("halfnorm")

    def test_a_norm_registered_at_run_time_is_in_form_search_help_diagram_and_prices(self, new_norm: str, panel: ArchitecturePanel) -> None:
        made = ArchitectureEditor(panel._services)
        made.setParent(panel)
        pick(made, "norm", new_norm)
        assert made.form.value.norm.kind == new_norm
        made.form.search.setText("half norm")
        assert [n for n, row in made.form.rows.items() if row.isVisibleTo(made.form)] == ["norm"]
        assert made.diagram.spec is not None
        assert made.diagram.spec.norm.title == "Half norm"
        assert {r.label: r.now for r in made.rows}["Norms"] == 61 * 576
        row = made.form.row("norm")
        assert row is not None
        made.form.explain(row)
        assert "arxiv.org/abs/1234.56789" in made.card.body.text()
        assert "y = x / 2" in made.card.body.text()


class TestRoom:
    def test_diagram_and_settings_take_turns_where_there_is_little_room(
        self, panel: ArchitecturePanel, editor: ArchitectureEditor, qtbot: QtBot
    ) -> None:
        panel.resize(344, 900)
        qtbot.waitUntil(lambda: editor.split.split)
        assert editor.diagram.isVisible()
        assert editor.scroll.isVisible()
        panel.resize(344, 400)
        qtbot.waitUntil(lambda: not editor.split.split)
        assert not editor.diagram.isVisible()
        editor.split.choose.buttons()[0].click()
        assert editor.diagram.isVisible()
        assert not editor.scroll.isVisible()

    def test_a_toggle_moves_nothing_outside_the_panel(
        self, panel: ArchitecturePanel, editor: ArchitectureEditor, services: Services
    ) -> None:
        loaded(services, PRESETS["tiny-llama"].config)
        before = panel.minimumSizeHint().height()
        editor.actions_bar.allow_build(True)
        pick(editor, "position", "learned")
        QApplication.processEvents()
        assert panel.minimumSizeHint().height() <= 620
        assert panel.minimumSizeHint().height() - before < 120, "a verdict and a line of buttons"


def test_everything_that_takes_the_focus_has_a_name(editor: ArchitectureEditor, services: Services, qtbot: QtBot) -> None:
    from ui.architecture.compare import CompareView

    row = editor.form.row("norm")
    assert row is not None
    editor.form.explain(row)
    compare = CompareView(services)
    qtbot.addWidget(compare)
    seen = 0
    for host in (editor, compare):
        for kind in (QAbstractButton, QLineEdit, QAbstractSpinBox, QComboBox, QAbstractItemView):
            for widget in host.findChildren(kind):
                inner = widget.objectName().startswith("qt_") or isinstance(widget.parentWidget(), (QAbstractSpinBox, QComboBox))
                popup = widget.window() is not host.window()
                if widget.focusPolicy() != Qt.FocusPolicy.NoFocus and not inner and not popup:
                    seen += 1
                    assert QAccessible.queryAccessibleInterface(widget).text(QAccessible.Text.Name), widget
    assert seen > 60


class TestPresets:
    def test_a_preset_is_shown_and_compared_with_what_is_loaded(self, editor: ArchitectureEditor, services: Services) -> None:
        loaded(services, PRESETS["smollm2-135m"].config)
        editor.show_preset("gpt2")
        assert editor.title.full_text == "GPT-2 (124M) · not loaded"
        rows = {row.label: row for row in editor.rows}
        assert (rows["All parameters"].before, rows["All parameters"].now) == (134_515_008, 124_439_808)
        assert (rows["Position embedding"].before, rows["Position embedding"].now) == (0, 786_432)
        assert not editor.table.isColumnHidden(1)

    def test_it_can_be_compared_with_another_preset(self, editor: ArchitectureEditor) -> None:
        editor.compare_with("gpt2")
        assert editor.table.prices.headerData(1, Qt.Orientation.Horizontal) == "GPT-2 (124M)"
        assert editor.reset_button.isEnabled()
        editor.reset()
        assert editor.table.isColumnHidden(1)

    def test_all_presets_are_offered_by_lineage(self, editor: ArchitectureEditor) -> None:
        menus = [a.menu() for a in editor.presets_menu.actions() if a.menu() is not None]
        texts = {a.text().partition("\t")[0]: menu.title() for menu in menus for a in menu.actions()}
        assert {p.label: p.family for p in PRESETS.values()}.items() <= texts.items()

    def test_a_preset_is_chosen_from_the_menu(self, editor: ArchitectureEditor) -> None:
        family = PRESETS["bert-base"].family
        menu = next(a.menu() for a in editor.presets_menu.actions() if a.text() == family)
        next(a for a in menu.actions() if a.text().startswith(PRESETS["bert-base"].label)).trigger()
        assert editor.form.value == PRESETS["bert-base"].config


class TestRuntime:
    def test_the_cache_switch_is_shared(self, editor: ArchitectureEditor, services: Services) -> None:
        heard: list[Any] = []
        services.runtime.changed.connect(heard.append)
        box = editor.cache.editor("use_cache")
        box.set_value(False)
        box.edited.emit()
        assert [c.use_cache for c in heard] == [False]
        services.runtime.set_use_cache(True)  # the chat's own switch
        assert editor.cache.value.use_cache
        services.runtime.set_use_cache(True)
        assert len(heard) == 2


class TestPrices:
    def test_the_figures_are_those_of_the_facts(self) -> None:
        rows = {r.label: r for r in price_rows(account(PRESETS["smollm2-135m"].config), None, None)}
        assert rows["All parameters"].now == 134_515_008
        assert rows["Weights float32"].now == 538_060_032
        assert rows["KV per token"].now == 2 * 30 * 3 * 64 * 4
        assert rows["KV at 8,192 bf16"].now == 2 * 30 * 3 * 64 * 2 * 8192
        assert rows["All parameters"].difference_text() == "–"

    def test_another_context_is_priced(self, editor: ArchitectureEditor) -> None:
        editor.view._take({"context": 1000})
        assert {r.label: r.now for r in editor.rows}["KV at 1,000"] == 46_080_000

    def test_parts_of_both_sides_add_up(self) -> None:
        now, before = account(PRESETS["gpt2"].config), account(replace(PRESETS["smollm2-135m"].config, tie_embeddings=False))
        rows = price_rows(now, before, None)
        parts = [r for r in rows if r.unit == "parameters" and not r.total]
        assert sum(r.now for r in parts) == now.parameters
        assert sum(r.before or 0 for r in parts) == before.parameters
        assert {"Output head", "Position embedding"} <= {r.label for r in parts}

    def test_tying_is_said_both_ways(self) -> None:
        config = PRESETS["gpt2"].config
        assert tying_text(account(config)) == "Tying embedding and head saves 38.6 M parameters (154 MB in float32)."
        assert "would save" in tying_text(account(replace(config, tie_embeddings=False)))

    def test_the_table_is_a_sound_model(self, qtmodeltester: ModelTester, editor: ArchitectureEditor) -> None:
        model = editor.table.prices
        assert isinstance(model, PriceModel)
        qtmodeltester.check(model)

    def test_the_table_needs_no_scrolling_and_fits_a_narrow_dock(self, editor: ArchitectureEditor, panel: ArchitecturePanel) -> None:
        pick(editor, "tie_embeddings", False)
        QApplication.processEvents()
        table = editor.table
        last = table.visualRect(table.prices.index(table.prices.rowCount() - 1, 3))
        assert last.bottom() <= table.viewport().height()
        assert table.columnWidth(0) > 70
        assert sum(table.columnWidth(n) for n in range(4)) <= table.viewport().width()

    def test_it_is_copied_exactly(self, editor: ArchitectureEditor) -> None:
        assert "All parameters\tparameters\t\t134515008" in editor.table.as_text()


class TestPicker:
    @pytest.fixture
    def models(self, panel: ArchitecturePanel, services: Services) -> Path:
        folder = services.models.library.models_folder
        folder.mkdir(parents=True)
        for name in ("mine.gguf", "broken.gguf"):
            (folder / name).write_bytes(b"GGUF" * 100)
        panel.picker.refresh()
        return folder

    def _choose(self, panel: ArchitecturePanel, path: Path) -> None:
        combo = panel.picker.combo
        at = next(n for n in range(combo.count()) if combo.itemData(n) == path)
        combo.setCurrentIndex(at)
        combo.activated.emit(at)

    def _idle(self, services: Services, qtbot: QtBot) -> None:
        qtbot.waitUntil(lambda: not services.models.activity.busy and not services.jobs.jobs, timeout=5000)

    def test_it_lists_what_is_here_with_size_and_fit(self, panel: ArchitecturePanel, models: Path) -> None:
        texts = [panel.picker.combo.itemText(n) for n in range(panel.picker.combo.count())]
        assert texts == ["broken  ·  400 B  ·  fits", "mine  ·  400 B  ·  fits"]
        assert "estimated" in panel.picker.combo.itemData(0, Qt.ItemDataRole.ToolTipRole)
        assert panel.picker.combo.currentIndex() == -1

    def test_a_choice_loads_and_the_architecture_follows(
        self, panel: ArchitecturePanel, models: Path, services: Services, qtbot: QtBot
    ) -> None:
        with qtbot.waitSignal(services.bus.model_changed, timeout=5000):
            self._choose(panel, models / "mine.gguf")
        self._idle(services, qtbot)
        assert panel.picker.combo.currentData() == models / "mine.gguf"
        assert panel.editor is not None
        assert panel.editor.shown.config == PRESETS["tiny-llama"].config
        assert not panel.picker.starter_button.isVisible()
        assert panel.picker.words.text() == "3.3 MB as float32 · context 256"

    def test_a_broken_file_leaves_the_picker_on_the_model_in_use(
        self, panel: ArchitecturePanel, models: Path, services: Services, qtbot: QtBot
    ) -> None:
        messages: list[Any] = []
        services.notify.posted.connect(messages.append)
        self._choose(panel, models / "mine.gguf")
        self._idle(services, qtbot)
        self._choose(panel, models / "broken.gguf")
        qtbot.waitUntil(lambda: len(messages) == 1, timeout=5000)
        self._idle(services, qtbot)
        assert "broken.gguf is cut off." in messages[0].text
        assert panel.picker.combo.currentData() == models / "mine.gguf"
        assert panel.picker.combo.isEnabled()
        assert not panel.picker.progress.isVisible()

    def test_progress_is_shown_in_place_and_can_be_stopped(
        self, panel: ArchitecturePanel, services: Services, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fetch(name: str, control: Control) -> Generator[Progress, None, Path]:
            assert name == STARTER
            yield Progress(message="Downloading SmolLM2", done=30e6, total=90e6, unit="B")
            while not control.stopping:
                control._stop.wait(0.005)
            raise FileError("The download was stopped.")

        monkeypatch.setattr(services.models.library, "fetch", fetch)
        qtbot.mouseClick(panel.picker.starter_button, Qt.MouseButton.LeftButton)
        qtbot.waitUntil(lambda: "30.0 MB of 90.0 MB" in panel.picker.message.full_text)
        assert panel.picker.progress.isVisible()
        assert panel.picker.bar.value() == pytest.approx(333, abs=1)
        assert not panel.picker.starter_button.isVisible()
        qtbot.mouseClick(panel.picker.cancel_button, Qt.MouseButton.LeftButton)
        self._idle(services, qtbot)
        assert panel.picker.starter_button.isVisible()

    def test_ctrl_l_goes_to_the_picker(self, panel: ArchitecturePanel, services: Services, qtbot: QtBot) -> None:
        panel.activateWindow()
        with qtbot.waitSignal(services.bus.show_panel) as asked:
            services.actions["model.pick"].trigger()
        assert asked.args == ["architecture"]
        assert panel.focusWidget() is panel.picker.combo

    def test_the_starter_has_its_own_name(self, panel: ArchitecturePanel, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
        library = services.models.library
        path = library.path_of(CATALOGUE[STARTER])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(CATALOGUE[STARTER].bytes)  # sparse: takes no room
        panel.picker.refresh()
        assert panel.picker.combo.itemText(0).startswith("SmolLM2-135M-Instruct  ·  98.4 MB")
        assert panel.picker.combo.itemData(0) == STARTER
        assert panel.picker.starter_button.text() == "Load the starter model"
