"""Texts and numbers that the fine-tune panel derives: scales, counts, reports, samples, remembered settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from ui.finetune import remembered
from ui.finetune.check import Priced
from ui.finetune.method_part import MethodPart, comparison, counts_words, length_words, scale_words
from ui.finetune.remembered import Remembered
from ui.finetune.report_view import all_problems, figures, problem_lines
from ui.finetune.result_card import run_folder
from ui.finetune.samples import sample_html, sample_words
from ui.finetune.targets import CUSTOM, TargetsEditor
from ui.theme import LIGHT
from ui.training.data_part import help_of, label_of
from ui.training.run_track import RunTrack
from ui.widgets.text import breakable, decimal
from workbench.adapters import LoraConfig
from workbench.adapters.counts import trainable_counts
from workbench.core.errors import ConfigError
from workbench.core.events import Phase, Progress
from workbench.core.fields import info_of
from workbench.data import DataConfig, DataReport, RowProblem, Sample, Segment
from workbench.model import ModelConfig, account, build_model
from workbench.requests import FinetuneRequest
from workbench.training import TrainConfig

SMALL = ModelConfig(vocab_size=64, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, d_ff=48, max_positions=16, mlp="swiglu")


# ---- method and numbers ------------------------------------------------------------------------------------------


def test_both_methods_are_compared_at_the_same_rank() -> None:
    lora = LoraConfig(method="rslora", r=16, lora_alpha=32)
    assert scale_words(lora) == "scale α/√r = 8.0"
    assert scale_words(replace(lora, method="lora")) == "scale α/r = 2.0"
    words = comparison(lora).replace("\N{NO-BREAK SPACE}", " ")
    assert words == "With r = 16 and α = 32:\nLoRA α/r = 2.0 · RsLoRA α/√r = 8.0"


@pytest.mark.parametrize(("value", "text"), [(8.0, "8.0"), (0.125, "0.125"), (2**0.5, "1.41"), (1e-5, "1e-05")])
def test_scales_are_written_as_decimals(value: float, text: str) -> None:
    assert decimal(value) == text


@pytest.mark.parametrize("targets", [("all-linear",), ("attention",), ("mlp",), ("q_proj", "blocks.1.mlp.*"), ("o_proj",)])
def test_counts_without_a_model_are_the_engines(targets: tuple[str, ...]) -> None:
    lora = LoraConfig(r=4, target_modules=targets)
    assert Priced.of(account(SMALL)).trainable(lora) == trainable_counts(build_model(SMALL, device="meta", init=False), lora)


def test_a_pattern_without_a_layer_is_an_error_that_names_it() -> None:
    with pytest.raises(ConfigError, match="banana") as error:
        Priced.of(account(SMALL)).trainable(LoraConfig(target_modules=("banana",)))
    assert "q_proj" in error.value.hint


def test_counts_are_given_in_both_conventions() -> None:
    counts = SimpleNamespace(trainable=4_884_480, percent_of_base=3.6312, percent_of_all=3.504)
    words = counts_words(counts).replace("\N{NO-BREAK SPACE}", " ")  # type: ignore[arg-type]
    assert words.startswith("4,884,480 parameters are trained: 3.63 % of the model, or 3.50 % as PEFT counts")


def test_the_length_is_told_in_passes() -> None:
    train = TrainConfig(max_steps=60)
    assert length_words(train, 0, 0.05) == "60 × 4 = 240 sequences."
    assert length_words(train, 200, 0.0) == "60 × 4 = 240 sequences, 1.2 passes over the data."
    assert length_words(replace(train, max_steps=None), 200, 0.0) == "3 passes over the data, about 150 steps, 4 sequences per step."


def test_epochs_are_asked_for_only_without_a_number_of_steps(qtbot: QtBot) -> None:
    part = MethodPart(LoraConfig(), TrainConfig(), DataConfig())
    qtbot.addWidget(part)
    assert part.run.rows["num_train_epochs"].isHidden()
    part.run.editor("max_steps").by_hand.click()  # type: ignore[attr-defined]
    assert not part.run.rows["num_train_epochs"].isHidden()
    assert part.train.max_steps is None


def test_the_scale_follows_the_numbers_at_once(qtbot: QtBot) -> None:
    part = MethodPart(LoraConfig(), TrainConfig(), DataConfig())
    qtbot.addWidget(part)
    part.set_priced(Priced.of(account(SMALL)), 100)
    before = part.counts.text()
    with qtbot.waitSignal(part.changed, timeout=1000):
        part.adapter.editor("r").box.stepBy(1)  # type: ignore[attr-defined]
    assert part.scale.text() == "scale α/r = 1.0"
    assert part.counts.text() != before


def test_every_setting_is_in_one_place(qtbot: QtBot) -> None:
    part = MethodPart(LoraConfig(), TrainConfig(), DataConfig())
    qtbot.addWidget(part)
    shown = [name for form in part.forms for name in form.rows]
    everything = {*LoraConfig.__dataclass_fields__, *TrainConfig.__dataclass_fields__, *DataConfig.__dataclass_fields__}
    assert len(shown) == len(set(shown))
    assert {*shown, part.targets.name, part.look.row.name} == everything - {"sources"}


def test_layers_by_preset_or_by_name(qtbot: QtBot) -> None:
    editor = TargetsEditor(info_of(LoraConfig, "target_modules"))
    qtbot.addWidget(editor)
    editor.set_value(("all-linear",))
    assert editor.names.isHidden()
    editor.combo.setCurrentIndex(editor.combo.findData(CUSTOM))
    editor.combo.activated.emit(editor.combo.currentIndex())
    assert not editor.names.isHidden()
    assert editor.value() == ("all-linear",)  # until something else is typed
    editor.names.line.setText("q_proj, blocks.3.*")
    editor.commit()
    assert editor.value() == ("q_proj", "blocks.3.*")
    editor.set_value(("mlp",))
    assert editor.combo.currentText() == "MLP only"


# ---- the report --------------------------------------------------------------------------------------------------

REPORT = DataReport(
    rows=20, kept=12, dropped=8, truncated=1, sequences=12, tokens=1000, trained_tokens=500, longest=90, duplicates=2,
    problems=(*(RowProblem("a.jsonl", n, "No reply.", "Add one.") for n in range(1, 8)), RowProblem("a.jsonl", 9, "Not JSON.")),
    reasons=(("No reply.", 7), ("Not JSON.", 1)),
)  # fmt: skip


def test_rows_are_gathered_by_reason() -> None:
    assert problem_lines(REPORT) == "Rows 1, 2, 3, 4 and 3 more: No reply.\nRow 9: Not JSON."
    assert all_problems(REPORT).startswith("7 × No reply.")
    assert figures(REPORT) == "12 rows kept · 8 left out · 1 cut · 2 twice\n500 of 1,000 tokens learnt (50 %)\nLongest sequence: 90 tokens"


def test_a_file_is_named_when_there_are_several() -> None:
    report = replace(REPORT, problems=(RowProblem("a.txt", 0, "It is empty."), RowProblem("b.jsonl", 2, "No reply.")))
    assert problem_lines(report) == "a.txt: It is empty.\nb.jsonl, row 2: No reply."


def test_samples_tell_what_is_learnt_without_colour() -> None:
    segments = (Segment("<|user|>", False, True), Segment("a < b?", False), Segment("yes\nno", True), Segment("\n", False))
    sample = Sample("a.jsonl", 4, segments, 12, 5, cut=True)
    html = sample_html(sample, LIGHT)
    assert "a &lt; b?" in html
    assert f'<span style="background-color:{LIGHT.trained}; text-decoration:underline;">yes↵<br>no</span>' in html
    assert "⟨user⟩" in html
    assert "(goes on)" in html
    assert sample_words(sample) == "Row 4 of a.jsonl, 12 tokens. Learnt: yes\nno"
    assert "(goes on)" in sample_html(replace(sample, cut=False), LIGHT, letters=5)


def test_data_are_called_by_what_people_know() -> None:
    assert label_of(("sample-chat",)) == "Architecture Q&A"
    assert label_of(("/data/mine.jsonl",)) == "mine.jsonl"
    assert label_of(("/data/a.txt", "/data/b.txt")) == "2 files: a.txt, b.txt"
    assert help_of(("/data/mine.jsonl",)) == str(Path("/data"))


# ---- the run -----------------------------------------------------------------------------------------------------


def test_before_the_first_step_it_says_what_is_done() -> None:
    track = RunTrack()
    track.follow([Progress(message="Reading data", done=1200, total=3000, unit="rows")])
    assert track.place() == "Reading data 1,200 of 3,000 rows"
    track.follow([Phase(word="Training")])
    assert (track.place(), track.left(), track.figures(), track.outcome()) == ("", "", "", "")


@pytest.mark.parametrize("inside", ["adapter", "checkpoint-000020", "checkpoint-000020/adapter", "."])
def test_the_runs_folder_is_found_from_anything_in_it(inside: str) -> None:
    assert run_folder(Path("runs/r1") / inside) == Path("runs/r1")


def test_long_paths_may_be_broken_and_words_not() -> None:
    assert breakable("Check the path.") == "Check the path."
    assert breakable("/data/someone/models/with_a_long/name.jsonl is bad").count("\N{ZERO WIDTH SPACE}") == 8


# ---- memory ------------------------------------------------------------------------------------------------------


def test_settings_survive_a_round_trip(tmp_path: Path) -> None:
    lora, train = LoraConfig(r=64, target_modules=("mlp",)), TrainConfig(max_steps=None)
    request = FinetuneRequest(data=DataConfig(sources=("a.txt", "b.txt"), max_rows=9), lora=lora, train=train)
    kept = Remembered(request).used(("x.txt",)).used(("a.txt", "b.txt")).used(("x.txt",))
    remembered.save(tmp_path / "f.json", kept)
    assert remembered.load(tmp_path / "f.json") == kept
    assert kept.recent == (("x.txt",), ("a.txt", "b.txt"))


_HEAD = '{"kind": "workbench fine-tune settings", "version": 1'


@pytest.mark.parametrize("text", ["", "{", '{"kind": "other", "version": 1}', _HEAD + ', "lora": 3}', _HEAD + ', "recent": 5}'])
def test_a_damaged_file_costs_the_settings_not_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "f.json"
    path.write_text(text)
    assert remembered.load(path) == Remembered(FinetuneRequest(data=DataConfig()))


def test_settings_of_another_age_fall_back_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(
        '{"kind": "workbench fine-tune settings", "version": 1, "recent": [["a.txt"], []], "data": {"gone": 1},'
        ' "lora": {"r": -4, "lora_alpha": 8, "method": "nonsense"}, "train": {"max_steps": 7, "learning_rate": "fast"}}'
    )
    found = remembered.load(path)
    assert found.request.lora == LoraConfig(lora_alpha=8.0)
    assert found.request.train == TrainConfig(max_steps=7)
    assert found.recent == (("a.txt",),)


# ---- look --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [320, 380])
def test_nothing_is_wider_than_the_dock(width: int, qtbot: QtBot) -> None:
    part = MethodPart(LoraConfig(), TrainConfig(), DataConfig())
    qtbot.addWidget(part)
    part.advanced.set_expanded(True)
    part.resize(width - 24, part.heightForWidth(width - 24))
    with qtbot.waitExposed(part):
        part.show()
    assert part.minimumSizeHint().width() <= width - 24
    wide = [w for w in part.findChildren(QWidget) if w.isVisible() and w.mapTo(part, QPoint(w.width(), 0)).x() > width - 24]
    assert wide == []


def test_the_layers_have_a_name_for_everyone(qtbot: QtBot) -> None:
    part = MethodPart(LoraConfig(), TrainConfig(), DataConfig())
    qtbot.addWidget(part)
    names = [w.accessibleName() for w in part.targets.editor.stops()]
    assert names == ["Layers", "Layers by name"]
