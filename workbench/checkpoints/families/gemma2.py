"""Gemma-2: four RMSNorms per block with gains stored around 0, GeGLU, soft-caps, a window in every second block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.checkpoints.families.base import GATED_ACTIVATIONS, HF_FAMILIES, Family, activation_of
from workbench.checkpoints.families.layers import FULL, SLIDING, block_count, read_windows, write_layer_types
from workbench.checkpoints.families.llama import TABLE as LLAMA_TABLE
from workbench.checkpoints.families.llama import read_common, write_common
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.table import Table
from workbench.model import ModelConfig

_NORMS = "blocks.{n}.residual."
TABLE: Table = {
    **{key: entry for key, entry in LLAMA_TABLE.items() if not key.endswith(("q_norm.weight", "k_norm.weight"))},
    "model.layers.{n}.input_layernorm.weight": _NORMS + "attention_norm.weight",
    "model.layers.{n}.post_attention_layernorm.weight": _NORMS + "attention_out_norm.weight",
    "model.layers.{n}.pre_feedforward_layernorm.weight": _NORMS + "mlp_norm.weight",
    "model.layers.{n}.post_feedforward_layernorm.weight": _NORMS + "mlp_out_norm.weight",
}


def read(settings: Settings) -> Mapping[str, Any]:
    settings.refuse("use_bidirectional_attention", (False,))
    layers = block_count(settings)
    window = None if settings.silenced("sliding_window") else settings.integer("sliding_window", default=4096)
    bias = settings.flag("attention_bias", default=False)
    scalar = settings.number("query_pre_attn_scalar", default=256.0)
    if scalar <= 0:
        raise settings.wrong("query_pre_attn_scalar", scalar, "a positive number")
    return read_common(
        settings,
        context=8192,
        head_dim=settings.integer("head_dim", default=256),
        norm={"kind": "rmsnorm", "eps": settings.number("rms_norm_eps", default=1e-6), "unit_offset": True},
        residual="double",
        mlp=settings.one_of(GATED_ACTIVATIONS, "hidden_activation", "hidden_act", default="gelu_pytorch_tanh"),
        attention_bias=bias,
        attention_out_bias=bias,
        attention_scale=scalar**-0.5,
        attention_softcap=_cap(settings, "attn_logit_softcapping", 50.0),
        logit_softcap=_cap(settings, "final_logit_softcapping", 30.0),
        scale_embeddings=True,
        **read_windows(settings, layers, window, [FULL if index % 2 else SLIDING for index in range(layers)]),
    )


def _cap(settings: Settings, key: str, usual: float) -> float | None:
    return None if settings.silenced(key) else settings.number(key, default=usual)


def write(config: ModelConfig) -> Mapping[str, Any]:
    written = write_common(config)
    del written["hidden_act"]
    return {
        **written,
        "hidden_activation": activation_of(GATED_ACTIVATIONS, config.mlp.kind),
        "attention_bias": config.attention_bias,
        "query_pre_attn_scalar": max(1, round(config.score_scale**-2)),  # a whole number there; reading back shows a loss
        "attn_logit_softcapping": config.attention_softcap,
        "final_logit_softcapping": config.logit_softcap,
        "sliding_window": config.sliding_window,
        "layer_types": write_layer_types(config),
    }


@HF_FAMILIES.register("gemma2", label="Gemma-2", source="arXiv:2408.00118", help="Gemma-2 2B, 9B and 27B; other Gemmas are other types.")
def gemma2() -> Family:
    return Family(TABLE, read, write, prefix="model.", architecture="Gemma2ForCausalLM", tied_by_default=True)
