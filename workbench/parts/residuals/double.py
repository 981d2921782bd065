"""A norm before and after each branch."""

from __future__ import annotations

from torch import Tensor

from workbench.parts.residuals.base import RESIDUALS, Branch, MakeNorm, Residual


@RESIDUALS.register(
    "double",
    label="Double norm",
    source="arXiv:2502.02732",
    equation="x ← x + N₂(F(N₁(x)))",
    used_by="Gemma-2, Gemma-3, Grok-1",
    help="Normalises what enters a branch and what leaves it, so that no branch can flood the residual stream.",
)
class DoubleNorm(Residual):
    adds_to_stream = True

    def __init__(self, norm: MakeNorm, depth: int) -> None:
        super().__init__()
        self.attention_norm = norm()
        self.attention_out_norm = norm()
        self.mlp_norm = norm()
        self.mlp_out_norm = norm()

    def forward(self, x: Tensor, attention: Branch, mlp: Branch) -> Tensor:
        x = x + self.attention_out_norm(attention(self.attention_norm(x)))
        out: Tensor = x + self.mlp_out_norm(mlp(self.mlp_norm(x)))
        return out
