"""Attention and MLP side by side."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from workbench.core.fields import setting
from workbench.parts.residuals.base import RESIDUALS, Branch, MakeNorm, Residual


@dataclass(frozen=True)
class ParallelOptions:
    shared_norm: bool = setting(
        False, label="One norm for both branches", key="num_ln_in_parallel_attn", source="arXiv:2311.16867",
        equation="x ← x + Attn(N(x)) + MLP(N(x))", used_by="Falcon 7B, Phi; not by Falcon 40B and GPT-NeoX",
        help="Feeds both branches from one norm instead of giving each its own.",
    )  # fmt: skip


@RESIDUALS.register(
    "parallel",
    label="Parallel",
    options=ParallelOptions,
    source="arXiv:2204.02311",
    equation="x ← x + Attn(N₁(x)) + MLP(N₂(x))",
    used_by="GPT-J, GPT-NeoX, Falcon, Phi, PaLM",
    help="Adds attention and MLP of the same input at once, so that both can run side by side.",
)
class ParallelNorm(Residual):
    adds_to_stream = True

    def __init__(self, norm: MakeNorm, depth: int, shared_norm: bool = False) -> None:
        super().__init__()
        self.shared = shared_norm
        self.attention_norm = norm()
        if not shared_norm:
            self.mlp_norm = norm()

    def forward(self, x: Tensor, attention: Branch, mlp: Branch) -> Tensor:
        attended = self.attention_norm(x)
        return x + attention(attended) + mlp(attended if self.shared else self.mlp_norm(x))
