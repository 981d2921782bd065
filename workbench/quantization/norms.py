"""Norms whose gain is kept as 8-bit whole numbers with one scale."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

LARGEST = 127


class FrozenNorm(nn.Module):
    """A norm of another class with `codes` int8 [C] and `scale` float32 [1] in place of its gain, which is made anew at each use: tiny,
    and it saves next to nothing, but what it costs can be seen. Biases stay as they are."""

    dtype: torch.dtype
    error: float | None

    @property
    def weight(self) -> Tensor:
        held: Any = self._parameters
        gain: Tensor = held["codes"] * held["scale"]
        return gain.to(self.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenNorm:
        """As `Frozen._apply`: the scale keeps its type."""
        held: Any = self._parameters
        probe = fn(torch.empty(0, dtype=self.dtype, device=held["codes"].device))
        super()._apply(lambda t: t.to(probe.device), recurse)  # type: ignore[no-untyped-call]
        self.dtype = probe.dtype
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        held: Any = self._parameters
        return tuple(held["codes"].shape)


_types: dict[type, Any] = {}


def _frozen_type(kind: type) -> Any:
    return _types.setdefault(kind, type(f"Frozen{kind.__name__}", (FrozenNorm, kind), {}))


def frozen_norm(norm: Any, codes: Tensor, scale: Tensor, dtype: torch.dtype, error: float | None = None) -> FrozenNorm:
    """A norm like `norm` with that gain; `norm` itself stays as it is."""
    new = copy(norm)
    new.__dict__ = dict(norm.__dict__)
    new._parameters = {name: p for name, p in norm._parameters.items() if name != "weight"}
    new.__class__ = _frozen_type(type(norm))
    new.register_parameter("codes", nn.Parameter(codes, requires_grad=False))
    new.register_parameter("scale", nn.Parameter(scale, requires_grad=False))
    new.dtype, new.error = dtype, error
    found: FrozenNorm = new
    return found


def thawed_norm(norm: Any, weight: Tensor) -> nn.Module:
    """The norm it was made from, with `weight` as its gain."""
    new = copy(norm)
    new.__dict__ = dict(norm.__dict__)
    new._parameters = {name: p for name, p in norm._parameters.items() if name not in ("codes", "scale")}
    new.__class__ = type(norm).__mro__[2]
    new.__dict__.pop("dtype", None)
    new.__dict__.pop("error", None)
    new.register_parameter("weight", nn.Parameter(weight))
    found: nn.Module = new
    return found


def norm_codes(gain: Tensor) -> tuple[Tensor, Tensor]:
    """gain [C] -> codes int8 [C], scale float32 [1]."""
    wide = gain.detach().float()
    scale = wide.abs().amax().reshape(1) / LARGEST
    codes = (wide / torch.where(scale > 0, scale, 1.0)).round().clamp(-LARGEST, LARGEST).to(torch.int8)
    return codes, scale
