"""What caches would take at a context, for the loaded model: counted by the same rule that reserves them. Qt-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from workbench.caches import CACHE_PRESETS, CacheConfig, cache_nbytes

CONTEXTS: Final = (2048, 8192, 32768)
FLOAT16, FLOAT32 = 2, 4


@dataclass(frozen=True)
class MemoryRow:
    """One cache at one context. Ratios say how many times smaller it is; `bare` is without tokens and layers that stay exact."""

    label: str
    nbytes: int
    against_float16: float
    against_float32: float
    bare_against_float16: float
    current: bool


def plain_nbytes(sizes: Any, tokens: int, width: float) -> float:
    """Keys and values as plain numbers of `width` bytes."""
    return 2 * sizes.n_layers * sizes.kv_heads * sizes.head_width * tokens * width


def bare(config: CacheConfig) -> CacheConfig:
    """The same storage for every token and layer."""
    return replace(config, window=0, sinks=0, edge_layers=0, layer_overrides=())


def memory_rows(sizes: Any, tokens: int, current: CacheConfig, dtype: Any) -> list[MemoryRow]:
    """The presets, and the settings in use where they are none of them; `dtype` is that of what stays exact."""
    rows = [(preset.label, preset.config) for preset in CACHE_PRESETS.values()]
    stored = replace(current, capacity=None, overflow=CacheConfig().overflow)
    if current.use_cache and all(config != stored for _, config in rows):
        rows.append(("As chosen", stored))
    return [_row(label, config, sizes, tokens, dtype, config == stored) for label, config in rows]


def _row(label: str, config: CacheConfig, sizes: Any, tokens: int, dtype: Any, current: bool) -> MemoryRow:
    nbytes = cache_nbytes(config, sizes, tokens, dtype=dtype)
    least = cache_nbytes(bare(config), sizes, tokens, dtype=dtype)
    half, whole = plain_nbytes(sizes, tokens, FLOAT16), plain_nbytes(sizes, tokens, FLOAT32)
    return MemoryRow(label, nbytes, half / nbytes, whole / nbytes, half / least, current)


def contexts(most: int) -> Sequence[int]:
    """The usual lengths that the model can hold, and its own."""
    return sorted({*(n for n in CONTEXTS if n < most), min(most, CONTEXTS[-1])})
