"""BLOOM: ALiBi at scale."""

from __future__ import annotations

from functools import partial
from typing import Any

from workbench.model.config import ModelConfig
from workbench.model.presets.base import Preset


def bloom(layers: int, width: int, heads: int, **changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "vocab_size": 250880, "n_layers": layers, "d_model": width, "n_heads": heads, "max_positions": 2048,
        "position": "alibi", "norm": "layernorm", "mlp": "gelu_tanh", "embedding_norm": True,
        "attention_bias": True, "attention_out_bias": True, "mlp_bias": True, "tie_embeddings": True,
    }  # fmt: skip
    return ModelConfig(**{**fields, **changes})


_preset = partial(Preset, family="BLOOM", year=2022, source="arXiv:2211.05100")
_IDEA = "Distance lowers attention scores (ALiBi), and a norm follows the embeddings of a quarter million tokens"

MEMBERS = (
    _preset("bloom-560m", "BLOOM 560M", f"{_IDEA}; 24 layers of width 1024.", bloom(24, 1024, 16), 559_214_592),
    _preset("bloom-7b1", "BLOOM 7.1B", f"{_IDEA}; 30 layers of width 4096.", bloom(30, 4096, 32), 7_069_016_064),
)
