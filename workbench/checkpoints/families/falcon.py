"""Falcon: LayerNorm, GELU, queries, keys and values in one matrix, in three layouts.

RW (ALiBi or RoPE, one key/value head per head, biases, blocks one after the other or in parallel), 7B (one key/value head in
all, both branches from one norm) and 40B (groups of heads, a norm per branch; 11B has one norm). The matrix is laid out
group by group in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.checkpoints.families.base import HF_FAMILIES, PLAIN_ACTIVATIONS, Family, activation_of, epsilon_of
from workbench.checkpoints.families.rope import read_rope, write_rope
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.table import Table, Take
from workbench.model import ModelConfig
from workbench.model.fused import group_rows

_ATTENTION, _NORMS = "blocks.{n}.attention.", "blocks.{n}.residual."


def _two_norms(config: ModelConfig) -> bool:
    return config.residual.kind == "parallel" and not config.residual.options.shared_norm


def _one_norm(config: ModelConfig) -> bool:
    return not _two_norms(config)


TABLE: Table = {
    "transformer.word_embeddings.weight": "embedding.weight",
    "transformer.h.{n}.input_layernorm.{p}": Take((_NORMS + "attention_norm.{p}",), when=_one_norm),
    "transformer.h.{n}.post_attention_layernorm.{p}": Take((_NORMS + "mlp_norm.{p}",), when=_one_norm),
    "transformer.h.{n}.ln_attn.{p}": Take((_NORMS + "attention_norm.{p}",), when=_two_norms),
    "transformer.h.{n}.ln_mlp.{p}": Take((_NORMS + "mlp_norm.{p}",), when=_two_norms),
    "transformer.h.{n}.self_attention.query_key_value.{p}": Take(tuple(f"{_ATTENTION}{x}_proj.{{p}}" for x in "qkv"), order=group_rows),
    "transformer.h.{n}.self_attention.dense.{p}": _ATTENTION + "o_proj.{p}",
    "transformer.h.{n}.mlp.dense_h_to_4h.{p}": "blocks.{n}.mlp.up_proj.{p}",
    "transformer.h.{n}.mlp.dense_4h_to_h.{p}": "blocks.{n}.mlp.down_proj.{p}",
    "transformer.ln_f.{p}": "final_norm.{p}",
    "lm_head.weight": "lm_head.weight",
    "transformer.h.{n}.self_attention.rotary_emb.inv_freq": None,  # buffers saved by old versions
    "transformer.h.{n}.self_attention.maybe_rotary.inv_freq": None,
}


def read(settings: Settings) -> Mapping[str, Any]:
    settings.refuse("apply_residual_connection_post_layernorm", (False,))
    heads = settings.integer("num_attention_heads", "n_head")
    width = settings.integer("hidden_size", "n_embed")
    context = settings.integer("max_position_embeddings", default=2048)
    grouped = settings.flag("new_decoder_architecture", default=settings.get("model_type") == "RefinedWeb")
    bias = settings.flag("bias", default=False)
    if grouped:
        shared = settings.integer("num_kv_heads", "n_head_kv", default=heads)
    else:  # files of the 7B say num_kv_heads = 71 and mean 1
        shared = 1 if settings.flag("multi_query", default=True) else heads
    linear_biases = {"kind": "alibi", "divided": True, "rounded": True}
    return {
        "vocab_size": settings.integer("vocab_size"),
        "n_layers": settings.integer("num_hidden_layers", "n_layer"),
        "d_model": width,
        "n_heads": heads,
        "n_kv_heads": shared,
        "head_dim": None,
        "d_ff": settings.integer("ffn_hidden_size", default=4 * width),
        "max_positions": context,
        "position": linear_biases if settings.flag("alibi", default=False) else read_rope(settings, context),
        "norm": {"kind": "layernorm", "eps": settings.number("layer_norm_epsilon", default=1e-5)},
        "residual": _read_residual(settings, grouped),
        "mlp": settings.one_of(PLAIN_ACTIVATIONS, "activation", default="gelu"),
        "attention_bias": bias,
        "attention_out_bias": bias,
        "mlp_bias": bias,
        "final_norm": True,
    }


def _read_residual(settings: Settings, grouped: bool) -> str | dict[str, Any]:
    if not grouped:
        return {"kind": "parallel", "shared_norm": True} if settings.flag("parallel_attn", default=True) else "pre"
    settings.refuse("parallel_attn", (True,))
    norms = settings.integer("num_ln_in_parallel_attn", default=2)
    settings.refuse("num_ln_in_parallel_attn", (1, 2))
    return {"kind": "parallel", "shared_norm": norms == 1}


def write(config: ModelConfig) -> Mapping[str, Any]:
    """The oldest layout that holds the model: 40B where heads share keys in groups or each branch has a norm."""
    shared = config.kv_heads
    parallel = config.residual.kind == "parallel"
    grouped = parallel and (_two_norms(config) or shared not in (1, config.n_heads))
    return {
        "vocab_size": config.vocab_size,
        "num_hidden_layers": config.n_layers,
        "hidden_size": config.d_model,
        "num_attention_heads": config.n_heads,
        "num_kv_heads": shared,
        "multi_query": shared == 1 and config.n_heads > 1,
        "new_decoder_architecture": grouped,
        "parallel_attn": parallel,
        "num_ln_in_parallel_attn": (2 if _two_norms(config) else 1) if grouped else None,
        "ffn_hidden_size": config.hidden,
        "max_position_embeddings": config.max_positions,
        "layer_norm_epsilon": epsilon_of(config),
        "activation": activation_of(PLAIN_ACTIVATIONS, config.mlp.kind),
        "alibi": config.position.kind == "alibi",
        "bias": config.attention_bias,
        "tie_word_embeddings": config.tie_embeddings,
        **write_rope(config),
    }


@HF_FAMILIES.register(
    "falcon",
    label="Falcon",
    source="arXiv:2311.16867",
    help="Falcon-RW 1B and 7B, Falcon 7B, 11B and 40B, and their files of the older types RefinedWebModel and RefinedWeb.",
)
def falcon() -> Family:
    return Family(TABLE, read, write, prefix="transformer.", architecture="FalconForCausalLM", tied_by_default=True)
