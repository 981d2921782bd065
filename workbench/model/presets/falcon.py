"""TII's Falcon in its three layouts."""

from __future__ import annotations

from functools import partial
from typing import Any

from workbench.model.config import ModelConfig
from workbench.model.presets.base import Preset


def falcon(layers: int, width: int, heads: int, kv_heads: int, *, shared_norm: bool, **changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "vocab_size": 65024, "n_layers": layers, "d_model": width, "n_heads": heads, "n_kv_heads": kv_heads, "max_positions": 2048,
        "position": "rope", "norm": "layernorm", "residual": {"kind": "parallel", "shared_norm": shared_norm}, "mlp": "gelu",
        "tie_embeddings": True,
    }  # fmt: skip
    return ModelConfig(**{**fields, **changes})


_BIASES = {"attention_bias": True, "attention_out_bias": True, "mlp_bias": True}
_RW = falcon(
    24, 2048, 32, 32, shared_norm=False, vocab_size=50304, residual="pre",
    position={"kind": "alibi", "divided": True, "rounded": True}, **_BIASES,
)  # fmt: skip
_preset = partial(Preset, family="Falcon", year=2023, source="arXiv:2311.16867")

MEMBERS = (
    _preset(
        "falcon-rw-1b", "Falcon-RW 1B", "One block after the other with ALiBi, whose biases are divided by √head width and rounded.",
        _RW, 1_311_625_216,
    ),
    _preset(
        "falcon-7b", "Falcon 7B", "All 71 query heads share one key and value head; attention and MLP run side by side after one norm.",
        falcon(32, 4544, 71, 1, shared_norm=True), 6_921_720_704,
    ),
    _preset(
        "falcon-40b", "Falcon 40B", "Sixteen query heads share each key/value head; attention and MLP run side by side after a norm each.",
        falcon(60, 8192, 128, 8, shared_norm=False), 41_303_293_952,
    ),
)  # fmt: skip
