"""Phi 1, 1.5 and 2: both branches from one LayerNorm, a part of each head turned, biases everywhere, the head's included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.checkpoints.families.base import HF_FAMILIES, PLAIN_ACTIVATIONS, Family, activation_of, epsilon_of
from workbench.checkpoints.families.rope import read_rope, write_rope
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.table import Table
from workbench.model import ModelConfig

TABLE: Table = {
    "model.embed_tokens.weight": "embedding.weight",
    "model.layers.{n}.input_layernorm.{p}": "blocks.{n}.residual.attention_norm.{p}",
    "model.layers.{n}.self_attn.q_proj.{p}": "blocks.{n}.attention.q_proj.{p}",
    "model.layers.{n}.self_attn.k_proj.{p}": "blocks.{n}.attention.k_proj.{p}",
    "model.layers.{n}.self_attn.v_proj.{p}": "blocks.{n}.attention.v_proj.{p}",
    "model.layers.{n}.self_attn.dense.{p}": "blocks.{n}.attention.o_proj.{p}",
    "model.layers.{n}.self_attn.q_layernorm.{p}": "blocks.{n}.attention.q_norm.{p}",
    "model.layers.{n}.self_attn.k_layernorm.{p}": "blocks.{n}.attention.k_norm.{p}",
    "model.layers.{n}.mlp.fc1.{p}": "blocks.{n}.mlp.up_proj.{p}",
    "model.layers.{n}.mlp.fc2.{p}": "blocks.{n}.mlp.down_proj.{p}",
    "model.final_layernorm.{p}": "final_norm.{p}",
    "lm_head.{p}": "lm_head.{p}",
    "model.layers.{n}.self_attn.rotary_emb.inv_freq": None,  # a buffer saved by old versions
}


def read(settings: Settings) -> Mapping[str, Any]:
    heads, width = settings.integer("num_attention_heads"), settings.integer("hidden_size")
    context = settings.integer("max_position_embeddings", default=2048)
    return {
        "vocab_size": settings.integer("vocab_size"),
        "n_layers": settings.integer("num_hidden_layers"),
        "d_model": width,
        "n_heads": heads,
        "n_kv_heads": settings.integer("num_key_value_heads", default=heads),
        "head_dim": None,
        "d_ff": settings.integer("intermediate_size"),
        "max_positions": context,
        "position": read_rope(settings, context, default_fraction=0.5, head_width=width // max(heads, 1)),
        "norm": {"kind": "layernorm", "eps": settings.number("layer_norm_eps", default=1e-5)},
        "residual": {"kind": "parallel", "shared_norm": True},
        "qk_norm": "head" if settings.flag("qk_layernorm", default=False) else "off",
        "mlp": settings.one_of(PLAIN_ACTIVATIONS, "hidden_act", default="gelu_new"),
        "attention_bias": True,
        "attention_out_bias": True,
        "mlp_bias": True,
        "head_bias": True,
        "final_norm": True,
    }


def write(config: ModelConfig) -> Mapping[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "num_hidden_layers": config.n_layers,
        "hidden_size": config.d_model,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.kv_heads,
        "intermediate_size": config.hidden,
        "max_position_embeddings": config.max_positions,
        "layer_norm_eps": epsilon_of(config),
        "hidden_act": activation_of(PLAIN_ACTIVATIONS, config.mlp.kind),
        "qk_layernorm": config.qk_norm == "head",
        "tie_word_embeddings": config.tie_embeddings,
        **write_rope(config, partial=True),
    }


@HF_FAMILIES.register("phi", label="Phi", source="arXiv:2306.11644", help="Phi 1, 1.5 and 2; Phi-3 and later are other types.")
def phi() -> Family:
    return Family(TABLE, read, write, prefix="model.", architecture="PhiForCausalLM")
