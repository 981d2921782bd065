"""Who sees whom."""

from __future__ import annotations

from collections.abc import Iterator

from workbench.model.config import ModelConfig
from workbench.model.conversion.base import APPROXIMATE, EXACT, FRESH, State, Step, changed


def windows(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    fields = [f for f in ("sliding_window", "full_attention_every") if getattr(now, f) != getattr(new, f)]
    both = changed(now, sliding_window=new.sliding_window, full_attention_every=new.full_attention_every)
    moved = [n for n in range(now.n_layers) if reach(now, n, state.context) != reach(both, n, state.context)]
    for field in fields:
        now = changed(now, **{field: getattr(new, field)})
        if not moved:
            yield Step(field, EXACT, "No text of the context is long enough to notice.", now)
        else:
            how = f"No weight changes; {len(moved)} blocks see less or more of a text that is longer than the window."
            yield Step(field, APPROXIMATE, how, now)


def reach(config: ModelConfig, layer: int, context: int) -> int:
    """How many tokens back a block sees in texts of that length."""
    window = config.window_of(layer)
    return context if window is None else min(window, context)


def causal(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if now.causal == new.causal:
        return
    how = "All weights stay, but tokens see what comes after them, which no block has learnt to use."
    if new.causal:
        how = "All weights stay, but tokens no longer see what comes after them, which every block relies on."
    yield Step("causal", FRESH, how, changed(now, causal=new.causal))
