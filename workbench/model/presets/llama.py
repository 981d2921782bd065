"""Meta's LLaMA, generations 1 to 3.2."""

from __future__ import annotations

from functools import partial
from typing import Any

from workbench.model.config import ModelConfig
from workbench.model.presets.base import Preset


def llama(layers: int, width: int, heads: int, kv_heads: int, hidden: int, **changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "vocab_size": 32000, "n_layers": layers, "d_model": width, "n_heads": heads, "n_kv_heads": kv_heads, "d_ff": hidden,
        "max_positions": 2048, "position": "rope", "norm": "rmsnorm", "mlp": "swiglu", "tie_embeddings": False,
    }  # fmt: skip
    return ModelConfig(**{**fields, **changes})


def _first(layers: int, width: int, heads: int, hidden: int, eps: float = 1e-6) -> ModelConfig:
    return llama(layers, width, heads, heads, hidden, norm={"kind": "rmsnorm", "eps": eps})


def _second(layers: int, width: int, heads: int, kv_heads: int, hidden: int) -> ModelConfig:
    return llama(layers, width, heads, kv_heads, hidden, max_positions=4096)


def _third(layers: int, width: int, heads: int, hidden: int, factor: float | None = None, **changes: Any) -> ModelConfig:
    """`factor`: how far the rotation is slowed so that 131,072 tokens fit (generations 3.1 and 3.2)."""
    position: dict[str, Any] = {"kind": "rope", "base": 5e5}
    if factor is not None:
        position["scaling"] = {"kind": "llama3", "factor": factor, "low": 1.0, "high": 4.0, "original": 8192}
    context = 8192 if factor is None else 131072
    return llama(layers, width, heads, 8, hidden, vocab_size=128256, max_positions=context, position=position, **changes)


_one = partial(Preset, family="LLaMA", year=2023, source="arXiv:2302.13971")
_two = partial(Preset, family="LLaMA", year=2023, source="arXiv:2307.09288")
_three = partial(Preset, family="LLaMA", year=2024, source="arXiv:2407.21783")
_IDEA = "RMSNorm before each branch, SwiGLU, rotary positions and no bias anywhere"
_WORDS = "Four times the vocabulary, shared key/value heads and a rotation base of 500,000 for 8,192 tokens."
_TWICE = "The first LLaMA with twice the context, 4,096 tokens."
_SCALED = "LLaMA 3 with its slow rotations slowed eightfold, so that 131,072 tokens fit"

MEMBERS = (
    _one("llama1-7b", "LLaMA 7B", f"{_IDEA}; 2,048 tokens.", _first(32, 4096, 32, 11008), 6_738_415_616),
    _one("llama1-13b", "LLaMA 13B", f"{_IDEA}; 2,048 tokens.", _first(40, 5120, 40, 13824), 13_015_864_320),
    _one("llama1-33b", "LLaMA 33B", f"{_IDEA}; 2,048 tokens.", _first(60, 6656, 52, 17920), 32_528_943_616),
    _one("llama1-65b", "LLaMA 65B", f"{_IDEA}; 2,048 tokens.", _first(80, 8192, 64, 22016, eps=1e-5), 65_285_660_672),
    _two("llama2-7b", "LLaMA 2 7B", _TWICE, _second(32, 4096, 32, 32, 11008), 6_738_415_616),
    _two("llama2-13b", "LLaMA 2 13B", _TWICE, _second(40, 5120, 40, 40, 13824), 13_015_864_320),
    _two(
        "llama2-70b", "LLaMA 2 70B", "Eight query heads share each key/value head, which makes the KV cache eight times smaller.",
        _second(80, 8192, 64, 8, 28672), 68_976_648_192,
    ),
    _three("llama3-8b", "LLaMA 3 8B", _WORDS, _third(32, 4096, 32, 14336), 8_030_261_248),
    _three("llama3-70b", "LLaMA 3 70B", _WORDS, _third(80, 8192, 64, 28672), 70_553_706_496),
    _three("llama3.1-8b", "LLaMA 3.1 8B", f"{_SCALED}.", _third(32, 4096, 32, 14336, 8.0), 8_030_261_248),
    _three("llama3.1-70b", "LLaMA 3.1 70B", f"{_SCALED}.", _third(80, 8192, 64, 28672, 8.0), 70_553_706_496),
    _three(
        "llama3.2-1b", "LLaMA 3.2 1B", "A small one cut from LLaMA 3.1, with tied embeddings and rotations slowed 32-fold.",
        _third(16, 2048, 32, 8192, 32.0, tie_embeddings=True), 1_235_814_400,
    ),
    _three(
        "llama3.2-3b", "LLaMA 3.2 3B", "A small one cut from LLaMA 3.1, with tied embeddings and rotations slowed 32-fold.",
        _third(28, 3072, 24, 8192, 32.0, tie_embeddings=True), 3_212_749_824,
    ),
)  # fmt: skip
