"""Saving: what comes back, what is refused, and that nothing half-written is left."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from workbench.adapters import LoraConfig, attach, detach
from workbench.checkpoints import FORMATS, load_checkpoint, save_checkpoint, save_events
from workbench.checkpoints import save as saving
from workbench.core.control import Control
from workbench.core.errors import FileError, ModelError, WorkbenchError
from workbench.core.events import Progress
from workbench.model import ModelConfig, Transformer, build_model
from workbench.tokenizers import AddedToken, BpeSpec, ByteTokenizer, bpe_tokenizer
from workbench.tokenizers.patterns import GPT2
from workbench.tokenizers.spec import LETTER_OF_BYTE

GPT2_STYLE: dict[str, Any] = dict(
    position="learned", norm="layernorm", mlp="gelu_tanh", attention_bias=True, attention_out_bias=True, mlp_bias=True
)  # fmt: skip


def tiny(**changes: Any) -> Transformer:
    plain: dict[str, Any] = dict(vocab_size=260, n_layers=2, d_model=16, n_heads=4, d_ff=24, max_positions=16)
    return build_model(ModelConfig(**{**plain, **changes}), seed=2)


def toy_tokenizer(**changes: Any) -> Any:
    tokens = ("", "", *LETTER_OF_BYTE.values(), "he")
    added = (AddedToken(0, "<|endoftext|>"), AddedToken(1, "<|im_end|>"))
    spec = BpeSpec(name="toy", tokens=tokens, merges=("h e",), pattern=GPT2, added=added, bos_id=0, eos_ids=(1,), pad_id=1, **changes)
    return bpe_tokenizer(spec)


def drained(events: Generator[Any, None, Any]) -> Any:
    """What the generator returns when it is run to its end."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value


def same(one: Transformer, other: Transformer) -> bool:
    ids = torch.arange(16)[None] * 3
    with torch.no_grad():
        return torch.equal(one(ids), other(ids))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_embeddings": False},
        GPT2_STYLE,
        {"position": {"kind": "rope", "base": 5e5, "style": "interleaved", "rotary_fraction": 0.5}, "qk_norm": "head"},
        {"residual": "deepnorm", "position": "alibi", "mlp": "relu", "sliding_window": 5},
        {"norm": {"kind": "rmsnorm", "eps": 1e-3, "unit_offset": True}, "residual": "double", "final_norm": False, "head_dim": 6},
    ],
)
def test_our_format_keeps_every_architecture(tmp_path: Path, changes: Mapping[str, Any]) -> None:
    model = tiny(**changes)
    report = save_checkpoint(model, None, "{{ x }}", tmp_path / "out")
    assert report.max_abs_logit_difference == 0
    assert report.nbytes == sum(p.nbytes for p in model.parameters())
    again = load_checkpoint(tmp_path / "out")
    assert again.config == model.config
    assert same(again.model, model)
    assert again.chat_template == "{{ x }}"
    assert again.tokenizer is None
    assert (again.source.format, again.source.name) == ("workbench", "out")


@pytest.mark.parametrize("format", ["workbench", "hf"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_kept(tmp_path: Path, dtype: torch.dtype, format: str) -> None:
    model = tiny().to(dtype)
    assert save_checkpoint(model, None, None, tmp_path / "out", format=format).max_abs_logit_difference == 0
    assert load_checkpoint(tmp_path / "out", dtype=None).model.dtype == dtype


@pytest.mark.parametrize("tokenizer", [toy_tokenizer(), ByteTokenizer()], ids=["bpe", "bytes"])
def test_our_format_keeps_the_tokenizer(tmp_path: Path, tokenizer: Any) -> None:
    save_checkpoint(tiny(), tokenizer, None, tmp_path / "out")
    again = load_checkpoint(tmp_path / "out").tokenizer
    assert again is not None
    assert again.to_json() == tokenizer.to_json()
    text = "he said é <|im_end|> 12"
    assert again.encode(text, special=True) == tokenizer.encode(text, special=True)


@pytest.mark.parametrize(
    ("changes", "family"),
    [
        (GPT2_STYLE, "gpt2"),
        ({**GPT2_STYLE, "tie_embeddings": False, "mlp": "relu"}, "gpt2"),
        ({}, "llama"),
        ({"n_kv_heads": 2, "tie_embeddings": False, "attention_bias": True, "attention_out_bias": True, "mlp_bias": True}, "llama"),
        ({"head_dim": 8, "mlp": "geglu_tanh", "position": {"kind": "rope", "base": 5e5}}, "llama"),
        ({"sliding_window": 6}, "mistral"),
        ({"attention_bias": True}, "qwen2"),
        ({"attention_bias": True, "sliding_window": 6}, "qwen2"),
        ({"qk_norm": "head", "head_dim": 8}, "qwen3"),
    ],
)
def test_hugging_face_folders_find_their_family(tmp_path: Path, changes: Mapping[str, Any], family: str) -> None:
    model = tiny(**changes)
    report = save_checkpoint(model, None, None, tmp_path / "out", format="hf")
    assert (report.family, report.max_abs_logit_difference) == (family, 0)
    assert same(load_checkpoint(tmp_path / "out").model, model)
    settings = json.loads((tmp_path / "out" / "config.json").read_text())
    assert settings["model_type"] == family
    assert settings["tie_word_embeddings"] == model.config.tie_embeddings
    assert ("lm_head.weight" in load_file(tmp_path / "out" / "model.safetensors")) == (not model.config.tie_embeddings)


def test_linears_of_gpt2_are_written_transposed_and_fused(tmp_path: Path) -> None:
    model = tiny(**GPT2_STYLE)
    save_checkpoint(model, None, None, tmp_path / "out", format="hf", family="gpt2")
    tensors, attention = load_file(tmp_path / "out" / "model.safetensors"), model.blocks[1].attention
    fused = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    assert torch.equal(tensors["transformer.h.1.attn.c_attn.weight"], fused.t())
    assert torch.equal(tensors["transformer.h.1.mlp.c_fc.weight"], model.blocks[1].mlp.up_proj.weight.t())


@pytest.mark.parametrize(
    ("changes", "family", "says"),
    [
        ({"sliding_window": 6}, "llama", "llama cannot express this model's sliding_window"),
        ({}, "gpt2", "gpt2 cannot express"),
        ({"residual": "double"}, None, "cannot express this model's residual"),
        ({"position": "alibi"}, None, "cannot express this model's position"),
        ({**GPT2_STYLE, "attention_bias": False}, "gpt2", "cannot express this model's attention_bias"),
    ],
)
def test_what_a_family_cannot_say_is_refused_by_name(tmp_path: Path, changes: Mapping[str, Any], family: str | None, says: str) -> None:
    with pytest.raises(ModelError) as caught:
        save_checkpoint(tiny(**changes), None, None, tmp_path / "out", format="hf", family=family)
    assert says in caught.value.message
    assert "workbench" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_tokenizer_files_of_a_hugging_face_folder(tmp_path: Path) -> None:
    tokenizer = toy_tokenizer(add_bos=True)
    save_checkpoint(tiny(), tokenizer, "{{ x }}", tmp_path / "out", format="hf")
    again = load_checkpoint(tmp_path / "out")
    assert again.chat_template == "{{ x }}"
    assert again.tokenizer is not None
    text = "the heat <|im_end|> é"
    assert again.tokenizer.encode(text, special=True) == tokenizer.encode(text, special=True)
    assert (again.tokenizer.bos_id, again.tokenizer.eos_ids, again.tokenizer.pad_id, again.tokenizer.add_bos) == (0, (1, 0), 1, True)


# ---- the place ---------------------------------------------------------------------------------------------------


def test_what_is_there_is_not_overwritten_unasked(tmp_path: Path) -> None:
    model = tiny()
    (tmp_path / "empty").mkdir()
    save_checkpoint(model, None, None, tmp_path / "empty")
    with pytest.raises(FileError, match="holds a checkpoint already"):
        save_checkpoint(model, None, None, tmp_path / "empty")
    other = tiny(d_ff=32)
    save_checkpoint(other, None, None, tmp_path / "empty", overwrite=True)
    assert load_checkpoint(tmp_path / "empty").config == other.config
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("…")
    with pytest.raises(FileError, match="holds something else than a checkpoint"):
        save_checkpoint(tiny(), None, None, tmp_path / "letters", overwrite=True)
    with pytest.raises(FileError, match="is a file"):
        save_checkpoint(tiny(), None, None, tmp_path / "letters" / "dear.txt", overwrite=True)
    assert (tmp_path / "letters" / "dear.txt").read_text() == "…"


@pytest.mark.parametrize("format", ["workbench", "hf"])
def test_what_no_checkpoint_has_is_never_replaced(tmp_path: Path, format: str) -> None:
    out = tmp_path / "out"
    save_checkpoint(tiny(), toy_tokenizer(), "{{ x }}", out, format=format)
    for name in ("my notes.txt", "other.gguf"):
        (out / name).write_text("mine")
        with pytest.raises(FileError, match=f"also holds {name}, which would be lost"):
            save_checkpoint(tiny(), None, None, out, format=format, overwrite=True)
        assert (out / name).read_text() == "mine"
        (out / name).unlink()
    other = {"workbench": "hf", "hf": "workbench"}[format]
    with pytest.raises(FileError, match="something else than a checkpoint of this kind"):
        save_checkpoint(tiny(), None, None, out, format=other, overwrite=True)
    save_checkpoint(tiny(), None, None, out, format=format, overwrite=True)


def test_a_folder_with_a_gguf_is_not_a_checkpoint_to_replace(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    save_checkpoint(tiny(d_model=32), None, None, tmp_path / "mine" / "model.gguf", format="gguf")
    with pytest.raises(FileError, match="something else than a checkpoint of this kind"):
        save_checkpoint(tiny(), None, None, tmp_path / "mine", overwrite=True)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["model.gguf"]


@pytest.mark.parametrize("format", ["workbench", "hf"])
def test_a_stop_leaves_what_was_there(tmp_path: Path, format: str) -> None:
    first = tiny()
    save_checkpoint(first, None, None, tmp_path / "out", format=format)
    control = Control()
    events = save_events(tiny(d_ff=32), None, None, tmp_path / "out", format, overwrite=True, control=control)
    next(events)
    control.stop()
    assert drained(events) is None
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert load_checkpoint(tmp_path / "out").config.hidden == 24
    with pytest.raises(WorkbenchError, match="Saving out was stopped"):
        save_checkpoint(first, None, None, tmp_path / "out", format, overwrite=True, control=control)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tiny(), None, None, tmp_path / "out")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="The disk is full"):
        save_checkpoint(tiny(d_ff=32), None, None, tmp_path / "out", overwrite=True)
    assert load_checkpoint(tmp_path / "out").config.hidden == 24
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_closing_the_generator_removes_what_was_written(tmp_path: Path) -> None:
    events = save_events(tiny(), None, None, tmp_path / "out")
    next(events)
    next(events)
    assert list(tmp_path.iterdir())
    events.close()
    assert list(tmp_path.iterdir()) == []


def test_progress_covers_all_bytes(tmp_path: Path) -> None:
    model = tiny(tie_embeddings=False)
    progress = [e for e in save_events(model, None, None, tmp_path / "out") if isinstance(e, Progress)]
    assert progress[-1].done == progress[-1].total == sum(p.nbytes for p in model.parameters())


# ---- the model ---------------------------------------------------------------------------------------------------


def test_adapters_must_be_merged_first(tmp_path: Path) -> None:
    model = tiny()
    attach(model, LoraConfig(r=2, target_modules=("q_proj",)), name="a")
    with pytest.raises(ModelError, match=r"cannot be saved as a checkpoint") as caught:
        save_checkpoint(model, None, None, tmp_path / "out")
    assert "Merge or detach" in caught.value.hint
    detach(model, "a")
    assert save_checkpoint(model, None, None, tmp_path / "out").max_abs_logit_difference == 0


def test_a_save_that_did_not_arrive_is_refused_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = load_checkpoint

    def damaged(*args: Any, **options: Any) -> Any:
        loaded = changed(*args, **options)
        with torch.no_grad():
            loaded.model.final_norm.weight[3] += 1e-6
        return loaded

    monkeypatch.setattr(saving, "load_checkpoint", damaged)
    with pytest.raises(ModelError, match=r"was removed: final_norm\.weight reads back as other numbers"):
        save_checkpoint(tiny(), None, None, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_same_weights_under_another_configuration_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an export that says another base does; what was there before stays."""
    save_checkpoint(tiny(d_ff=32), None, None, tmp_path / "out")
    changed = load_checkpoint

    def another(*args: Any, **options: Any) -> Any:
        loaded = changed(*args, **options)
        other = build_model(dataclasses.replace(loaded.config, position={"kind": "rope", "base": 50.0}), seed=2)
        other.load_state_dict(loaded.model.state_dict())
        return dataclasses.replace(loaded, model=other.to(loaded.model.dtype))

    monkeypatch.setattr(saving, "load_checkpoint", another)
    for dtype in (torch.float32, torch.bfloat16):
        model = tiny().to(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter *= 3
        with pytest.raises(ModelError, match="with the same weights its logits differ by"):
            save_checkpoint(model, None, None, tmp_path / "out", overwrite=True)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert load_checkpoint(tmp_path / "out").config.hidden == 32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_that_are_not_numbers_are_not_compared(tmp_path: Path, dtype: torch.dtype) -> None:
    model = tiny(tie_embeddings=False).to(dtype)
    with torch.no_grad():
        model.final_norm.weight[:] = 1000
        model.lm_head.weight[3] = torch.finfo(dtype).max
        model.lm_head.weight[4:] *= 1e-3
    report = save_checkpoint(model, None, None, tmp_path / "out")
    assert report.max_abs_logit_difference < 1
    with torch.no_grad():
        model.lm_head.weight[:] = torch.finfo(dtype).max
    assert math.isnan(save_checkpoint(model, None, None, tmp_path / "all").max_abs_logit_difference)


def test_without_memory_to_read_it_back_it_is_kept_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **options: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    model = tiny()
    with monkeypatch.context() as patched:
        patched.setattr("workbench.checkpoints.load.build_model", lambda *a, **o: build_model(*a, **o) if o["device"] == "meta" else full())
        events = list(save_events(model, None, None, tmp_path / "out"))
        report = save_checkpoint(model, None, None, tmp_path / "again")
    assert "not proven" in events[-1].message
    assert (report.proven, report.exact, report.nbytes) == (False, False, sum(p.nbytes for p in model.parameters()))
    assert same(load_checkpoint(tmp_path / "out").model, model)


def test_a_tokenizer_that_did_not_arrive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = load_checkpoint

    def damaged(*args: Any, **options: Any) -> Any:
        loaded = changed(*args, **options)
        return dataclasses.replace(loaded, tokenizer=ByteTokenizer())

    monkeypatch.setattr(saving, "load_checkpoint", damaged)
    with pytest.raises(ModelError, match=r"its tokenizer reads .Hello, world!"):
        save_checkpoint(tiny(), toy_tokenizer(), None, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# ---- types and room ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["workbench", "hf"])
def test_a_model_is_stored_in_another_precision(tmp_path: Path, format: str) -> None:
    model = tiny()
    report = save_checkpoint(model, None, None, tmp_path / "out", format=format, type="bf16")
    assert (report.type, report.exact, report.nbytes) == ("bf16", False, 2 * sum(p.numel() for p in model.parameters()))
    assert 0 < report.max_abs_logit_difference < 0.1
    again = load_checkpoint(tmp_path / "out", dtype=None).model
    assert again.dtype == torch.bfloat16
    assert torch.equal(again.final_norm.weight, model.final_norm.weight.bfloat16())
    wide = save_checkpoint(again, None, None, tmp_path / "wide", format=format, type="f32")
    assert (wide.exact, wide.max_abs_logit_difference) == (True, 0)


@pytest.mark.parametrize("format", ["workbench", "hf", "gguf"])
def test_numbers_too_large_for_half_precision_are_refused(tmp_path: Path, format: str) -> None:
    model = tiny()
    with torch.no_grad():
        model.blocks[0].mlp.up_proj.weight[1, 2] = 1e6
    with pytest.raises(ModelError, match="holds 1e\\+06, more than float16 can express"):
        save_checkpoint(model, None, None, tmp_path / f"out{FORMATS[format].make().suffix}", format=format, type="f16")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))  # type: ignore[attr-defined]
    with pytest.raises(FileError, match=r"out takes \d+\.\d kB, and 1.0 kB are free in") as caught:
        save_checkpoint(tiny(), None, None, tmp_path / "new" / "out")
    assert "Free some space" in caught.value.hint
    assert list(tmp_path.iterdir()) == []
