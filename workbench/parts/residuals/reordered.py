"""A norm on what leaves each branch."""

from __future__ import annotations

from torch import Tensor

from workbench.parts.residuals.base import RESIDUALS, Branch, MakeNorm, Residual


@RESIDUALS.register(
    "reordered",
    label="Reordered norm",
    source="arXiv:2501.00656",
    equation="x ← x + N(F(x))",
    used_by="OLMo-2",
    help="Normalises only what leaves each branch; deep stacks need QK-norm beside it, because attention sees the raw stream.",
)
class ReorderedNorm(Residual):
    adds_to_stream = True

    def __init__(self, norm: MakeNorm, depth: int) -> None:
        super().__init__()
        self.attention_out_norm = norm()
        self.mlp_out_norm = norm()

    def forward(self, x: Tensor, attention: Branch, mlp: Branch) -> Tensor:
        x = x + self.attention_out_norm(attention(x))
        out: Tensor = x + self.mlp_out_norm(mlp(x))
        return out
