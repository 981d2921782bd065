"""Microsoft's Phi-2."""

from __future__ import annotations

from typing import Any

from workbench.model.config import ModelConfig
from workbench.model.presets.base import Preset


def phi(layers: int, width: int, heads: int, **changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "vocab_size": 51200, "n_layers": layers, "d_model": width, "n_heads": heads, "max_positions": 2048,
        "position": {"kind": "rope", "rotary_fraction": 0.4}, "norm": "layernorm", "mlp": "gelu_tanh",
        "residual": {"kind": "parallel", "shared_norm": True}, "tie_embeddings": False,
        "attention_bias": True, "attention_out_bias": True, "mlp_bias": True, "head_bias": True,
    }  # fmt: skip
    return ModelConfig(**{**fields, **changes})


MEMBERS = (
    Preset(
        "phi-2", "Phi-2 (2.7B)", "Attention and MLP side by side after one norm, 0.4 of each head rotated, and a bias on every logit.",
        phi(32, 2560, 32), 2_779_683_840, family="Phi", year=2023, source="Microsoft 2023 (Phi-2)",
    ),
)  # fmt: skip
