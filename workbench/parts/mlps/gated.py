"""Gated linear units: one branch decides how much of the other passes."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from workbench.numerics.lean import gated
from workbench.parts.linear import Joined, Joint, Linear
from workbench.parts.mlps.base import MLPS, MlpMaker
from workbench.parts.mlps.plain import Activation


class GatedMLP(Joined):
    """x -> W_down(act(W_gate x) ⊙ W_up x). x [..., C] -> [..., C]; `hidden` is F (arXiv:2002.05202)."""

    joins = ("gate_proj", "up_proj")

    def __init__(self, activation: Activation, width: int, hidden: int, bias: bool, **where: Any) -> None:
        super().__init__()
        self.activation = activation
        self.gate_proj = Linear(width, hidden, bias, **where)
        self.up_proj = Linear(width, hidden, bias, **where)
        self.down_proj = Linear(hidden, width, bias, **where)
        self.joint = Joint(self.gate_proj, self.up_proj)

    def forward(self, x: Tensor) -> Tensor:
        joint = self.joint(x, self.gate_proj, self.up_proj)
        gate, up = (self.gate_proj(x), self.up_proj(x)) if joint is None else joint.chunk(2, -1)
        out: Tensor = self.down_proj(gated(self.activation, gate, up))
        return out


def _gated(name: str, activation: Activation, label: str, formula: str, used_by: str, help: str) -> None:
    register = MLPS.register(
        name, label=label, source="arXiv:2002.05202", equation=f"y = W_down ({formula}(W_gate x) ⊙ W_up x)", used_by=used_by, help=help
    )
    make = MlpMaker(GatedMLP, activation)
    make.gated, make.curve = True, formula
    register(make)


_gated(
    "swiglu",
    F.silu,
    "SwiGLU",
    "SiLU",
    "LLaMA, Mistral, Qwen, SmolLM, OLMo-2",
    "Three matrices: a SiLU gate decides how much of a second projection passes.",
)
_gated("geglu", F.gelu, "GeGLU", "GELU", "T5 v1.1", "Three matrices: an exact GELU gate decides how much of a second projection passes.")
_gated(
    "geglu_tanh", partial(F.gelu, approximate="tanh"), "GeGLU (tanh)", "GELU_tanh", "Gemma, Gemma 2",
    "Three matrices: a tanh-approximated GELU gate decides how much of a second projection passes.",
)  # fmt: skip
