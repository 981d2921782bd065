"""Google's Gemma 2."""

from __future__ import annotations

from functools import partial
from typing import Any

from workbench.model.config import ModelConfig
from workbench.model.presets.base import Preset
from workbench.model.presets.llama import llama


def gemma2(layers: int, width: int, heads: int, kv_heads: int, head_width: int, hidden: int, **changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "vocab_size": 256000, "max_positions": 8192, "head_dim": head_width, "mlp": "geglu_tanh", "residual": "double",
        "norm": {"kind": "rmsnorm", "eps": 1e-6, "unit_offset": True}, "sliding_window": 4096, "full_attention_every": 2,
        "attention_softcap": 50.0, "logit_softcap": 30.0, "scale_embeddings": True, "tie_embeddings": True,
        "init": {"kind": "gpt2", "std": 0.02, "scale_residual": False},
    }  # fmt: skip
    return llama(layers, width, heads, kv_heads, hidden, **{**fields, **changes})


_preset = partial(Preset, family="Gemma", year=2024, source="arXiv:2408.00118")
_IDEA = "A norm before and after each branch, every second layer sees only the last 4,096 tokens, and scores and logits are soft-capped"

MEMBERS = (
    _preset("gemma2-2b", "Gemma 2 2B", f"{_IDEA}.", gemma2(26, 2304, 8, 4, 256, 9216, attention_scale=256**-0.5), 2_614_341_888),
    _preset("gemma2-9b", "Gemma 2 9B", f"{_IDEA}.", gemma2(42, 3584, 16, 8, 256, 14336, attention_scale=256**-0.5), 9_241_705_984),
    _preset(
        "gemma2-27b", "Gemma 2 27B", f"{_IDEA}; its score scale is 1/√144 though heads are 128 wide.",
        gemma2(46, 4608, 32, 16, 128, 36864, attention_scale=144**-0.5), 27_227_128_320,
    ),
)  # fmt: skip
