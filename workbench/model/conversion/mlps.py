"""The MLP: its width and its kind."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from workbench.core.registry import Choice
from workbench.model.config import ModelConfig
from workbench.model.conversion.base import APPROXIMATE, EXACT, FRESH, State, Step, Surgery, Weights, blank, changed, option, trait

_SILU, _GELUS = "SiLU", ("GELU", "GELU_tanh")
"""Activations, as kinds of MLP name theirs."""
_QUICK = 1.702
"""GELU(x) ≈ x · σ(1.702 x) = SiLU(1.702 x) / 1.702 (arXiv:1606.08415 §2)."""

GATE, UP, DOWN = "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"


def narrower_mlp(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if new.hidden < now.hidden:
        how = f"Of {now.hidden} hidden units the {new.hidden} with the largest steady effect stay."
        yield Step("d_ff", APPROXIMATE, how, changed(now, d_ff=new.hidden), partial(_prune, config=now, keep=new.hidden))


def _prune(weights: Weights, config: ModelConfig, keep: int) -> None:
    for layer in range(weights.n_layers):
        block = f"blocks.{layer}."
        down, up = (f"{block}{linear}.weight" for linear in (DOWN, UP))
        if down not in weights or up not in weights:
            continue
        units = _effect(weights, block, config).topk(keep).indices.sort().values
        weights.change(down, lambda t, u=units: t[:, u])  # type: ignore[misc]
        for linear in (UP, GATE):
            for part in ("weight", "bias"):
                weights.change(f"{block}{linear}.{part}", lambda t, u=units: t[u])  # type: ignore[misc]


def _effect(weights: Weights, block: str, config: ModelConfig) -> Tensor:
    """How much each hidden unit adds on average for inputs as the norm before it gives them, [F]: for a gated unit
    E[(g·x) (u·x)] = g·u, times the size of what it writes; for a plain one the size of what it reads.

    Of the starter's 1536 units, 128 left out by this cost 0.2 nats per token, by the product of the norms 5 and at random
    0.3: units with small weights are the busy ones.
    """
    gain = _gain_before(weights, block, config)
    read = weights[f"{block}{UP}.weight"] * gain
    written: Tensor = weights[f"{block}{DOWN}.weight"].norm(dim=0)
    if f"{block}{GATE}.weight" in weights:
        steady: Tensor = (read * weights[f"{block}{GATE}.weight"] * gain).sum(1).abs() * written
        return steady
    size: Tensor = read.norm(dim=1) * written
    return size


def _gain_before(weights: Weights, block: str, config: ModelConfig) -> Tensor:
    """The gain of the norm that the MLP reads; ones where there is none."""
    for name in ("mlp_norm", "attention_norm"):
        gain = f"{block}residual.{name}.weight"
        if config.residual.kind in ("pre", "parallel", "double") and gain in weights:
            return weights[gain] + (1.0 if option(config.norm, "unit_offset", False) else 0.0)
    return torch.ones_like(weights[f"{block}{UP}.weight"][0])


def wider_mlp(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    extra = new.hidden - now.hidden
    if extra <= 0:
        return

    def surgery(weights: Weights) -> None:
        for linear in (UP, GATE):
            for part in ("weight", "bias"):
                weights.change_each(f"{linear}.{part}", lambda t: torch.cat((t, blank(extra, t))))
        weights.change_each(f"{DOWN}.weight", lambda t: torch.cat((t, t.new_zeros(t.shape[0], extra)), 1))

    linears = [UP, *([GATE] if _is_gated(now.mlp) else [])]
    sizes = (("weight", now.d_model), ("bias", 1))
    fresh = {f"{linear}.{part}": extra * size * now.n_layers for linear in linears for part, size in sizes}
    how = f"{extra} new hidden units end in zeros, so they change nothing until they are trained."
    verdict = EXACT
    if _is_gated(now.mlp) is None:
        verdict, how = FRESH, "What the width means to this kind of MLP is not known here."
    yield Step("d_ff", verdict, how, changed(now, d_ff=new.hidden), surgery, fresh_rows=fresh)


def mlp_kind(state: State, new: ModelConfig) -> Iterator[Step]:
    now = state.config
    if now.mlp == new.mlp:
        return
    verdict, how, surgery, fresh = _kind(now.mlp, new.mlp, new.mlp_bias)
    exact = _is_gated(now.mlp) is False and _is_gated(new.mlp) and _curve(now.mlp) == _curve(new.mlp) and not new.mlp_bias
    yield Step("mlp", verdict, how, changed(now, mlp=new.mlp), surgery, fresh=fresh, needs={"mlp_bias": True} if exact else {})


def _is_gated(kind: Choice[nn.Module]) -> bool | None:
    """Whether it has a gate; None for kinds that do not say."""
    found: bool | None = trait(kind, "gated", None)
    return found


def _curve(kind: Choice[nn.Module]) -> str:
    return str(trait(kind, "curve", ""))


def _kind(old: Choice[nn.Module], new: Choice[nn.Module], bias: bool) -> tuple[str, str, Surgery | None, tuple[str, ...]]:
    """(verdict, how, surgery, tensors that are fresh)."""
    was, becomes = _is_gated(old), _is_gated(new)
    one, other = _curve(old), _curve(new)
    if was is None or becomes is None:
        how = "What fits of this kind of MLP is not known here; all of it is drawn fresh."
        return FRESH, how, lambda weights: weights.drop_all("mlp."), ("mlp.",)
    if not was and not becomes:
        close = one in _GELUS and other in _GELUS
        how = "All weights stay; the two forms of GELU differ by up to 0.0005." if close else "All weights stay under another activation."
        return APPROXIMATE, how, None, ()
    if was and becomes:
        return _between_gates(one, other)
    if was:
        how = "The gate's matrix becomes the only one in front of the activation; what it multiplied is left out."
        return FRESH, how, _gate_to_up, ()
    if not bias:
        return FRESH, "The old matrices stay; the gate that multiplies them is drawn fresh.", None, (f"{GATE}.weight",)
    if one == other:
        how = "The old matrix becomes the gate, under the same activation; what it multiplies is a bias of one."
        return EXACT, how, partial(_up_to_gate, factor=1.0), ()
    quick = _QUICK if other == _SILU and one in _GELUS else 1.0
    how = "The old matrix becomes the gate; what it multiplies is a bias of one; the activation differs."
    return APPROXIMATE, how, partial(_up_to_gate, factor=quick), ()


def _between_gates(old: str, new: str) -> tuple[str, str, Surgery | None, tuple[str, ...]]:
    if old in _GELUS and new in _GELUS:
        return APPROXIMATE, "All weights stay; the two forms of GELU differ by up to 0.0005.", None, ()
    if {old, new} - {_SILU, *_GELUS}:
        return APPROXIMATE, "All weights stay under another activation.", None, ()
    factor = 1 / _QUICK if old == _SILU else _QUICK

    def surgery(weights: Weights) -> None:
        for part in ("weight", "bias"):
            weights.change_each(f"{GATE}.{part}", lambda t: t * factor)
        weights.change_each(f"{DOWN}.weight", lambda t: t / factor)

    how = "Weights are scaled by 1.702, at which SiLU and GELU are closest; they differ by up to 0.02."
    return APPROXIMATE, how, surgery, ()


def _gate_to_up(weights: Weights) -> None:
    for part in ("weight", "bias"):
        for name in list(weights.each(f"{GATE}.{part}")):
            weights.tensors[name.replace("gate_proj", "up_proj")] = weights.tensors.pop(name)


def _up_to_gate(weights: Weights, factor: float) -> None:
    """gate <- up, and up <- a bias of one; `factor` c brings SiLU(c·x) / c near GELU(x)."""
    for part in ("weight", "bias"):
        for name in list(weights.each(f"{UP}.{part}")):
            value = weights[name]
            weights.put(name.replace("up_proj", "gate_proj"), value * factor, like=name)
            weights.put(name, torch.full_like(value, 1.0 if part == "bias" else 0.0))
    if factor != 1.0:
        weights.change_each(f"{DOWN}.weight", lambda t: t / factor)
