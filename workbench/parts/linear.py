"""The linear layer of the engine: `nn.Linear` whose weight lies in memory as (in, out)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def input_major(out_features: int, in_features: int, device: torch.device | str | None, dtype: torch.dtype | None) -> Tensor:
    """An uninitialised (out, in) tensor stored (in, out).

    One token times such a matrix streams it in the order the CPU's GEMV likes: all matrices of a 135M model take 22 ms
    instead of 33 ms at two threads (README, *Log*); products with many rows cost the same either way.
    """
    return torch.empty(in_features, out_features, device=device, dtype=dtype).t()


class Linear(nn.Linear):
    """y = x Wᵀ + b. x [..., in] -> [..., out]. Weight [out, in], values undefined until initialised or loaded."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(input_major(out_features, in_features, device, dtype))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None)
