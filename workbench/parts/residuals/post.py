"""Norm after each addition."""

from __future__ import annotations

from torch import Tensor

from workbench.parts.residuals.base import RESIDUALS, Branch, MakeNorm, Residual


@RESIDUALS.register(
    "post",
    label="Post-norm",
    source="arXiv:1706.03762",
    equation="x ← N(x + F(x))",
    used_by="Transformer 2017, GPT-1, BERT",
    help="Normalises the stream after each branch is added; gradients at the top do not shrink with depth, so it needs warm-up.",
)
class PostNorm(Residual):
    wants_final_norm = False

    def __init__(self, norm: MakeNorm, depth: int) -> None:
        super().__init__()
        self.attention_norm = norm()
        self.mlp_norm = norm()

    def forward(self, x: Tensor, attention: Branch, mlp: Branch) -> Tensor:
        x = self.attention_norm(x + attention(x))
        out: Tensor = self.mlp_norm(x + mlp(x))
        return out
