"""Where norms sit: around the branches, before the head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import nn

from workbench.model.config import ModelConfig
from workbench.model.conversion.base import APPROXIMATE, EXACT, FRESH, State, Step, Weights, changed, option
from workbench.model.conversion.norms import READERS, fold_offset

_BIASED = {"attention_bias": True, "mlp_bias": True}


def placement(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if now.residual == new.residual:
        return
    after = changed(now, residual=new.residual)
    if now.residual.kind == new.residual.kind == "parallel":
        yield _shared(now, after, state)
        return
    old_norms, new_norms = norm_names(now), norm_names(new)
    gone = tuple(f"residual.{name}." for name in old_norms if name not in new_norms)
    fresh = tuple(f"residual.{name}." for name in new_norms if name not in old_norms)
    if new.norm.kind == "none":
        fresh = ()
    how = "All matrices stay, but blocks were trained to read and write another stream."
    if fresh:
        how += f" {'A new norm starts' if len(fresh) == 1 else 'New norms start'} in each block."
    yield Step("residual", FRESH, how, after, lambda w: w.drop_all(*gone), fresh=fresh)


def norm_names(config: ModelConfig) -> Sequence[str]:
    """The norms that a block's placement has."""
    return [name for name, _ in config.residual.make(norm=nn.Identity, depth=config.n_layers).named_children()]


def _shared(now: ModelConfig, after: ModelConfig, state: State) -> Step:
    names = ("residual.attention_norm", "residual.mlp_norm")
    if not after.residual.options.shared_norm:

        def split(weights: Weights) -> None:
            for part in ("weight", "bias"):
                for name in list(weights.each(f"{names[0]}.{part}")):
                    weights.tensors[name.replace("attention_norm", "mlp_norm")] = weights.tensors[name]

        fresh = tuple(f"{names[1]}." for _ in range(state.lacks(f"{names[0]}.weight")))
        return Step("residual", EXACT, "The second norm begins as a copy of the first.", after, split, fresh=fresh)
    biased = now.norm.kind == "layernorm" and now.norm.options.bias
    fits = now.norm.kind in ("layernorm", "rmsnorm", "none") and not (biased and not (now.attention_bias and now.mlp_bias))
    how = "The gains of the two norms go into the matrices behind them; what is left of both is the same norm."
    if not fits:
        how += " Their offsets differ and have nowhere to go."
    needs = _BIASED if not fits and biased else {}
    return Step("residual", EXACT if fits else APPROXIMATE, how, after, partial(_share, config=now), needs=needs)


def _share(weights: Weights, config: ModelConfig) -> None:
    offset = 1.0 if option(config.norm, "unit_offset", False) else 0.0
    for layer in range(weights.n_layers):
        for name, linears in READERS["pre"].items():
            gain, shift = f"blocks.{layer}.{name}.weight", f"blocks.{layer}.{name}.bias"
            for linear in (f"blocks.{layer}.{n}" for n in linears):
                fold_offset(weights, shift, linear)
                if gain in weights:
                    factor = weights[gain] + offset
                    weights.change(f"{linear}.weight", lambda t, f=factor: t * f)  # type: ignore[misc]
            weights.change(gain, lambda g: torch.ones_like(g) - offset)
            weights.change(shift, torch.zeros_like)
    weights.drop_all("residual.mlp_norm.")


def final_norm(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if now.has_final_norm == new.has_final_norm:
        return
    after = changed(now, final_norm=new.has_final_norm)
    if new.norm.kind == "none":
        yield Step("final_norm", EXACT, "There is no norm to place.", after)
    elif new.has_final_norm:
        how = "A new norm before the head, which has never read normalised vectors."
        yield Step("final_norm", FRESH, how, after, fresh=("final_norm.",))
    else:
        how = "The norm before the head is left out, and the head reads vectors of other sizes."
        yield Step("final_norm", FRESH, how, after, lambda w: w.drop_all("final_norm."))
