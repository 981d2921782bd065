"""Settings that differ from block to block, as config.json lists them: which blocks have a window, which turn nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.checkpoints.families.settings import Settings
from workbench.core.errors import ModelError
from workbench.model import ModelConfig

FULL, SLIDING = "full_attention", "sliding_attention"
_MOST = 4096
"""Blocks that a list is made for; no model has so many, and a damaged file may claim any number."""


def block_count(settings: Settings) -> int:
    layers = settings.integer("num_hidden_layers")
    if not 0 <= layers <= _MOST:
        raise settings.wrong("num_hidden_layers", layers, f"a number up to {_MOST}")
    return layers


def every(blocks: Sequence[int], layers: int) -> int | None:
    """n where `blocks` (from 0, ascending) are every n-th of `layers`; None for no regular pattern or no blocks."""
    if not blocks or list(blocks) != list(range(blocks[0], layers, blocks[0] + 1)):
        return None
    return blocks[0] + 1


def read_windows(settings: Settings, layers: int, window: int | None, usual: Sequence[str]) -> dict[str, Any]:
    """`sliding_window` and `full_attention_every` from `layer_types`, or from `usual` where the file has none.

    Raises `ModelError` for a pattern that neither says.
    """
    kinds = settings.get("layer_types", default=usual)
    if not isinstance(kinds, (list, tuple)) or len(kinds) != layers:
        raise settings.wrong("layer_types", kinds, f"a list of {layers} kinds")
    if other := next((kind for kind in kinds if kind not in (FULL, SLIDING)), None):
        raise ModelError(f"{settings.where}: the layer type {other!r} is not supported.", hint=f"Supported: {FULL} and {SLIDING}.")
    full = [index for index, kind in enumerate(kinds) if kind == FULL]
    if window is None or len(full) == layers:
        return {"sliding_window": None, "full_attention_every": None}
    regular = every(full, layers)
    if full and regular is None:
        raise ModelError(
            f"{settings.where}: {layers - len(full)} of {layers} blocks have a sliding window, in no regular pattern.",
            hint="Supported are windows in all blocks, or in all but every n-th. For texts shorter than the window it can be switched "
            "off in config.json.",
        )
    return {"sliding_window": window, "full_attention_every": regular}


def write_layer_types(config: ModelConfig) -> list[str]:
    return [FULL if config.window_of(index) is None else SLIDING for index in range(config.n_layers)]


def read_unturned(settings: Settings, layers: int, usual_interval: int) -> int | None:
    """`nope_every` from SmolLM3's `no_rope_layers` (1 = uses RoPE) or its interval. Raises `ModelError` for no regular pattern."""
    interval = settings.integer("no_rope_layer_interval", default=usual_interval)
    flags = settings.get("no_rope_layers", default=[int((index + 1) % max(interval, 1) != 0) for index in range(layers)])
    if not isinstance(flags, (list, tuple)) or len(flags) < layers:
        raise settings.wrong("no_rope_layers", flags, f"a list of {layers} numbers")
    unturned = [index for index in range(layers) if not flags[index]]
    regular = every(unturned, layers)
    if unturned and regular is None:
        raise ModelError(
            f"{settings.where}: {len(unturned)} of {layers} blocks use no RoPE, in no regular pattern.",
            hint="Supported are models where every n-th block skips it.",
        )
    return regular
