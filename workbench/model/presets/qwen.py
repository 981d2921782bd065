"""Alibaba's Qwen2.5 and Qwen3."""

from __future__ import annotations

from functools import partial
from typing import Any

from workbench.model.config import ModelConfig
from workbench.model.presets.base import Preset
from workbench.model.presets.llama import llama


def _qwen(layers: int, width: int, heads: int, kv_heads: int, hidden: int, **changes: Any) -> ModelConfig:
    fields: dict[str, Any] = {
        "vocab_size": 151936, "position": {"kind": "rope", "base": 1e6}, "norm": {"kind": "rmsnorm", "eps": 1e-6},
    }  # fmt: skip
    return llama(layers, width, heads, kv_heads, hidden, **{**fields, **changes})


def _second(layers: int, width: int, heads: int, kv_heads: int, hidden: int, **changes: Any) -> ModelConfig:
    return _qwen(layers, width, heads, kv_heads, hidden, **{"max_positions": 32768, "attention_bias": True, **changes})


def _third(layers: int, width: int, heads: int, hidden: int, tied: bool) -> ModelConfig:
    return _qwen(layers, width, heads, 8, hidden, head_dim=128, qk_norm="head", max_positions=40960, tie_embeddings=tied)


_two = partial(Preset, family="Qwen", year=2024, source="arXiv:2412.15115")
_three = partial(Preset, family="Qwen", year=2025, source="arXiv:2505.09388")
_BIASED = "LLaMA's architecture with biases on queries, keys and values only"
_NORMED = "The biases of Qwen2.5 give way to a norm on each head's queries and keys, and heads are 128 wide whatever the width"

MEMBERS = (
    _two("qwen2.5-0.5b", "Qwen2.5 0.5B", f"{_BIASED}; tied.", _second(24, 896, 14, 2, 4864, tie_embeddings=True), 494_032_768),
    _two(
        "qwen2.5-1.5b", "Qwen2.5 1.5B", f"{_BIASED}; tied.",
        _second(28, 1536, 12, 2, 8960, tie_embeddings=True, max_positions=131072), 1_543_714_304,
    ),
    _two(
        "qwen2.5-7b", "Qwen2.5 7B", f"{_BIASED}; untied.",
        _second(28, 3584, 28, 4, 18944, vocab_size=152064, max_positions=131072), 7_615_616_512,
    ),
    _three("qwen3-0.6b", "Qwen3 0.6B", f"{_NORMED}.", _third(28, 1024, 16, 3072, True), 596_049_920),
    _three("qwen3-1.7b", "Qwen3 1.7B", f"{_NORMED}.", _third(28, 2048, 16, 6144, True), 1_720_574_976),
    _three("qwen3-4b", "Qwen3 4B", f"{_NORMED}.", _third(36, 2560, 32, 9728, True), 4_022_468_096),
    _three("qwen3-8b", "Qwen3 8B", f"{_NORMED}.", _third(36, 4096, 32, 12288, False), 8_190_735_360),
)  # fmt: skip
