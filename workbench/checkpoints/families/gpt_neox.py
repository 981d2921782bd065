"""GPT-NeoX and Pythia: LayerNorm, GELU, a part of each head turned, branches side by side; q, k and v in one matrix, head by head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.checkpoints.families.base import HF_FAMILIES, PLAIN_ACTIVATIONS, Family, activation_of, epsilon_of
from workbench.checkpoints.families.rope import read_rope, write_rope
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.table import Table, Take
from workbench.model import ModelConfig
from workbench.model.fused import group_rows

_ATTENTION = "blocks.{n}.attention."
TABLE: Table = {
    "gpt_neox.embed_in.weight": "embedding.weight",
    "gpt_neox.layers.{n}.input_layernorm.{p}": "blocks.{n}.residual.attention_norm.{p}",
    "gpt_neox.layers.{n}.post_attention_layernorm.{p}": "blocks.{n}.residual.mlp_norm.{p}",
    "gpt_neox.layers.{n}.attention.query_key_value.{p}": Take(tuple(f"{_ATTENTION}{x}_proj.{{p}}" for x in "qkv"), order=group_rows),
    "gpt_neox.layers.{n}.attention.dense.{p}": _ATTENTION + "o_proj.{p}",
    "gpt_neox.layers.{n}.mlp.dense_h_to_4h.{p}": "blocks.{n}.mlp.up_proj.{p}",
    "gpt_neox.layers.{n}.mlp.dense_4h_to_h.{p}": "blocks.{n}.mlp.down_proj.{p}",
    "gpt_neox.final_layer_norm.{p}": "final_norm.{p}",
    "embed_out.weight": "lm_head.weight",
    "gpt_neox.layers.{n}.attention.bias": None,  # the causal mask and the rotary table, saved by old versions
    "gpt_neox.layers.{n}.attention.masked_bias": None,
    "gpt_neox.layers.{n}.attention.rotary_emb.inv_freq": None,
}


def read(settings: Settings) -> Mapping[str, Any]:
    heads, width = settings.integer("num_attention_heads"), settings.integer("hidden_size")
    context = settings.integer("max_position_embeddings", default=2048)
    bias = settings.flag("attention_bias", default=True)
    parallel = settings.flag("use_parallel_residual", default=True)
    return {
        "vocab_size": settings.integer("vocab_size"),
        "n_layers": settings.integer("num_hidden_layers"),
        "d_model": width,
        "n_heads": heads,
        "n_kv_heads": None,
        "head_dim": None,
        "d_ff": settings.integer("intermediate_size"),
        "max_positions": context,
        "position": read_rope(settings, context, default_fraction=0.25, head_width=width // max(heads, 1)),
        "norm": {"kind": "layernorm", "eps": settings.number("layer_norm_eps", default=1e-5)},
        "residual": {"kind": "parallel", "shared_norm": False} if parallel else "pre",
        "mlp": settings.one_of(PLAIN_ACTIVATIONS, "hidden_act", default="gelu"),
        "attention_bias": bias,
        "attention_out_bias": bias,
        "mlp_bias": True,
        "final_norm": True,
    }


def write(config: ModelConfig) -> Mapping[str, Any]:
    rope = write_rope(config, partial=True)
    older = {"rotary_emb_base": rope["rope_theta"], "rotary_pct": rope["partial_rotary_factor"]} if rope else {}
    return {
        "vocab_size": config.vocab_size,
        "num_hidden_layers": config.n_layers,
        "hidden_size": config.d_model,
        "num_attention_heads": config.n_heads,
        "intermediate_size": config.hidden,
        "max_position_embeddings": config.max_positions,
        "layer_norm_eps": epsilon_of(config),
        "hidden_act": activation_of(PLAIN_ACTIVATIONS, config.mlp.kind),
        "attention_bias": config.attention_bias,
        "use_parallel_residual": config.residual.kind == "parallel",
        "tie_word_embeddings": config.tie_embeddings,
        **rope,
        **older,
    }


@HF_FAMILIES.register("gpt_neox", label="GPT-NeoX", source="arXiv:2204.06745", help="GPT-NeoX, Pythia and other models of type gpt_neox.")
def gpt_neox() -> Family:
    return Family(TABLE, read, write, prefix="gpt_neox.", architecture="GPTNeoXForCausalLM")
