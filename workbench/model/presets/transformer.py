"""The Transformer of 2017, its decoder alone."""

from __future__ import annotations

from functools import partial
from typing import Any

from workbench.model.config import ModelConfig
from workbench.model.presets.base import Preset


def transformer(width: int, heads: int, hidden: int, layers: int = 6, **changes: Any) -> ModelConfig:
    """Projections of attention without biases and MLPs with them, as the paper's equations have it. Weights are drawn with
    deviation 1/√width, so that embeddings times √width have unit size."""
    fields: dict[str, Any] = {
        "vocab_size": 37000, "n_layers": layers, "d_model": width, "n_heads": heads, "d_ff": hidden, "max_positions": 512,
        "position": "sinusoidal", "norm": "layernorm", "residual": "post", "mlp": "relu", "mlp_bias": True, "tie_embeddings": True,
        "init": {"kind": "gpt2", "std": width**-0.5, "scale_residual": False},
    }  # fmt: skip
    return ModelConfig(**{**fields, **changes})


_preset = partial(Preset, family="Transformer", year=2017, source="arXiv:1706.03762")

MEMBERS = (
    _preset(
        "transformer-2017", "Transformer 2017, base",
        "The decoder of the original Transformer without its encoder: post-norm, sinusoidal positions, ReLU, tied embeddings.",
        transformer(512, 8, 2048), 37_846_016,
    ),
    _preset(
        "transformer-2017-big", "Transformer 2017, big",
        "The wider decoder of the original paper, with 16 heads; post-norm, sinusoidal positions, ReLU, tied embeddings.",
        transformer(1024, 16, 4096), 113_440_768,
    ),
)  # fmt: skip
