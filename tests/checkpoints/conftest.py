"""Tiny checkpoints written for the tests: GGUF by the `gguf` package, folders by `json` and `safetensors`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize
from safetensors.torch import save_file

from workbench.checkpoints.families import GGUF_FAMILIES
from workbench.checkpoints.load import parameters_of
from workbench.checkpoints.table import outgoing
from workbench.model import ModelConfig, Transformer, build_model

LETTERS = [*(chr(c) for c in range(0x21, 0x7F)), *(chr(c) for c in range(0xA1, 0xAD)), *(chr(c) for c in range(0xAE, 0x100))]


def small(**changes: Any) -> ModelConfig:
    """A LLaMA-style model of 20 000 parameters with grouped heads; rows are wide enough for blocks of 32."""
    plain: dict[str, Any] = dict(
        vocab_size=272, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, d_ff=64, max_positions=32, norm={"kind": "rmsnorm", "eps": 1e-5}
    )
    return ModelConfig(**{**plain, **changes})


def tokenizer_fields() -> dict[str, Any]:
    """Byte-level tokens (printable letters only), one merge and two control tokens, as GGUF metadata."""
    stand_ins = [chr(0x100 + i) for i in range(256 - len(LETTERS))]
    tokens = ["<|endoftext|>", "<|im_end|>", *LETTERS, *stand_ins, "he"]
    tokens += [f"<|unused{i}|>" for i in range(272 - len(tokens))]
    types = [3, 3, *[1] * (len(tokens) - 2)]
    types[259:] = [3] * (len(tokens) - 259)
    return {"model": "gpt2", "pre": "smollm", "tokens": tokens, "token_type": types, "merges": ["h e"], "eos_token_id": 1}


def write_gguf(
    path: Path,
    model: Transformer,
    *,
    architecture: str = "llama",
    quantization: GGMLQuantizationType = GGMLQuantizationType.F32,
    metadata: Mapping[str, Any] | None = None,
    tokenizer: bool = True,
    change: Callable[[dict[str, torch.Tensor]], None] | None = None,
) -> Path:
    """`model` as a GGUF file; matrices in `quantization`. `metadata` adds or (None) removes keys; `change` edits the tensors."""
    config = model.config
    values: dict[str, Any] = {
        "block_count": config.n_layers, "embedding_length": config.d_model, "feed_forward_length": config.hidden,
        "context_length": config.max_positions, "attention.head_count": config.n_heads, "attention.head_count_kv": config.kv_heads,
        "attention.layer_norm_rms_epsilon": float(config.norm.options.eps), "rope.freq_base": float(config.position.options.base),
        "rope.dimension_count": config.head_width,
    }  # fmt: skip
    values = {f"{architecture}.{key}": value for key, value in values.items()}
    if tokenizer:
        values |= {f"tokenizer.ggml.{key}": value for key, value in tokenizer_fields().items()}
    values |= metadata or {}
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in values.items():
        if value is not None and key != "general.architecture":
            _add(writer, key, value)
    family = GGUF_FAMILIES[architecture if architecture in GGUF_FAMILIES else "llama"].make()
    tensors = {t.name: t.make().float().contiguous() for t in outgoing(family.table, config, parameters_of(model))}
    if change:
        change(tensors)
    for name, tensor in tensors.items():
        array = tensor.numpy()
        kind = quantization if tensor.dim() == 2 else GGMLQuantizationType.F32
        writer.add_tensor(name, quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


LLAMA_SETTINGS: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 272, "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
}  # fmt: skip


def llama_tensors(model: Transformer) -> dict[str, torch.Tensor]:
    """`model`'s weights under Hugging Face's names, by hand."""
    renamed = {}
    for name, tensor in parameters_of(model).items():
        for ours, theirs in (
            ("embedding.", "model.embed_tokens."), ("blocks.", "model.layers."), ("final_norm.", "model.norm."),
            (".attention.", ".self_attn."), (".residual.attention_norm.", ".input_layernorm."),
            (".residual.mlp_norm.", ".post_attention_layernorm."),
        ):  # fmt: skip
            name = name.replace(ours, theirs)
        renamed[name] = tensor.contiguous().clone()
    return renamed


def write_folder(folder: Path, tensors: Mapping[str, torch.Tensor], settings: Mapping[str, Any], *, shards: int = 1) -> Path:
    """A Hugging Face folder; settings that are None are left out."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    if shards == 1:
        save_file(dict(tensors), folder / "model.safetensors")
        return folder
    names = sorted(tensors)
    index = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard::shards]
        save_file({name: tensors[name] for name in part}, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


@pytest.fixture
def make_gguf(tmp_path: Path) -> Callable[..., tuple[Path, Transformer]]:
    """`make_gguf({changes of the config}, **write_gguf's)` -> (path, the model in it)."""

    def make(config: Mapping[str, Any] | None = None, **how: Any) -> tuple[Path, Transformer]:
        model = build_model(small(**(config or {})), seed=1)
        return write_gguf(tmp_path / "tiny.gguf", model, **how), model

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., tuple[Path, Transformer]]:
    """`make_folder(settings={…}, change=edit, shards=…)` -> (folder, the model in it)."""

    def make(
        config: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        change: Callable[[dict[str, torch.Tensor]], None] | None = None,
        shards: int = 1,
    ) -> tuple[Path, Transformer]:
        model = build_model(small(**(config or {})), seed=1)
        tensors = llama_tensors(model)
        if change:
            change(tensors)
        return write_folder(tmp_path / "tiny", tensors, {**LLAMA_SETTINGS, **(settings or {})}, shards=shards), model

    return make


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(272, (2, 9), generator=torch.Generator().manual_seed(3))
