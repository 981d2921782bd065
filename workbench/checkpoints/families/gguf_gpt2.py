"""GGUF files of the architecture gpt2: q, k and v in one matrix, rows (out, in) as the engine keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.checkpoints.families.base import GGUF_FAMILIES, Family, epsilon_of
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.table import Table, Take
from workbench.core.errors import ModelError
from workbench.model import ModelConfig

_BLOCK = "blocks.{n}."
TABLE: Table = {
    "token_embd.weight": "embedding.weight",
    "position_embd.weight": "position.weight",
    "blk.{n}.attn_norm.{p}": _BLOCK + "residual.attention_norm.{p}",
    "blk.{n}.attn_qkv.{p}": Take(tuple(f"{_BLOCK}attention.{x}_proj.{{p}}" for x in "qkv")),
    "blk.{n}.attn_output.{p}": _BLOCK + "attention.o_proj.{p}",
    "blk.{n}.ffn_norm.{p}": _BLOCK + "residual.mlp_norm.{p}",
    "blk.{n}.ffn_up.{p}": _BLOCK + "mlp.up_proj.{p}",
    "blk.{n}.ffn_down.{p}": _BLOCK + "mlp.down_proj.{p}",
    "output_norm.{p}": "final_norm.{p}",
    "output.weight": "lm_head.weight",
}


def _read(settings: Settings) -> Mapping[str, Any]:
    if "token_embd.weight" not in settings.tensors:
        raise ModelError(f"{settings.where} has no token_embd.weight.", hint="It is not a text model, or it is one part of a split file.")
    heads, width = settings.integer("attention.head_count"), settings.integer("embedding_length")
    return {
        "vocab_size": settings.integer("vocab_size", default=settings.tensors["token_embd.weight"].shape[0]),
        "n_layers": settings.integer("block_count"),
        "d_model": width,
        "n_heads": heads,
        "n_kv_heads": settings.integer("attention.head_count_kv", default=heads),
        "d_ff": settings.integer("feed_forward_length", default=4 * width),
        "max_positions": settings.integer("context_length"),
        "position": "learned",
        "norm": {"kind": "layernorm", "eps": settings.number("attention.layer_norm_epsilon", default=1e-5)},
        "residual": "pre",
        "mlp": "gelu_tanh",
        "attention_bias": True,
        "attention_out_bias": True,
        "mlp_bias": True,
        "final_norm": True,
    }


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "context_length": config.max_positions,
        "embedding_length": config.d_model,
        "block_count": config.n_layers,
        "feed_forward_length": config.hidden,
        "attention.head_count": config.n_heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.layer_norm_epsilon": epsilon_of(config),
    }


@GGUF_FAMILIES.register("gpt2", label="GPT-2", help="Conversions of GPT-2 and models of its kind.", source="github.com/ggml-org/llama.cpp")
def gpt2() -> Family:
    return Family(TABLE, _read, _write)
