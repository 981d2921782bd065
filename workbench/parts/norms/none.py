"""No normalisation."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from workbench.parts.norms.base import NORMS


@NORMS.register(
    "none",
    label="No norm",
    source="arXiv:1901.09321",
    equation="y = x",
    used_by="experiments such as Fixup",
    help="Leaves vectors as they are; deep stacks then train only with a small learning rate and a careful start.",
)
class NoNorm(nn.Module):
    """x [..., C] -> x."""

    def __init__(self, width: int, **_where: Any) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x
