"""Caches by name: the engine's presets and none, as people pick them from a list. Imports the engine's types."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from workbench.caches import CACHE_PRESETS, CacheConfig, CachePreset

OFF: Final = "off"
OTHER: Final = "other"
NO_CACHE: Final = CachePreset(
    OFF, "No cache", "Computes everything again for each token: slow, and the proof of what a cache changes.", CacheConfig(use_cache=False)
)


def caches() -> tuple[CachePreset, ...]:
    """Off, and the presets of the engine."""
    return (NO_CACHE, *CACHE_PRESETS.values())


def name_of(cache: CacheConfig) -> str:
    """The entry of `caches` that stores tokens like this, whatever the context length and what happens when it is full."""
    if not cache.use_cache:
        return OFF
    plain = CacheConfig()
    stored = replace(cache, capacity=plain.capacity, overflow=plain.overflow, track_error=plain.track_error)
    return next((preset.name for preset in caches() if preset.config == stored), OTHER)


def named(name: str, old: CacheConfig) -> CacheConfig:
    """The cache of that entry, with the context of the `old` one where that is possible."""
    if name == OFF:
        return replace(old, use_cache=False)
    preset = CACHE_PRESETS[name].config
    kept = replace(preset, capacity=old.capacity, overflow=old.overflow, track_error=old.track_error)
    return preset if kept.problems() else kept
