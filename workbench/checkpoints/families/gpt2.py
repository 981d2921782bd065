"""GPT-2: learned positions, LayerNorm, GELU, biases everywhere; linears stored (in, out), q, k and v in one matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.checkpoints.families.base import HF_FAMILIES, PLAIN_ACTIVATIONS, Family, activation_of, epsilon_of
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.table import Table, Take
from workbench.model import ModelConfig

_ATTENTION = "blocks.{n}.attention."
TABLE: Table = {
    "transformer.wte.weight": "embedding.weight",
    "transformer.wpe.weight": "position.weight",
    "transformer.h.{n}.ln_1.{p}": "blocks.{n}.residual.attention_norm.{p}",
    "transformer.h.{n}.attn.c_attn.{p}": Take(tuple(f"{_ATTENTION}{x}_proj.{{p}}" for x in "qkv"), transposed=True),
    "transformer.h.{n}.attn.c_proj.{p}": Take((_ATTENTION + "o_proj.{p}",), transposed=True),
    "transformer.h.{n}.ln_2.{p}": "blocks.{n}.residual.mlp_norm.{p}",
    "transformer.h.{n}.mlp.c_fc.{p}": Take(("blocks.{n}.mlp.up_proj.{p}",), transposed=True),
    "transformer.h.{n}.mlp.c_proj.{p}": Take(("blocks.{n}.mlp.down_proj.{p}",), transposed=True),
    "transformer.ln_f.{p}": "final_norm.{p}",
    "lm_head.weight": "lm_head.weight",
    "transformer.h.{n}.attn.bias": None,  # the causal mask, saved as a buffer by old versions
    "transformer.h.{n}.attn.masked_bias": None,
}


def read(settings: Settings) -> Mapping[str, Any]:
    settings.refuse("scale_attn_weights", (True,))
    settings.refuse("scale_attn_by_inverse_layer_idx", (False,))
    settings.refuse("add_cross_attention", (False,))
    width = settings.integer("n_embd", "hidden_size")
    return {
        "vocab_size": settings.integer("vocab_size"),
        "n_layers": settings.integer("n_layer", "num_hidden_layers"),
        "d_model": width,
        "n_heads": settings.integer("n_head", "num_attention_heads"),
        "n_kv_heads": None,
        "head_dim": None,
        "d_ff": settings.integer("n_inner", default=4 * width),
        "max_positions": settings.integer("n_positions", "n_ctx", "max_position_embeddings"),
        "position": "learned",
        "norm": {"kind": "layernorm", "eps": settings.number("layer_norm_epsilon", default=1e-5)},
        "residual": "pre",
        "mlp": settings.one_of(PLAIN_ACTIVATIONS, "activation_function", default="gelu_new"),
        "attention_bias": True,
        "attention_out_bias": True,
        "mlp_bias": True,
        "final_norm": True,
    }


def write(config: ModelConfig) -> Mapping[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "n_layer": config.n_layers,
        "n_embd": config.d_model,
        "n_head": config.n_heads,
        "n_inner": config.hidden,
        "n_positions": config.max_positions,
        "layer_norm_epsilon": epsilon_of(config),
        "activation_function": activation_of(PLAIN_ACTIVATIONS, config.mlp.kind),
        "tie_word_embeddings": config.tie_embeddings,
    }


@HF_FAMILIES.register(
    "gpt2", label="GPT-2", source="Radford et al. 2019", help="OpenAI's GPT-2 and models of its kind, such as DistilGPT-2."
)
def gpt2() -> Family:
    return Family(TABLE, read, write, prefix="transformer.", architecture="GPT2LMHeadModel", tied_by_default=True)
