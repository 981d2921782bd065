"""BLOOM: ALiBi, LayerNorm before each branch and after the embedding, q, k and v in one matrix, head by head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.checkpoints.families.base import HF_FAMILIES, Family, epsilon_of
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.table import Table, Take
from workbench.model import ModelConfig
from workbench.model.fused import group_rows

_ATTENTION = "blocks.{n}.attention."
TABLE: Table = {
    "transformer.word_embeddings.weight": "embedding.weight",
    "transformer.word_embeddings_layernorm.{p}": "embedding_norm.{p}",
    "transformer.h.{n}.input_layernorm.{p}": "blocks.{n}.residual.attention_norm.{p}",
    "transformer.h.{n}.self_attention.query_key_value.{p}": Take(tuple(f"{_ATTENTION}{x}_proj.{{p}}" for x in "qkv"), order=group_rows),
    "transformer.h.{n}.self_attention.dense.{p}": _ATTENTION + "o_proj.{p}",
    "transformer.h.{n}.post_attention_layernorm.{p}": "blocks.{n}.residual.mlp_norm.{p}",
    "transformer.h.{n}.mlp.dense_h_to_4h.{p}": "blocks.{n}.mlp.up_proj.{p}",
    "transformer.h.{n}.mlp.dense_4h_to_h.{p}": "blocks.{n}.mlp.down_proj.{p}",
    "transformer.ln_f.{p}": "final_norm.{p}",
    "lm_head.weight": "lm_head.weight",
}


def read(settings: Settings) -> Mapping[str, Any]:
    settings.refuse("apply_residual_connection_post_layernorm", (False,))
    return {
        "vocab_size": settings.integer("vocab_size"),
        "n_layers": settings.integer("n_layer", "num_hidden_layers"),
        "d_model": settings.integer("hidden_size", "n_embed"),
        "n_heads": settings.integer("n_head", "num_attention_heads"),
        "n_kv_heads": None,
        "head_dim": None,
        "d_ff": None,  # four times the width there
        "max_positions": settings.integer("seq_length", default=2048),
        "position": "alibi",
        "norm": {"kind": "layernorm", "eps": settings.number("layer_norm_epsilon", default=1e-5)},
        "residual": "pre",
        "mlp": "gelu_tanh",
        "attention_bias": True,
        "attention_out_bias": True,
        "mlp_bias": True,
        "embedding_norm": True,
        "final_norm": True,
    }


def write(config: ModelConfig) -> Mapping[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "n_layer": config.n_layers,
        "hidden_size": config.d_model,
        "n_head": config.n_heads,
        "seq_length": config.max_positions,
        "layer_norm_epsilon": epsilon_of(config),
        "tie_word_embeddings": config.tie_embeddings,
    }


@HF_FAMILIES.register("bloom", label="BLOOM", source="arXiv:2211.05100", help="BLOOM and BLOOMZ, 560M to 176B.")
def bloom() -> Family:
    return Family(TABLE, read, write, prefix="transformer.", architecture="BloomForCausalLM", tied_by_default=True)
