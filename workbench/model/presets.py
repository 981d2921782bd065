"""Named architectures, as the literature means them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.model.config import ModelConfig


@dataclass(frozen=True)
class Preset:
    """A named architecture. `parameters` is the exact count, checked in the tests."""

    name: str
    label: str
    help: str
    source: str
    config: ModelConfig
    parameters: int


def _gpt2(layers: int, width: int, heads: int, **changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "vocab_size": 50257, "n_layers": layers, "d_model": width, "n_heads": heads, "max_positions": 1024,
        "position": "learned", "norm": "layernorm", "mlp": "gelu_tanh",
        "attention_bias": True, "attention_out_bias": True, "mlp_bias": True, "tie_embeddings": True,
    }  # fmt: skip
    return ModelConfig(**{**fields, **changes})


def _llama(layers: int, width: int, heads: int, kv_heads: int, hidden: int, **changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "vocab_size": 49152, "n_layers": layers, "d_model": width, "n_heads": heads, "n_kv_heads": kv_heads, "d_ff": hidden,
        "max_positions": 8192, "position": "rope", "norm": "rmsnorm", "mlp": "swiglu", "tie_embeddings": True,
    }  # fmt: skip
    return ModelConfig(**{**fields, **changes})


def _smollm2(layers: int, width: int, heads: int, kv_heads: int, hidden: int, base: float) -> ModelConfig:
    init = {"kind": "gpt2", "std": width**-0.5, "scale_residual": False}
    return _llama(layers, width, heads, kv_heads, hidden, position={"kind": "rope", "base": base}, init=init)


_GPT2 = "Radford et al. 2019"
_SMOLLM2 = "arXiv:2502.02737"
_TINY = {"vocab_size": 259, "max_positions": 256}

_LIST = (
    Preset("gpt2", "GPT-2 (124M)", "12 layers of width 768.", _GPT2, _gpt2(12, 768, 12), 124_439_808),
    Preset("gpt2-medium", "GPT-2 Medium (355M)", "24 layers of width 1024.", _GPT2, _gpt2(24, 1024, 16), 354_823_168),
    Preset("gpt2-large", "GPT-2 Large (774M)", "36 layers of width 1280.", _GPT2, _gpt2(36, 1280, 20), 774_030_080),
    Preset("gpt2-xl", "GPT-2 XL (1.6B)", "48 layers of width 1600.", _GPT2, _gpt2(48, 1600, 25), 1_557_611_200),
    Preset("smollm2-135m", "SmolLM2 135M", "The starter model's architecture.", _SMOLLM2, _smollm2(30, 576, 9, 3, 1536, 1e5), 134_515_008),
    Preset("smollm2-360m", "SmolLM2 360M", "32 layers of width 960.", _SMOLLM2, _smollm2(32, 960, 15, 5, 2560, 1e5), 361_821_120),
    Preset("smollm2-1.7b", "SmolLM2 1.7B", "24 layers of width 2048.", _SMOLLM2, _smollm2(24, 2048, 32, 32, 8192, 1.3e5), 1_711_376_384),
    Preset(
        "tiny-llama", "Tiny LLaMA-style", "RoPE, RMSNorm, SwiGLU; trains from scratch in minutes.", "arXiv:2302.13971",
        _llama(4, 128, 4, 4, 344, **_TINY), 824_832,
    ),
    Preset(
        "tiny-gpt2", "Tiny GPT-2-style", "Learned positions, LayerNorm, GELU and biases; trains from scratch in minutes.", _GPT2,
        _gpt2(4, 128, 4, **_TINY), 859_264,
    ),
)  # fmt: skip

PRESETS: dict[str, Preset] = {preset.name: preset for preset in _LIST}
