"""Rotary positions: which dimensions turn together, and how fast."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from workbench.model.config import ModelConfig
from workbench.model.conversion.base import APPROXIMATE, EXACT, State, Step, Weights, changed, option
from workbench.parts.positions.rope import RotaryPosition

_TOLERANCE = 1e-9


def rotation(config: ModelConfig) -> RotaryPosition:
    """The position part of a RoPE model, with exact angles."""
    made = config.position.make(
        width=config.d_model, head_width=config.head_width, heads=config.n_heads, max_positions=config.max_positions, dtype=torch.float64
    )
    assert isinstance(made, RotaryPosition)
    return made


def rates(part: RotaryPosition, length: int) -> list[float]:
    """Radians per position of each pair in a text of that many tokens."""
    found: list[float] = part.rates(torch.tensor([length - 1])).tolist()
    return found


def same_rotation(old: ModelConfig, new: ModelConfig, context: int) -> bool:
    """Whether every pair turns as before in every text of up to `context` tokens."""
    one, other = rotation(old), rotation(new)
    if one.scaling.attention_factor != other.scaling.attention_factor or one.rotary != other.rotary:
        return False
    return all(_close(a, b) for n in (1, context) for a, b in zip(rates(one, n), rates(other, n), strict=True))


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_TOLERANCE)


def pairs(width: int, rotary: int, halves: bool) -> list[tuple[int, int]]:
    """The dimensions of a head that turn together."""
    count = rotary // 2
    return [(i, i + count) if halves else (2 * i, 2 * i + 1) for i in range(count)]


def fitted_dims(old: ModelConfig, new: ModelConfig, context: int) -> tuple[list[int], bool]:
    """(new place of each dimension of a head, whether each turns as before) for heads at least as wide."""
    if old.position.kind != "rope":
        return list(range(old.head_width)), True
    one, other = rotation(old), rotation(new)
    before, after = rates(one, context), rates(other, context)
    places, same = _nearest(before, after)
    old_pairs, new_pairs = pairs(old.head_width, one.rotary, one.halves), pairs(new.head_width, other.rotary, other.halves)
    dims: dict[int, int] = {}
    for (a, b), place in zip(old_pairs, places, strict=True):
        if place is not None:
            dims[a], dims[b] = new_pairs[place]
    used = set(dims.values())
    still = range(other.rotary, new.head_width)
    free = [*still, *sorted((d for d in range(other.rotary) if d not in used), key=lambda d: _pair_rate(d, new_pairs, after))]
    left = [d for d in range(old.head_width) if d not in dims]
    for dim, place in zip(left, free, strict=False):
        dims[dim] = place
        same = same and dim >= one.rotary and place >= other.rotary
    return [dims[d] for d in range(old.head_width)], same


def _pair_rate(dim: int, where: Sequence[tuple[int, int]], speeds: Sequence[float]) -> float:
    return next(speed for pair, speed in zip(where, speeds, strict=True) if dim in pair)


def _nearest(before: Sequence[float], after: Sequence[float]) -> tuple[list[int | None], bool]:
    """For each old rate the new pair that turns so, or nearly so; None when all are taken (the slowest go without)."""
    free = set(range(len(after)))
    found: list[int | None] = []
    same = True
    for rate in before:  # from the fastest
        match = min(free, key=lambda j: abs(math.log(after[j]) - math.log(rate)), default=None)
        found.append(match)
        if match is None or not _close(after[match], rate):
            same = False
        if match is not None:
            free.discard(match)
    return found, same


def rotary_options(state: State, new: ModelConfig) -> Iterator[Step]:
    """Pairing, base and scaling; the rotated part is settled with the width of the heads."""
    now = state.config
    if now.position == new.position or now.position.kind != "rope" or new.position.kind != "rope":
        return
    after = changed(now, position=new.position)
    old_style, style = option(now.position, "style"), option(new.position, "style")
    same = same_rotation(now, after, state.context)
    how = "No weight changes; " + ("every pair turns as before." if same else "pairs turn at other rates than the model learnt.")
    surgery = None
    if old_style != style:
        how = "Rows of queries and keys change places, so that the same dimensions turn together"
        how += "." if same else ", but at other rates."
        order = style_order(now, style == "half")

        def surgery(weights: Weights) -> None:
            _reorder(weights, now, order)

    yield Step("position", EXACT if same else APPROXIMATE, how, after, surgery)


def style_order(config: ModelConfig, halves: bool) -> list[int]:
    """For each dimension of a head after the change, the one it was before."""
    rotary = rotation(config).rotary
    order = list(range(config.head_width))
    for old, new in zip(pairs(config.head_width, rotary, not halves), pairs(config.head_width, rotary, halves), strict=True):
        for source, place in zip(old, new, strict=True):
            order[place] = source
    return order


def _reorder(weights: Weights, config: ModelConfig, order: list[int]) -> None:
    def how(tensor: Tensor) -> Tensor:
        return tensor.reshape(-1, config.head_width, *tensor.shape[1:])[:, order].flatten(0, 1)

    for name in ("q_proj", "k_proj", "q_norm", "k_norm"):
        for part in ("weight", "bias"):
            weights.change_each(f"attention.{name}.{part}", how)
