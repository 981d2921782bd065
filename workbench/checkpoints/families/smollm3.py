"""SmolLM3: LLaMA with every fourth block unrotated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.checkpoints.families.base import HF_FAMILIES, Family
from workbench.checkpoints.families.layers import FULL, SLIDING, block_count, read_unturned, read_windows, write_layer_types
from workbench.checkpoints.families.llama import TABLE, read_common, write_common
from workbench.checkpoints.families.settings import Settings
from workbench.model import ModelConfig


def read(settings: Settings) -> Mapping[str, Any]:
    layers = block_count(settings)
    bias = settings.flag("attention_bias", default=False)
    nope_every = read_unturned(settings, layers, usual_interval=4)
    windowed = settings.flag("use_sliding_window", default=False) and settings.get("sliding_window") is not None
    unturned = [nope_every is not None and (index + 1) % nope_every == 0 for index in range(layers)]
    return read_common(
        settings,
        context=32768,
        base=2e6,
        n_kv_heads=settings.integer("num_key_value_heads", default=4),
        nope_every=nope_every,
        attention_bias=bias,
        attention_out_bias=bias,
        mlp_bias=settings.flag("mlp_bias", default=False),
        **read_windows(
            settings, layers, settings.integer("sliding_window") if windowed else None, [SLIDING if flag else FULL for flag in unturned]
        ),
    )


def write(config: ModelConfig) -> Mapping[str, Any]:
    written = write_common(config)
    return {
        **written,
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
        "no_rope_layers": [int(config.positional(index)) for index in range(config.n_layers)],
        "no_rope_layer_interval": config.nope_every or config.n_layers + 1,
        "use_sliding_window": config.sliding_window is not None,
        "sliding_window": config.sliding_window,
        "layer_types": write_layer_types(config),
    }


@HF_FAMILIES.register(
    "smollm3", label="SmolLM3", source="arXiv:2501.18795", help="SmolLM3, whose every fourth block keeps queries and keys unrotated."
)
def smollm3() -> Family:
    return Family(TABLE, read, write, prefix="model.", architecture="SmolLM3ForCausalLM", tied_by_default=True)
