"""One protocol for every norm placement: the residual part owns the norms and combines the two branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from workbench.core.registry import Registry

Branch = Callable[[Tensor], Tensor]
MakeNorm = Callable[[], nn.Module]


class Residual(nn.Module):
    """`wants_final_norm`: the stream leaves the last block un-normalised, so a norm before the head is needed.
    `adds_to_stream`: a branch that gives zero leaves the stream as it is."""

    wants_final_norm: ClassVar[bool] = True
    adds_to_stream: ClassVar[bool] = False

    def forward(self, x: Tensor, attention: Branch, mlp: Branch) -> Tensor:
        """x [B, T, C] through both branches, [B, T, C]."""
        raise TypeError(f"{type(self).__name__} does not say how its branches are joined")


RESIDUALS: Registry[Residual] = Registry("norm placement")
"""Built as `make(norm=callable making one norm, depth=L, **options)`."""
