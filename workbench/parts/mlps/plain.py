"""Two matrices with an activation between them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from workbench.parts.linear import Linear
from workbench.parts.mlps.base import MLPS, MlpMaker

Activation = Callable[[Tensor], Tensor]


class PlainMLP(nn.Module):
    """x -> W₂ act(W₁ x). x [..., C] -> [..., C]; `hidden` is F."""

    def __init__(self, activation: Activation, width: int, hidden: int, bias: bool, **where: Any) -> None:
        super().__init__()
        self.activation = activation
        self.up_proj = Linear(width, hidden, bias, **where)
        self.down_proj = Linear(hidden, width, bias, **where)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.activation(self.up_proj(x)))
        return out


def _plain(name: str, activation: Activation, label: str, formula: str, source: str, used_by: str, help: str) -> None:
    register = MLPS.register(name, label=label, source=source, equation=f"y = W₂ {formula}(W₁ x)", used_by=used_by, help=help)
    make = MlpMaker(PlainMLP, activation)
    make.gated, make.curve = False, formula
    register(make)


_plain(
    "gelu",
    F.gelu,
    "GELU",
    "GELU",
    "arXiv:1606.08415",
    "BERT, Falcon, GPT-NeoX, Pythia",
    "Two matrices with the exact Gaussian error linear unit between them.",
)
_plain(
    "gelu_tanh", partial(F.gelu, approximate="tanh"), "GELU (tanh)", "GELU_tanh", "arXiv:1606.08415", "GPT-1 to GPT-3, BLOOM, Phi",
    "Two matrices with the tanh approximation of GELU, as GPT-2 was trained; it differs from the exact form by up to 0.0005.",
)  # fmt: skip
_plain(
    "relu", F.relu, "ReLU", "max(0, ·)", "arXiv:1706.03762", "Transformer 2017, OPT",
    "Two matrices with a rectifier between them.",
)  # fmt: skip
