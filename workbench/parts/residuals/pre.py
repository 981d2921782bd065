"""Norm before each branch."""

from __future__ import annotations

from torch import Tensor

from workbench.parts.residuals.base import RESIDUALS, Branch, MakeNorm, Residual


@RESIDUALS.register(
    "pre",
    label="Pre-norm",
    source="arXiv:2002.04745",
    equation="x ← x + F(N(x))",
    used_by="GPT-2, GPT-3, BLOOM, LLaMA, Mistral, Qwen, SmolLM",
    help="Normalises what enters each branch and leaves the residual stream untouched; trains without warm-up at any depth.",
)
class PreNorm(Residual):
    adds_to_stream = True

    def __init__(self, norm: MakeNorm, depth: int) -> None:
        super().__init__()
        self.attention_norm = norm()
        self.mlp_norm = norm()

    def forward(self, x: Tensor, attention: Branch, mlp: Branch) -> Tensor:
        x = x + attention(self.attention_norm(x))
        return x + mlp(self.mlp_norm(x))
