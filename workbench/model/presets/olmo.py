"""Ai2's OLMo 2."""

from __future__ import annotations

from functools import partial
from typing import Any

from workbench.model.config import ModelConfig
from workbench.model.presets.base import Preset
from workbench.model.presets.llama import llama


def olmo2(layers: int, width: int, heads: int, hidden: int, **changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "vocab_size": 100352, "max_positions": 4096, "position": {"kind": "rope", "base": 5e5}, "residual": "reordered",
        "qk_norm": "full", "norm": {"kind": "rmsnorm", "eps": 1e-6}, "init": {"kind": "gpt2", "std": 0.02, "scale_residual": False},
    }  # fmt: skip
    return llama(layers, width, heads, heads, hidden, **{**fields, **changes})


_preset = partial(Preset, family="OLMo", year=2025, source="arXiv:2501.00656")
_IDEA = "Norms sit on what leaves each branch, and whole queries and keys are normalised before they are split into heads"

MEMBERS = (
    _preset("olmo2-1b", "OLMo 2 1B", f"{_IDEA}; 16 layers.", olmo2(16, 2048, 16, 8192), 1_484_916_736),
    _preset("olmo2-7b", "OLMo 2 7B", f"{_IDEA}; 32 layers.", olmo2(32, 4096, 32, 11008), 7_298_617_344),
)
