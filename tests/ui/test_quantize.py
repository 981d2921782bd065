"""The Quantize page on a real session with a tiny model: the plan, the tree, what the buttons do; and its words without Qt."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from ui.panels.quantize import NORMS, QuantizePanel
from ui.quantizing.choice import command, groups, patterns, with_chosen
from ui.quantizing.tree import AFTER, ERROR, MODULE
from ui.quantizing.weights import WeightsPage
from ui.services import Services
from workbench.checkpoints import save_checkpoint
from workbench.commands.quantize_flags import quantization_config, quantize_flags
from workbench.core.format import bytes_text
from workbench.model import ModelConfig, build_model
from workbench.quantization import SCHEMES, SKIPPED, QuantizationConfig, plan
from workbench.session import Session
from workbench.tokenizers import CHATML, ByteTokenizer

SIZES = {"n_layers": 3, "d_model": 32, "n_heads": 4, "d_ff": 64, "max_positions": 128, "norm": "rmsnorm", "mlp": "swiglu"}
CONFIG = ModelConfig(vocab_size=ByteTokenizer().vocab_size, **SIZES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(build_model(CONFIG, seed=1), ByteTokenizer(), CHATML, path)
    return path


@pytest.fixture
def session(home: Path, folder: Path, services: Services) -> Session:
    made = Session(home, device="cpu", dtype="float32", threads=1)
    for _ in made.load(folder):
        pass
    services.session = made
    return made


@pytest.fixture
def page(qtbot: QtBot, services: Services, session: Session) -> WeightsPage:
    made = WeightsPage(services)
    qtbot.addWidget(made)
    made.resize(800, 600)
    made.show()
    return made


def click(page: WeightsPage, qtbot: QtBot, what: Callable[[], None]) -> None:
    what()
    qtbot.waitUntil(lambda: not page.running, timeout=60_000)


def check(page: WeightsPage, qtbot: QtBot, name: str, checked: bool) -> None:
    with qtbot.waitSignal(page.tree.chosen_changed):
        page.tree._items[name].setCheckState(MODULE, Qt.CheckState.Checked if checked else Qt.CheckState.Unchecked)


# ---- patterns, without Qt --------------------------------------------------------------------------------------------


def test_modules_of_a_block_are_one_group() -> None:
    found = groups([row.name for row in plan(build_model(CONFIG, device="meta"), QuantizationConfig()).rows])
    assert [g.label for g in found if g.label] == ["Block 0", "Block 1", "Block 2"]
    assert "mlp.up_proj" in [leaf.label for leaf in found[1].leaves]


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        (lambda n: "norm" in n or n == "lm_head", SKIPPED[::2]),
        (lambda n: "norm" in n or n == "lm_head" or n.startswith("blocks.1."), (*SKIPPED[::2], "blocks.1.*")),
        (lambda n: n.endswith("mlp.down_proj"), ("blocks.*.mlp.down_proj",)),
        (lambda n: n == "blocks.2.attention.q_proj", ("blocks.2.attention.q_proj",)),
        (lambda n: n == "final_norm", ("final_norm",)),
        (lambda n: False, ()),
    ],
)
def test_check_marks_become_few_patterns_and_back(without: Callable[[str], bool], expected: tuple[str, ...]) -> None:
    model = build_model(CONFIG, device="meta")
    rows = plan(model, QuantizationConfig(skip=())).rows
    chosen = {row.name for row in rows if not without(row.name)}
    config = with_chosen(QuantizationConfig(), rows, chosen)
    assert config.skip == expected
    assert {row.name for row in plan(model, config).chosen} == chosen


def test_no_pattern_takes_what_should_stay() -> None:
    assert patterns(["blocks.0.a", "blocks.1.b"], ["blocks.0.b", "blocks.1.a"]) == ("blocks.0.a", "blocks.1.b")


@pytest.mark.parametrize(
    "config",
    [
        QuantizationConfig(),
        QuantizationConfig(scheme=SCHEMES.choose("int8", {"group_size": 32}), skip=()),
        QuantizationConfig(scheme="int4", skip=("*norm*", "blocks.0.*")),
    ],
)
def test_the_command_line_means_the_same(config: QuantizationConfig) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    quantize_flags(parser)
    words = shlex.split(command("my model", config))
    assert words[:5] == ["python", "-m", "workbench", "generate", "my model"]
    assert quantization_config(parser.parse_args(words[7:])) == config


# ---- the page --------------------------------------------------------------------------------------------------------


def test_without_a_model_it_says_what_to_do(qtbot: QtBot, services: Services, home: Path) -> None:
    services.session = Session(home, device="cpu", dtype="float32", threads=1)
    page = WeightsPage(services)
    qtbot.addWidget(page)
    page.show()
    assert page.empty.isVisible()
    assert not page.tree.isVisible()
    assert page.quantize_button.text() == "Load a model first"
    assert not page.quantize_button.isEnabled()


def test_the_plan_follows_the_settings(page: WeightsPage, qtbot: QtBot) -> None:
    before = page.saving.text()
    assert "Not done yet" in page.told.text()
    page.form.set_value(QuantizationConfig(scheme="int4"))
    page.form.changed.emit(page.form.value)
    assert page.saving.text() != before
    assert "--quantize int4" in page.command.text()
    check(page, qtbot, "blocks.0.mlp.up_proj", False)
    assert "blocks.0.mlp.up_proj" in page.config.skip
    assert page.usual_button.isEnabled()
    page.usual_button.click()
    assert page.config == QuantizationConfig(scheme="int4")


def test_quantized_with_one_click_and_back_with_another(page: WeightsPage, qtbot: QtBot, session: Session, services: Services) -> None:
    told: list[object] = []
    services.bus.model_changed.connect(told.append)
    before = session.model
    click(page, qtbot, page.quantize_button.click)
    assert session.quantization is not None
    assert session.model is not None
    assert before is not None
    assert told == [session.model]
    row = next(row for row in session.quantization.rows if row.name == "blocks.1.mlp.up_proj")
    item = page.tree._items[row.name]
    assert item.text(AFTER) == bytes_text(row.bytes_after)
    assert item.text(ERROR) == f"{row.error:.2%}"
    assert bytes_text(session.model.parameter_bytes) in page.saving.text()
    assert "measured" in page.told.text()
    assert page.quantize_button.text() == "Quantized"
    assert not page.quantize_button.isEnabled()
    click(page, qtbot, page.back_button.click)
    assert session.model == before
    assert page.tree._items[row.name].text(ERROR) == ""
    assert not page.back_button.isEnabled()


def test_one_module_is_put_back_with_one_click(page: WeightsPage, qtbot: QtBot, session: Session) -> None:
    click(page, qtbot, page.quantize_button.click)
    assert not page.put_back_button.isEnabled()
    page.tree._items["blocks.2.attention.o_proj"].setSelected(True)
    assert page.put_back_button.isEnabled()
    click(page, qtbot, page.put_back_button.click)
    assert session.quantization is not None
    kept = {row.name: row.scheme for row in session.quantization.rows}
    assert kept["blocks.2.attention.o_proj"] is None
    assert kept["blocks.1.attention.o_proj"] == "int8"


def test_an_error_is_told_in_the_page(page: WeightsPage, qtbot: QtBot, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    from workbench.core.errors import ModelError

    def refuse(*_: object) -> None:
        raise ModelError("No room for it.", hint="Close other programs.")

    monkeypatch.setattr(session, "quantize", refuse)
    click(page, qtbot, page.quantize_button.click)
    assert page.message.isVisible()
    assert "No room for it." in page.message.title.text()
    assert page.quantize_button.text() == "Quantize"


def test_the_table_can_be_copied(page: WeightsPage, qtbot: QtBot) -> None:
    page.tree.setFocus()
    qtbot.keyClick(page.tree, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    lines = QGuiApplication.clipboard().text().splitlines()
    assert lines[0].split("\t")[1] == "Module"
    assert any(line.startswith("yes\tblocks.0.attention.q_proj\t32 × 32") for line in lines)
    page.copy_button.click()
    assert QGuiApplication.clipboard().text() == page.command.text()


def test_the_panel_holds_both_pages(qtbot: QtBot, services: Services, session: Session) -> None:
    panel = QuantizePanel(services)
    qtbot.addWidget(panel)
    assert panel.weights is None
    panel.show()
    assert panel.weights is not None
    assert panel.norms is None
    panel.show_page(NORMS)
    assert panel.norms is not None
    assert panel.norms.isVisible()
    with qtbot.waitSignal(services.bus.quality_requested):
        panel.weights.quality_wanted.emit()
