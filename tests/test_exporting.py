"""Exporting a loaded model: as it chats now, in every format, by the session and by the verb; its own model stays as it is."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.__main__ import main
from workbench.adapters import LoraConfig, adapter_names, attach, disabled, trainable_parameters
from workbench.adapters.peft import save_adapter
from workbench.checkpoints import FORMATS, load_checkpoint, save_checkpoint
from workbench.checkpoints.formats import savable
from workbench.core.control import Control
from workbench.core.errors import FileError, ModelError, WorkbenchError
from workbench.exporting import TYPES, ExportConfig
from workbench.model import ModelConfig, Transformer, build_model
from workbench.session import Session
from workbench.tokenizers import CHATML, ByteTokenizer

IDS = torch.tensor([[104, 101, 256, 7, 30]])


def drain(events: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    seen = []
    while True:
        try:
            seen.append(next(events))
        except StopIteration as end:
            return seen, end.value


def tiny(**changes: Any) -> Transformer:
    sizes: dict[str, Any] = dict(vocab_size=259, n_layers=2, d_model=32, n_heads=4, d_ff=64, max_positions=64)
    return build_model(ModelConfig(**{**sizes, **changes}), seed=2)


def logits(model: Transformer) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS)


def place_of(format: str, folder: Path) -> Path:
    return folder / f"out{FORMATS[format].make().suffix}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(tiny(), ByteTokenizer(), CHATML, path)
    return path


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that moves the logits."""
    model = tiny()
    attach(model, LoraConfig(r=2, target_modules="all-linear"), name="a")
    with torch.no_grad():
        for parameter in trainable_parameters(model, "a").values():
            parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(1))
    path = tmp_path_factory.mktemp("adapter") / "a"
    save_adapter(model, "a", path, "llama")
    return path


@pytest.fixture
def session(home: Path, folder: Path) -> Session:
    session = Session(home, device="cpu", dtype="float32", threads=1)
    drain(session.load(folder))
    return session


@pytest.mark.parametrize("format", savable())
def test_the_model_is_exported_in_every_format(session: Session, tmp_path: Path, format: str) -> None:
    events, report = drain(session.export(place_of(format, tmp_path), format))
    assert (report.format, report.exact, report.max_abs_logit_difference) == (format, True, 0)
    assert {"phase", "progress"} <= {e.name for e in events}
    again = load_checkpoint(report.path)
    assert torch.equal(logits(again.model), logits(session.loaded.model))
    if format != "hf":  # tokenizer.json cannot hold a tokenizer of bytes
        assert isinstance(again.tokenizer, ByteTokenizer)
        assert again.chat_template == CHATML


@pytest.mark.parametrize("format", savable())
def test_the_adapter_in_force_is_added_into_the_weights(session: Session, adapter: Path, tmp_path: Path, format: str) -> None:
    plain = logits(session.loaded.model)
    session.use_adapter(adapter, 0.5)
    _, report = drain(session.export(place_of(format, tmp_path), format))
    merged = logits(load_checkpoint(report.path).model)
    _, wanted = drain(session.merge(adapter, 0.5, tmp_path / "merged", "workbench"))
    assert torch.equal(merged, logits(load_checkpoint(wanted.path).model))
    assert (merged - plain).abs().max() > 0.05
    assert session.adapter is not None
    with disabled(session.loaded.model):
        assert torch.equal(logits(session.loaded.model), plain), "the session's own model is as it was"


def test_an_adapter_that_a_run_attached_is_left_out_without_copying_weights(session: Session, tmp_path: Path) -> None:
    model = session.loaded.model
    plain = logits(model)
    attach(model, LoraConfig(r=2, target_modules=("q_proj",)), name="run")
    _, report = drain(session.export(tmp_path / "out", "workbench"))
    assert torch.equal(logits(load_checkpoint(report.path).model), plain)
    assert adapter_names(model) == ("run",)


def test_a_type_and_what_is_there(session: Session, tmp_path: Path) -> None:
    place = tmp_path / "m.gguf"
    _, report = drain(session.export(place, "gguf", "q8_0"))
    assert (report.type, report.exact) == ("q8_0", False)
    assert 0 < report.max_abs_logit_difference < 0.1
    with pytest.raises(FileError, match="holds a checkpoint already"):
        drain(session.export(place, "gguf"))
    assert drain(session.export(place, "gguf", overwrite=True))[1].exact
    with pytest.raises(ModelError, match="cannot store weights as 'q8_0'"):
        drain(session.export(tmp_path / "out", "hf", "q8_0"))


def test_the_kind_of_model_that_the_files_named_is_kept(home: Path, tmp_path: Path) -> None:
    """A Mistral without a window could be called LLaMA too."""
    save_checkpoint(tiny(), None, None, tmp_path / "mistral", format="hf", family="mistral")
    session = Session(home, device="cpu", dtype="float32", threads=1)
    drain(session.load(tmp_path / "mistral"))
    assert drain(session.export(tmp_path / "out", "hf"))[1].family == "mistral"
    assert drain(session.export(tmp_path / "out.gguf", "gguf"))[1].family == "llama"


def test_a_stop_writes_nothing(session: Session, tmp_path: Path) -> None:
    control = Control()
    control.stop()
    assert drain(session.export(tmp_path / "out.gguf", "gguf", control=control))[1] is None
    assert not any(p.name.startswith((".", "out")) for p in tmp_path.iterdir())


def test_without_a_model_there_is_nothing_to_export(home: Path, tmp_path: Path) -> None:
    with pytest.raises(WorkbenchError, match="No model is loaded"):
        drain(Session(home, device="cpu", dtype="float32", threads=1).export(tmp_path / "out"))


# ---- the verb ----------------------------------------------------------------------------------------------------


def test_the_verb_reports_what_it_wrote(
    folder: Path, adapter: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.gguf"
    arguments = ["export", str(folder), "--format", "gguf", "--out", str(out), "--threads", "1", "--dtype", "float32"]
    assert main([*arguments, "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["path"], last["max_abs_logit_difference"]) == (str(out), 0)
    assert (last["report"]["family"], last["report"]["type"], last["report"]["exact"]) == ("llama", "f32", True)
    assert main(arguments) == 1
    assert "holds a checkpoint already" in capsys.readouterr().err
    assert main([*arguments, "--overwrite", "--type", "q8_0", "--adapter", f"{adapter}:0.5"]) == 0
    said = capsys.readouterr().out
    assert "every weight reads back as itself rounded to q8_0" in said
    assert (load_checkpoint(out).model.blocks[0].attention.q_proj.weight - tiny().blocks[0].attention.q_proj.weight).abs().max() > 0.01


@pytest.mark.parametrize(("changes", "says"), [(["--format", "onnx"], "onnx"), (["--type", "q2_k"], "q2_k")])
def test_the_verb_refuses_what_is_not_known(
    folder: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], says: str
) -> None:
    arguments = ["export", str(folder), "--format", "hf", "--out", str(tmp_path / "out"), "--threads", "1"]
    assert main([*arguments, *changes]) in (1, 2)
    error = capsys.readouterr().err
    assert says in error
    assert "hf" in error or "bf16" in error
    assert not any(p.name.startswith((".", "out")) for p in tmp_path.iterdir())


# ---- before it is written ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", savable())
def test_a_plan_says_what_the_export_then_writes(session: Session, tmp_path: Path, format: str) -> None:
    plan = session.plan_export(ExportConfig(format=format, type="bf16"))
    _, report = drain(session.export(place_of(format, tmp_path), format, "bf16"))
    assert (plan.format, plan.family, plan.type, plan.nbytes, plan.notices) == (
        report.format, report.family, report.type, report.nbytes, report.notices,
    )  # fmt: skip
    assert plan.suffix == (".gguf" if format == "gguf" else "")


def test_a_plan_names_what_the_format_cannot_hold(home: Path, tmp_path: Path) -> None:
    save_checkpoint(tiny(position="alibi"), None, None, tmp_path / "alibi")
    session = Session(home, device="cpu", dtype="float32", threads=1)
    drain(session.load(tmp_path / "alibi"))
    with pytest.raises(ModelError, match="cannot express this model's position = alibi"):
        session.plan_export(ExportConfig(format="gguf"))
    assert session.plan_export(ExportConfig(format="workbench")).family == "workbench"


def test_every_type_of_every_format_is_offered_and_no_other_accepted() -> None:
    offered = {option.name for option in TYPES}
    assert offered == {type for name in savable() for type in FORMATS[name].make().types}
    for name in savable():
        for type in (None, *offered):
            problems = ExportConfig(format=name, type=type).problems()
            assert [p.field for p in problems] == ([] if type is None or type in FORMATS[name].make().types else ["type"])
    (problem,) = ExportConfig(format="hf", type="q8_0").problems()
    assert problem.message == "Hugging Face folder cannot store numbers as q8_0."
    assert [p.field for p in ExportConfig(format="onnx").problems()] == ["format"]
