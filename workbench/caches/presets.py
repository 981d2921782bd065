"""Caches that people pick by name: settings that belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.caches.base import KV_CODECS
from workbench.caches.config import CacheConfig


@dataclass(frozen=True)
class CachePreset:
    """A cache with a name. `help` says in one sentence what is kept and for whom it is."""

    name: str
    label: str
    help: str
    config: CacheConfig


def _turboquant(key_bits: int, value_bits: int, **settings: Any) -> CacheConfig:
    """With the first tokens and the recent ones exact: without them, the same bits cost several times the quality."""
    keys, values = (KV_CODECS.choose("turboquant", bits=bits) for bits in (key_bits, value_bits))
    return CacheConfig(codec=keys, value_codec=values, window=64, sinks=4, **settings)


_ALL = (
    CachePreset("exact", "Exact", "Every key and value as it was computed.", CacheConfig()),
    CachePreset(
        "safe",
        "Safe · K8/V4",
        "Keys in 8 bits and values in 4, the first 4 tokens and the last 64 exact.",
        _turboquant(8, 4),
    ),
    CachePreset(
        "balanced",
        "Balanced · K4/V4",
        "Keys and values in 4 bits, 8 in the first and the last layer, the first 4 tokens and the last 64 exact.",
        _turboquant(4, 4, edge_layers=1),
    ),
    CachePreset(
        "small",
        "Small · K3/V3",
        "Keys and values in 3 bits, the first 4 tokens and the last 64 exact: visibly lossy.",
        _turboquant(3, 3),
    ),
)

CACHE_PRESETS: dict[str, CachePreset] = {preset.name: preset for preset in _ALL}
"""In the order in which they are offered, the most exact one first."""
