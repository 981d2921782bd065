"""The registry of MLPs."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from torch import Tensor, nn

from workbench.core.registry import Registry


class Mlp(Protocol):
    """x [..., C] -> [..., C]. Linears are named `up_proj`, `down_proj` and, in gated kinds, `gate_proj`."""

    def __call__(self, x: Tensor) -> Tensor: ...


class MlpMaker(partial[nn.Module]):
    """Makes MLPs of one kind. `gated`: whether a gate multiplies what passes (None: not known, which a conversion then takes for
    neither); `curve`: the activation's name, the same for a gated and a plain kind with the same activation."""

    gated: bool | None = None
    curve: str = ""


MLPS: Registry[nn.Module] = Registry("MLP")
"""Built as `make(width=C, hidden=F, bias=…, device=…, dtype=…, **options)`."""
