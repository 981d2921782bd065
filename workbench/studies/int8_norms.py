"""Norms that compute as if some of their numbers were stored in eight bits; stand-ins on a model that shares all its weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from workbench.model import Transformer
from workbench.model.surgery import replace
from workbench.parts.norms import NORMS

Scale = Literal["token", "tensor", "none"]
LARGEST = 127
_SAMPLES = 1 << 18
"""Numbers of a norm's input that its median is taken of, at most, per pass."""


@dataclass(frozen=True)
class Int8Parts:
    """What of a norm is rounded to eight bits, and with which scale: one per token (one per vector of parameters), one shared by
    all tokens of a pass, or none, which rounds to whole numbers and cuts off beyond ±127."""

    parameters: bool = False
    input: bool = False
    output: bool = False
    scale: Scale = "token"


EXACT = Int8Parts()


def rounded(x: Tensor, scale: Scale) -> Tensor:
    """x [..., C] through int8 and back, in x's dtype: symmetric, absmax / 127. A scale per token is one per last dimension."""
    wide = x.float()
    if scale == "none":
        return wide.round().clamp_(-LARGEST, LARGEST).to(x.dtype)
    largest = wide.abs().amax(-1, keepdim=True) if scale == "token" else wide.abs().amax()
    step = (largest / LARGEST).clamp_min(torch.finfo(torch.float32).tiny)
    return (wide / step).round_().clamp_(-LARGEST, LARGEST).mul_(step).to(x.dtype)


@dataclass(frozen=True)
class Seen:
    """Magnitudes of what entered a norm: the largest, the median over all tokens, and the median token's own ratio of both."""

    largest: float
    median: float
    within_token: float

    @property
    def ratio(self) -> float:
        """How far the largest stands out."""
        return self.largest / self.median if self.median else float("inf")


class Int8Norm(nn.Module):
    """Stands where the norm `base` stood. `parts` says what is rounded now; while `watching`, inputs are looked at."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.parts = EXACT
        self.watching = False
        self._largest = 0.0
        self._sample: list[Tensor] = []
        self._ratios: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """x [..., C] -> [..., C]."""
        if self.watching:
            self._look(x)
        parts = self.parts
        base = self._rounded_base(parts.scale) if parts.parameters else self.base
        out: Tensor = base(rounded(x, parts.scale) if parts.input else x)
        return rounded(out, parts.scale) if parts.output else out

    def seen(self) -> Seen:
        """What was looked at, put together."""
        return Seen(self._largest, float(torch.cat(self._sample).median()), float(torch.cat(self._ratios).median()))

    def _look(self, x: Tensor) -> None:
        size = x.detach().float().abs().reshape(-1, x.shape[-1])
        self._largest = max(self._largest, float(size.amax()))
        self._sample.append(size.flatten()[:: max(1, -(-size.numel() // _SAMPLES))].cpu())
        self._ratios.append((size.amax(-1) / size.median(-1).values.clamp_min(torch.finfo(torch.float32).tiny)).cpu())

    def _rounded_base(self, scale: Scale) -> nn.Module:
        base = copy.deepcopy(self.base)
        for parameter in base.parameters():
            parameter.data = rounded(parameter.data, scale)
        return base


def stand_in(model: Transformer) -> Transformer:
    """Another model object with the same weights, whose norms are `Int8Norm`s; the given one stays as it is."""
    twin = copy.deepcopy(model, {id(p): p for p in (*model.parameters(), *model.buffers())})
    for name in norms(twin):
        replace(twin, name, Int8Norm(twin.get_submodule(name)))
    return twin


def norms(model: nn.Module) -> dict[str, nn.Module]:
    """Every norm that has parameters by its dotted name, in the model's order."""
    kinds = tuple(entry.make for entry in NORMS if isinstance(entry.make, type))
    modules: Iterator[tuple[str, nn.Module]] = model.named_modules()
    return {name: m for name, m in modules if isinstance(m, kinds) and any(True for _ in m.parameters(recurse=False))}


def stand_ins(model: nn.Module) -> dict[str, Int8Norm]:
    """The stand-ins of a model from `stand_in` by the names of the norms they stand for."""
    return {name: m for name, m in model.named_modules() if isinstance(m, Int8Norm)}


def parameter_bytes(model: nn.Module) -> tuple[int, int]:
    """(bytes of all norms' parameters, bytes they would have in int8 with a float32 scale per vector)."""
    vectors = [p for module in norms(model).values() for p in module.parameters(recurse=False)]
    return sum(p.nbytes for p in vectors), sum(p.numel() + 4 for p in vectors)
