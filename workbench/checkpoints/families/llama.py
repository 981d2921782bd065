"""LLaMA and its close relatives: RoPE, RMSNorm before each branch, SwiGLU, grouped key/value heads.

SmolLM, TinyLlama and most "llama" files are of this type. Mistral adds a sliding window, Qwen2 biases on q, k and v, Qwen3 a
norm on each head's queries and keys; all use the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.checkpoints.families.base import GATED_ACTIVATIONS, HF_FAMILIES, Family, activation_of, epsilon_of
from workbench.checkpoints.families.layers import FULL, SLIDING, block_count, read_windows, write_layer_types
from workbench.checkpoints.families.rope import read_rope, write_rope
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.table import Table
from workbench.model import ModelConfig

TABLE: Table = {
    "model.embed_tokens.weight": "embedding.weight",
    "model.layers.{n}.input_layernorm.weight": "blocks.{n}.residual.attention_norm.weight",
    "model.layers.{n}.self_attn.q_proj.{p}": "blocks.{n}.attention.q_proj.{p}",
    "model.layers.{n}.self_attn.k_proj.{p}": "blocks.{n}.attention.k_proj.{p}",
    "model.layers.{n}.self_attn.v_proj.{p}": "blocks.{n}.attention.v_proj.{p}",
    "model.layers.{n}.self_attn.o_proj.{p}": "blocks.{n}.attention.o_proj.{p}",
    "model.layers.{n}.self_attn.q_norm.weight": "blocks.{n}.attention.q_norm.weight",
    "model.layers.{n}.self_attn.k_norm.weight": "blocks.{n}.attention.k_norm.weight",
    "model.layers.{n}.post_attention_layernorm.weight": "blocks.{n}.residual.mlp_norm.weight",
    "model.layers.{n}.mlp.gate_proj.{p}": "blocks.{n}.mlp.gate_proj.{p}",
    "model.layers.{n}.mlp.up_proj.{p}": "blocks.{n}.mlp.up_proj.{p}",
    "model.layers.{n}.mlp.down_proj.{p}": "blocks.{n}.mlp.down_proj.{p}",
    "model.norm.weight": "final_norm.weight",
    "lm_head.weight": "lm_head.weight",
    "model.layers.{n}.self_attn.rotary_emb.inv_freq": None,  # a buffer saved by old versions
}


def read_common(settings: Settings, *, context: int, base: float = 10000.0, **specific: Any) -> dict[str, Any]:
    """What LLaMA and its relatives have in common; `specific` fields of `ModelConfig` are added or replaced. `context` and
    `base` (of RoPE) hold where the file is silent."""
    heads = settings.integer("num_attention_heads")
    context = settings.integer("max_position_embeddings", default=context)
    return {
        "vocab_size": settings.integer("vocab_size"),
        "n_layers": settings.integer("num_hidden_layers"),
        "d_model": settings.integer("hidden_size"),
        "n_heads": heads,
        "n_kv_heads": settings.integer("num_key_value_heads", default=heads),
        "head_dim": settings.integer("head_dim") if settings.get("head_dim") is not None else None,
        "d_ff": settings.integer("intermediate_size"),
        "max_positions": context,
        "position": read_rope(settings, context, base),
        "norm": {"kind": "rmsnorm", "eps": settings.number("rms_norm_eps", default=1e-6)},
        "residual": "pre",
        "mlp": settings.one_of(GATED_ACTIVATIONS, "hidden_act", default="silu"),
        "final_norm": True,
        **specific,
    }


def write_common(config: ModelConfig) -> dict[str, Any]:
    return {
        "vocab_size": config.vocab_size,
        "num_hidden_layers": config.n_layers,
        "hidden_size": config.d_model,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.hidden,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": epsilon_of(config),
        "hidden_act": activation_of(GATED_ACTIVATIONS, config.mlp.kind),
        "tie_word_embeddings": config.tie_embeddings,
        **write_rope(config),
    }


# ---- llama ------------------------------------------------------------------------------------------------------


def _read_llama(settings: Settings) -> Mapping[str, Any]:
    bias = settings.flag("attention_bias", default=False)
    mlp_bias = settings.flag("mlp_bias", default=False)
    return read_common(settings, context=2048, attention_bias=bias, attention_out_bias=bias, mlp_bias=mlp_bias)


def _write_llama(config: ModelConfig) -> Mapping[str, Any]:
    return {**write_common(config), "attention_bias": config.attention_bias, "mlp_bias": config.mlp_bias}


@HF_FAMILIES.register(
    "llama",
    label="LLaMA",
    source="arXiv:2302.13971",
    help="LLaMA 1 to 3.3, SmolLM, TinyLlama and other models of type llama.",
)
def llama() -> Family:
    return Family(TABLE, _read_llama, _write_llama, prefix="model.", architecture="LlamaForCausalLM")


# ---- mistral ----------------------------------------------------------------------------------------------------


def _read_mistral(settings: Settings) -> Mapping[str, Any]:
    # Absent means the class's default of 4096; an explicit null means that there is no window.
    layers = block_count(settings)
    window = None if settings.silenced("sliding_window") else settings.integer("sliding_window", default=4096)
    return read_common(settings, context=131072, **read_windows(settings, layers, window, [SLIDING] * layers))


def _write_mistral(config: ModelConfig) -> Mapping[str, Any]:
    return {**write_common(config), "sliding_window": config.sliding_window}


@HF_FAMILIES.register(
    "mistral", label="Mistral", source="arXiv:2310.06825", help="Mistral 7B and models of type mistral, with or without a sliding window."
)
def mistral() -> Family:
    return Family(TABLE, _read_mistral, _write_mistral, prefix="model.", architecture="MistralForCausalLM")


# ---- qwen -------------------------------------------------------------------------------------------------------


def _qwen_windows(settings: Settings) -> dict[str, Any]:
    layers = block_count(settings)
    used = settings.flag("use_sliding_window", default=False) and not settings.silenced("sliding_window")
    window = settings.integer("sliding_window", default=4096) if used else None
    first = settings.integer("max_window_layers", default=28)
    return read_windows(settings, layers, window, [FULL if index < first else SLIDING for index in range(layers)])


def _write_qwen(config: ModelConfig) -> dict[str, Any]:
    window = config.sliding_window
    more: dict[str, Any] = {"use_sliding_window": window is not None, "sliding_window": window}
    if window is not None:  # older versions know the number of blocks without a window only
        more |= {"max_window_layers": 0, "layer_types": write_layer_types(config)}
    return {**write_common(config), **more}


def _read_qwen2(settings: Settings) -> Mapping[str, Any]:
    return read_common(settings, context=32768, attention_bias=True, **_qwen_windows(settings))


@HF_FAMILIES.register("qwen2", label="Qwen2", source="arXiv:2407.10671", help="Qwen2 and Qwen2.5, with biases on queries, keys and values.")
def qwen2() -> Family:
    return Family(TABLE, _read_qwen2, _write_qwen, prefix="model.", architecture="Qwen2ForCausalLM")


def _read_qwen3(settings: Settings) -> Mapping[str, Any]:
    bias = settings.flag("attention_bias", default=False)
    more: dict[str, Any] = {"head_dim": settings.integer("head_dim", default=128), "qk_norm": "head"}
    return read_common(settings, context=32768, attention_bias=bias, attention_out_bias=bias, **_qwen_windows(settings), **more)


def _write_qwen3(config: ModelConfig) -> Mapping[str, Any]:
    return {**_write_qwen(config), "attention_bias": config.attention_bias}


@HF_FAMILIES.register(
    "qwen3", label="Qwen3", source="arXiv:2505.09388", help="Dense Qwen3 models, which normalise each head's queries and keys."
)
def qwen3() -> Family:
    return Family(TABLE, _read_qwen3, _write_qwen3, prefix="model.", architecture="Qwen3ForCausalLM")
