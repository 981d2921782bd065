"""Quantizing through the facade: switched while a model is loaded, undone, saved, exported, and trained over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader

from workbench import adapters
from workbench.adapters import LoraConfig
from workbench.checkpoints import load_checkpoint, save_checkpoint
from workbench.core.control import Control
from workbench.core.errors import BusyError, FileError, ModelError
from workbench.data import DataConfig
from workbench.generation import Conversation, GenerationConfig
from workbench.model import ModelConfig, build_model
from workbench.quantization import SCHEMES, QuantizationConfig, dequantized, is_quantized, quantize
from workbench.requests import ChatRequest, FinetuneRequest
from workbench.session import Session
from workbench.tokenizers import CHATML, ByteTokenizer
from workbench.training import TrainConfig

ALL = QuantizationConfig(scheme=SCHEMES.choose("int8"), skip=())
IDS = torch.arange(20)[None] + 60


def drain(events: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    seen = []
    while True:
        try:
            seen.append(next(events))
        except StopIteration as end:
            return seen, end.value


def tiny(**changes: Any) -> ModelConfig:
    sizes = {"vocab_size": ByteTokenizer().vocab_size, "n_layers": 2, "d_model": 64, "n_heads": 4, "n_kv_heads": 2, "d_ff": 96}
    return ModelConfig(**{**sizes, "max_positions": 512, "norm": "rmsnorm", "mlp": "swiglu", **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(build_model(tiny(), seed=2), ByteTokenizer(), CHATML, path)
    return path


@pytest.fixture
def session(home: Path, folder: Path) -> Session:
    session = Session(home, device="cpu", dtype="float32", threads=2)
    drain(session.load(folder))
    return session


def logits(session: Session) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = session.loaded.model(IDS)
    return found


def test_to_few_bits_and_back(session: Session) -> None:
    before, plain = session.model, logits(session)
    assert before is not None
    assert before.quantization == ""
    assert session.quantization is None
    planned = session.plan_quantization(ALL)
    events, report = drain(session.quantize(ALL))
    after = session.model
    assert after is not None
    assert after.quantization == "int8"
    assert after.parameters == before.parameters
    assert after.parameter_bytes == report.bytes_after == planned.bytes_after < before.parameter_bytes / 3.5
    assert before.parameter_bytes == report.bytes_before == planned.bytes_before
    assert session.quantization == report
    assert session.quantization_config == ALL
    assert any("Quantizing" in getattr(event, "message", "") for event in events)
    moved = (logits(session) - plain).abs().max()
    assert 0 < moved < 0.1
    drain(session.quantize(None))
    assert session.model == before
    assert session.quantization is None is session.quantization_config
    torch.testing.assert_close(logits(session), plain, rtol=0, atol=1e-6)


def test_another_scheme_starts_from_full_precision(session: Session) -> None:
    four = QuantizationConfig(scheme=SCHEMES.choose("int4"))
    drain(session.quantize(four))
    wanted = logits(session)
    drain(session.quantize(ALL))
    drain(session.quantize(four))
    torch.testing.assert_close(logits(session), wanted, rtol=0, atol=1e-6)
    assert session.model is not None
    assert session.model.quantization == "int4"


def test_a_stop_or_an_error_leaves_all_as_it_was(session: Session, tmp_path: Path) -> None:
    control = Control()
    control.stop()
    before = session.model
    assert drain(session.quantize(ALL, control))[1] is None
    assert session.model == before
    assert not is_quantized(session.loaded.model)
    reply = session.reply(ChatRequest(conversation=Conversation("").add("user", "hi"), generation=GenerationConfig(max_new_tokens=2)))
    next(reply)
    with pytest.raises(BusyError, match="quantize"):
        drain(session.quantize(ALL))
    reply.close()
    drain(session.quantize(ALL))
    moved = tmp_path / "moved"
    assert session.model is not None
    shutil.copytree(session.model.path, moved)


def test_full_precision_needs_the_file(home: Path, folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    session = Session(home, device="cpu", dtype="float32", threads=2)
    drain(session.load(copy))
    drain(session.quantize(ALL))
    shutil.rmtree(copy)
    with pytest.raises(FileError, match="full precision cannot be read again"):
        drain(session.quantize(None))
    assert session.quantization_config == ALL


def test_a_converted_model_keeps_its_originals(session: Session) -> None:
    drain(session.convert(tiny(tie_embeddings=not session.loaded.config.tie_embeddings)))
    plain = logits(session)
    events, _ = drain(session.quantize(ALL))
    assert any("No file holds this model" in getattr(event, "message", "") for event in events)
    with pytest.raises(ModelError, match="quantized cannot be converted"):
        drain(session.convert(tiny(norm="layernorm")))
    drain(session.quantize(None))
    assert torch.equal(logits(session), plain)


@pytest.mark.parametrize("kind", SCHEMES.names())
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("skip", [(), ("*norm*", "*embedding*", "lm_head"), ("*proj",)])
def test_saved_and_loaded_it_computes_the_same(kind: str, tied: bool, skip: tuple[str, ...], tmp_path: Path) -> None:
    model = quantize(build_model(tiny(tie_embeddings=tied), seed=4), kind, skip)
    path = tmp_path / "small"
    report = save_checkpoint(model, ByteTokenizer(), CHATML, path)
    assert report.exact
    assert report.type == kind
    again = load_checkpoint(path).model
    assert is_quantized(again)
    assert again.config == model.config
    assert [(n, p.dtype) for n, p in again.named_parameters()] == [(n, p.dtype) for n, p in model.named_parameters()]
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    with torch.no_grad():
        torch.testing.assert_close(again(IDS), model(IDS), rtol=0, atol=1e-6)
    weights = sum(p.nbytes for p in model.parameters())
    assert weights < (path / "model.safetensors").stat().st_size < weights + 20_000


@pytest.mark.parametrize(
    "change",
    [
        lambda q: q.update(dtype="int3"),
        lambda q: q["scheme"].update(kind="int5"),
        lambda q: q["scheme"].update(group_size=-4),
        lambda q: q["matrices"].update({"blocks.9.attention.q_proj": 0.1}),
        lambda q: q["matrices"].pop("blocks.0.attention.q_proj"),
        lambda q: q.update(matrices=[1, 2]),
        lambda q: q.pop("norms"),
    ],
)
def test_a_damaged_description_is_named(change: Any, tmp_path: Path) -> None:
    save_checkpoint(quantize(build_model(tiny(), seed=4)), None, None, tmp_path / "model")
    file = tmp_path / "model" / "workbench.json"
    data = json.loads(file.read_text())
    change(data["quantization"])
    file.write_text(json.dumps(data))
    with pytest.raises((ModelError, FileError)):
        load_checkpoint(tmp_path / "model")


def test_a_quantized_file_has_no_way_back(home: Path, tmp_path: Path) -> None:
    save_checkpoint(quantize(build_model(tiny(), seed=4)), ByteTokenizer(), CHATML, tmp_path / "small")
    session = Session(home, device="cpu", dtype="float32", threads=2)
    drain(session.load(tmp_path / "small"))
    assert session.model is not None
    assert session.model.quantization == "int8"
    assert session.quantization is not None
    with pytest.raises(ModelError, match="saved with quantized weights"):
        drain(session.quantize(None))


def test_other_programs_get_the_numbers_the_codes_stand_for(session: Session, tmp_path: Path) -> None:
    drain(session.quantize(ALL))
    model = session.loaded.model
    with torch.no_grad():
        wanted = dequantized(model)(IDS)
    drain(session.export(tmp_path / "folder", "hf"))
    torch.testing.assert_close(load_checkpoint(tmp_path / "folder").model(IDS), wanted, rtol=0, atol=1e-5)
    _, report = drain(session.export(tmp_path / "small.gguf", "gguf", "q8_0"))
    assert report.type == "q8_0"
    assert report.max_abs_logit_difference < 0.1
    kinds = {tensor.name: tensor.tensor_type for tensor in GGUFReader(tmp_path / "small.gguf").tensors}
    assert kinds["blk.0.attn_q.weight"] == GGMLQuantizationType.Q8_0
    assert is_quantized(session.loaded.model)


def test_an_adapter_learns_over_quantized_weights(session: Session, tmp_path: Path) -> None:
    """As much as over the weights themselves, whose bytes it leaves alone."""
    rows = [{"messages": [{"role": "user", "content": "ping"}, {"role": "assistant", "content": "pong pong"}]}] * 8
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows))

    def trained(out: str) -> tuple[list[float], Any]:
        request = FinetuneRequest(
            data=DataConfig(sources=(str(data),)), lora=LoraConfig(r=4, lora_dropout=0.0),
            train=TrainConfig(max_steps=25, learning_rate=2e-3, max_length=64, dtype="float32"), out=tmp_path / out,
        )  # fmt: skip
        events, result = drain(session.finetune(request))
        return [event.metrics["loss"] for event in events if "loss" in event.metrics], result

    wanted, _ = trained("plain")
    drain(session.quantize(ALL))
    codes = {name: p.clone() for name, p in session.loaded.model.named_parameters()}
    losses, result = trained("quantized")
    assert wanted[-1] < wanted[0] - 0.2
    assert losses == pytest.approx(wanted, rel=0.02)
    assert all(torch.equal(p, codes[name]) for name, p in session.loaded.model.named_parameters())
    bare = logits(session)
    session.use_adapter(result.adapter)
    name = adapters.adapter_names(session.loaded.model)[0]
    with adapters.selected(session.loaded.model, {name: 1.0}):
        tuned = logits(session)
    assert (tuned - bare).abs().max() > 0.1
    drain(session.quantize(None))  # the adapter goes on, over other weights
    assert session.adapter is not None
    assert name in adapters.adapter_names(session.loaded.model)
    with adapters.selected(session.loaded.model, {name: 1.0}):
        assert (logits(session) - tuned).abs().max() < 0.5 * (tuned - bare).abs().max()


def test_all_weights_cannot_be_trained_while_they_are_codes(session: Session, tmp_path: Path) -> None:
    drain(session.quantize(ALL))
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"messages": [{"role": "user", "content": "ping"}, {"role": "assistant", "content": "pong"}]}))
    request = FinetuneRequest(data=DataConfig(sources=(str(data),)), full=True, train=TrainConfig(max_steps=1), out=tmp_path / "run")
    with pytest.raises(ModelError, match="Quantized weights cannot be trained"):
        drain(session.finetune(request))
