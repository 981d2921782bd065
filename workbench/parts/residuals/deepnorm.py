"""Post-norm with an enlarged residual, for very deep models."""

from __future__ import annotations

from torch import Tensor

from workbench.parts.residuals.base import RESIDUALS, Branch, MakeNorm, Residual


def alpha(depth: int) -> float:
    """Residual multiplier of a decoder with `depth` blocks: (2N)^¼ (arXiv:2203.00555, table 2)."""
    return float((2 * depth) ** 0.25)


def beta(depth: int) -> float:
    """Gain of the initialisation of value, output and MLP matrices: (8N)^(−¼) (arXiv:2203.00555, table 2)."""
    return float((8 * depth) ** -0.25)


@RESIDUALS.register(
    "deepnorm",
    label="DeepNorm",
    source="arXiv:2203.00555",
    equation="x ← N(α·x + F(x)),  α = (2L)^¼",
    used_by="DeepNet, GLM-130B",
    help="Post-norm with the residual enlarged by (2L)^¼, which bounds each update so that hundreds of layers train.",
)
class DeepNorm(Residual):
    wants_final_norm = False

    def __init__(self, norm: MakeNorm, depth: int) -> None:
        super().__init__()
        self.alpha = alpha(depth)
        self.attention_norm = norm()
        self.mlp_norm = norm()

    def forward(self, x: Tensor, attention: Branch, mlp: Branch) -> Tensor:
        x = self.attention_norm(self.alpha * x + attention(x))
        out: Tensor = self.mlp_norm(self.alpha * x + mlp(x))
        return out
