"""The registry of MLPs."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from workbench.core.registry import Registry


class Mlp(Protocol):
    """x [..., C] -> [..., C]. Linears are named `up_proj`, `down_proj` and, in gated kinds, `gate_proj`."""

    def __call__(self, x: Tensor) -> Tensor: ...


MLPS: Registry[nn.Module] = Registry("MLP")
"""Built as `make(width=C, hidden=F, bias=…, device=…, dtype=…, **options)`."""
