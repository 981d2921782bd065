"""GPT-1: GPT-2's names, with LayerNorm after each branch and none at the end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.checkpoints.families.base import HF_FAMILIES, Family, activation_of, epsilon_of
from workbench.checkpoints.families.gpt2 import TABLE as GPT2_TABLE
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.table import Table
from workbench.model import ModelConfig

TABLE: Table = {
    "transformer.tokens_embed.weight": "embedding.weight",
    "transformer.positions_embed.weight": "position.weight",
    **{key: entry for key, entry in GPT2_TABLE.items() if key.startswith("transformer.h.") or key == "lm_head.weight"},
    "transformer.position_ids": None,  # a buffer saved by old versions
}
_ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu"}
"""What the class makes of its `afn`."""


def read(settings: Settings) -> Mapping[str, Any]:
    return {
        "vocab_size": settings.integer("vocab_size"),
        "n_layers": settings.integer("n_layer", "num_hidden_layers"),
        "d_model": settings.integer("n_embd", "hidden_size"),
        "n_heads": settings.integer("n_head", "num_attention_heads"),
        "n_kv_heads": None,
        "head_dim": None,
        "d_ff": None,  # four times the width there
        "max_positions": settings.integer("n_positions", "n_ctx", default=512),
        "position": "learned",
        "norm": {"kind": "layernorm", "eps": settings.number("layer_norm_epsilon", default=1e-5)},
        "residual": "post",
        "mlp": settings.one_of(_ACTIVATIONS, "afn", default="gelu"),
        "attention_bias": True,
        "attention_out_bias": True,
        "mlp_bias": True,
        "final_norm": False,
    }


def write(config: ModelConfig) -> Mapping[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "n_layer": config.n_layers,
        "n_embd": config.d_model,
        "n_head": config.n_heads,
        "n_positions": config.max_positions,
        "layer_norm_epsilon": epsilon_of(config),
        "afn": activation_of(_ACTIVATIONS, config.mlp.kind),
        "tie_word_embeddings": config.tie_embeddings,
    }


@HF_FAMILIES.register("openai-gpt", label="GPT-1", source="Radford et al. 2018", help="OpenAI's first GPT.")
def gpt1() -> Family:
    return Family(TABLE, read, write, prefix="transformer.", architecture="OpenAIGPTLMHeadModel", tied_by_default=True)
