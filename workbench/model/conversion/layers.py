"""More or fewer blocks."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from workbench.model.accounting import account
from workbench.model.config import ModelConfig
from workbench.model.conversion.base import APPROXIMATE, EXACT, FRESH, State, Step, Weights, changed, tensor_suffix, trait
from workbench.model.conversion.masks import reach

_ENDS = ("attention.o_proj.", "mlp.down_proj.")


def kept_blocks(old: int, new: int) -> list[int]:
    """Which blocks stay: those left out lie together in the middle, where neighbouring blocks do nearly the same
    (arXiv:2403.17887). Of the starter's 30 blocks, 6 there cost 0.5 nats per token; spread evenly they cost 2, and before the
    last block 17."""
    first = (new + 1) // 2
    return [*range(first), *range(first + old - new, old)]


def fewer_layers(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if new.n_layers >= now.n_layers:
        return
    kept = kept_blocks(now.n_layers, new.n_layers)

    def surgery(weights: Weights) -> None:
        places = {old: place for place, old in enumerate(kept)}
        tensors = {}
        for name, tensor in weights.tensors.items():
            if name.startswith("blocks."):
                number = int(name.split(".", 2)[1])
                if number not in places:
                    continue
                name = f"blocks.{places[number]}.{tensor_suffix(name)}"
            tensors[name] = tensor
        weights.tensors, weights.n_layers = tensors, new.n_layers

    gone = [block + 1 for block in range(now.n_layers) if block not in kept]
    how = f"Block {gone[0]} is left out" if len(gone) == 1 else f"Blocks {gone[0]} to {gone[-1]} are left out"
    how += ", counted from 1: in the middle neighbours do nearly the same."
    verdict, shifted = APPROXIMATE, _shifted(state, kept)
    if shifted:
        verdict, how = FRESH, f"{how} Of those behind them some change their kind, because {' and '.join(shifted)}."
    yield Step("n_layers", verdict, how, changed(now, n_layers=new.n_layers), surgery)


def _shifted(state: State, kept: list[int]) -> list[str]:
    """The patterns over blocks that those that stay fall out of: none when whole periods are left out."""
    now = state.config
    found = []
    if trait(now.position, "acts_in_attention", False) and any(now.positional(a) != now.positional(b) for b, a in enumerate(kept)):
        found.append(f"block {now.nope_every} and each {now.nope_every} further goes without position (nope_every)")
    if any(reach(now, a, state.context) != reach(now, b, state.context) for b, a in enumerate(kept)):
        every = now.full_attention_every
        found.append(f"block {every} and each {every} further sees beyond the window (full_attention_every)")
    return found


def _end_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """What ends the branches of a block, and its shapes."""
    found: dict[str, tuple[int, ...]] = {}
    inputs = (config.n_heads * config.head_width, config.hidden)
    for end, width, biased in zip(_ENDS, inputs, (config.attention_out_bias, config.mlp_bias), strict=True):
        found[f"{end}weight"] = (config.d_model, width)
        if biased:
            found[f"{end}bias"] = (config.d_model,)
    return found


def more_layers(state: State, new: ModelConfig) -> Iterator[Step]:
    """At the very end, when a block has the shapes it will keep."""
    now = state.config
    if new.n_layers <= now.n_layers:
        return
    sizes = {tensor_suffix(name): count for name, count in account(new).by_tensor.items() if name.startswith("blocks.0.")}
    adds = trait(now.residual, "adds_to_stream", False) and all(f"{end}weight" in sizes for end in _ENDS)
    before, after = now.n_layers, new.n_layers

    def surgery(weights: Weights) -> None:
        if adds:  # both branches end in zeros; the rest of a new block is drawn
            for layer in range(before, after):
                for suffix, shape in _end_shapes(now).items():
                    weights.put(f"blocks.{layer}.{suffix}", torch.zeros(shape), like="embedding.weight")
        weights.n_layers = after

    fresh = sum(count for suffix, count in sizes.items() if not (adds and suffix.startswith(_ENDS)))
    count = f"{after - before} new block{'s' if after - before > 1 else ''}"
    if adds:
        verdict, how = EXACT, f"{count} at the end: both branches end in zeros, so they change nothing until they are trained."
    else:
        verdict, how = FRESH, f"{count} at the end, drawn fresh: in this placement a block cannot leave the stream as it is."
    yield Step("n_layers", verdict, how, changed(now, n_layers=after), surgery, fresh_rows={"": (after - before) * fresh})
