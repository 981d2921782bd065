"""Hugging Face's SmolLM2 and SmolLM3."""

from __future__ import annotations

from functools import partial

from workbench.model.config import ModelConfig
from workbench.model.presets.base import Preset
from workbench.model.presets.llama import llama


def _second(layers: int, width: int, heads: int, kv_heads: int, hidden: int, base: float) -> ModelConfig:
    return llama(
        layers, width, heads, kv_heads, hidden, vocab_size=49152, max_positions=8192, position={"kind": "rope", "base": base},
        tie_embeddings=True, init={"kind": "gpt2", "std": width**-0.5, "scale_residual": False},
    )  # fmt: skip


_THIRD = llama(
    36, 2048, 16, 4, 11008, vocab_size=128256, max_positions=65536, position={"kind": "rope", "base": 5e6}, nope_every=4,
    norm={"kind": "rmsnorm", "eps": 1e-6}, tie_embeddings=True,
)  # fmt: skip
_two = partial(Preset, family="SmolLM", year=2025, source="arXiv:2502.02737")
_three = partial(Preset, family="SmolLM", year=2025, source="Hugging Face 2025 (SmolLM3)")

MEMBERS = (
    _two(
        "smollm2-135m", "SmolLM2 135M", "The starter model's architecture: LLaMA's, deep and narrow, with tied embeddings.",
        _second(30, 576, 9, 3, 1536, 1e5), 134_515_008,
    ),
    _two(
        "smollm2-360m", "SmolLM2 360M", "LLaMA's architecture, deep and narrow, with tied embeddings.",
        _second(32, 960, 15, 5, 2560, 1e5), 361_821_120,
    ),
    _two(
        "smollm2-1.7b", "SmolLM2 1.7B", "LLaMA's architecture with a key/value head for each query head and tied embeddings.",
        _second(24, 2048, 32, 32, 8192, 1.3e5), 1_711_376_384,
    ),
    _three(
        "smollm3-3b", "SmolLM3 3B", "Every fourth layer has no positions at all, which helps with long texts.", _THIRD, 3_075_098_624,
    ),
)  # fmt: skip
