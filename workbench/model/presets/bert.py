"""BERT: bidirectional, trained by filling in masked tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

from workbench.model.config import ModelConfig
from workbench.model.presets.base import Preset


def bert(layers: int, width: int, heads: int, **changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "vocab_size": 30522, "n_layers": layers, "d_model": width, "n_heads": heads, "max_positions": 512, "causal": False,
        "position": "learned", "norm": {"kind": "layernorm", "eps": 1e-12}, "residual": "post", "mlp": "gelu",
        "embedding_norm": True, "segment_types": 2, "head_transform": True, "head_bias": True,
        "attention_bias": True, "attention_out_bias": True, "mlp_bias": True, "tie_embeddings": True,
        "init": {"kind": "gpt2", "std": 0.02, "scale_residual": False},
    }  # fmt: skip
    return ModelConfig(**{**fields, **changes})


_preset = partial(Preset, family="BERT", year=2018, source="arXiv:1810.04805")
_IDEA = "Every token sees every other, post-norm, with a norm on the embeddings; it fills in masked tokens and cannot write"

MEMBERS = (
    _preset("bert-base", "BERT base (110M)", f"{_IDEA}; 12 layers of width 768.", bert(12, 768, 12), 109_514_298),
    _preset("bert-large", "BERT large (335M)", f"{_IDEA}; 24 layers of width 1024.", bert(24, 1024, 16), 335_174_458),
)
