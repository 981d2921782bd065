"""OLMo-2: RMSNorm on what leaves each branch, and over all queries and all keys at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.checkpoints.families.base import HF_FAMILIES, Family
from workbench.checkpoints.families.llama import TABLE as LLAMA_TABLE
from workbench.checkpoints.families.llama import read_common, write_common
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.table import Table
from workbench.model import ModelConfig

_NORMS = "blocks.{n}.residual."
TABLE: Table = {
    **{key: entry for key, entry in LLAMA_TABLE.items() if not key.endswith("input_layernorm.weight")},
    "model.layers.{n}.post_attention_layernorm.weight": _NORMS + "attention_out_norm.weight",
    "model.layers.{n}.post_feedforward_layernorm.weight": _NORMS + "mlp_out_norm.weight",
}


def read(settings: Settings) -> Mapping[str, Any]:
    bias = settings.flag("attention_bias", default=False)
    return read_common(
        settings,
        context=2048,
        norm={"kind": "rmsnorm", "eps": settings.number("rms_norm_eps", default=1e-5)},
        residual="reordered",
        qk_norm="full",
        attention_bias=bias,
        attention_out_bias=bias,
    )


def write(config: ModelConfig) -> Mapping[str, Any]:
    return {**write_common(config), "attention_bias": config.attention_bias}


@HF_FAMILIES.register(
    "olmo2", label="OLMo-2", source="arXiv:2501.00656", help="OLMo-2 1B to 32B; the first OLMo and OLMo-3 are other types."
)
def olmo2() -> Family:
    return Family(TABLE, read, write, prefix="model.", architecture="Olmo2ForCausalLM")
