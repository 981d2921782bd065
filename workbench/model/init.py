"""How fresh weights are drawn: a table from parameter name to distribution, one kind per function."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from workbench.core.fields import setting
from workbench.core.registry import Registry
from workbench.parts.residuals.deepnorm import beta


class Init(Protocol):
    """Draws one weight matrix in place. `name` is its state-dict name, `depth` the number of blocks."""

    def __call__(self, name: str, weight: Tensor, depth: int, generator: torch.Generator) -> None: ...


INITS: Registry[Init] = Registry("initialisation")
"""Built as `make(**options)`; called for every matrix. Norm gains and biases are set by `initialise`."""

_BRANCH_ENDS = ("o_proj.weight", "down_proj.weight")
_DEEPNORM_SCALED = (*_BRANCH_ENDS, "v_proj.weight", "up_proj.weight", "gate_proj.weight")


@dataclass(frozen=True)
class NormalOptions:
    std: float = setting(
        0.02, label="Standard deviation", key="initializer_range", minimum=1e-6, maximum=10, log=True,
        source="Radford et al. 2018 (GPT-1)", equation="W ~ N(0, σ²)", used_by="GPT-2 and BERT (0.02), SmolLM2 (1/√width)",
        help="Spread of freshly drawn weights.",
    )  # fmt: skip
    scale_residual: bool = setting(
        True, label="Scale branch outputs by 1/√(2L)", source="Radford et al. 2019 (GPT-2)",
        equation="σ ← σ / √(2L) for W_o and W_down", used_by="GPT-2, GPT-3",
        help="Draws the matrices that write to the residual stream smaller, so that its variance does not grow with depth.",
    )  # fmt: skip


@INITS.register(
    "gpt2",
    label="Normal, branch ends scaled (GPT-2)",
    options=NormalOptions,
    source="Radford et al. 2019 (GPT-2)",
    equation="W ~ N(0, σ²);  what ends a branch: N(0, σ² / 2L)",
    used_by="GPT-2, GPT-3, SmolLM2",
    help="Draws all weights from one normal distribution and those that end a branch with 1/√(2L) of its spread.",
)
@dataclass(frozen=True)
class NormalInit:
    std: float = 0.02
    scale_residual: bool = True

    def __call__(self, name: str, weight: Tensor, depth: int, generator: torch.Generator) -> None:
        ends_branch = self.scale_residual and name.endswith(_BRANCH_ENDS)
        weight.normal_(0.0, self.std / math.sqrt(2 * depth) if ends_branch else self.std, generator=generator)


@INITS.register(
    "xavier",
    label="Xavier normal",
    source="Glorot & Bengio 2010",
    equation="W ~ N(0, 2 / (fan_in + fan_out))",
    used_by="Transformer 2017",
    help="Draws each matrix with variance 2 / (fan-in + fan-out), which keeps activations and gradients of similar size.",
)
@dataclass(frozen=True)
class XavierInit:
    def __call__(self, name: str, weight: Tensor, depth: int, generator: torch.Generator) -> None:
        nn.init.xavier_normal_(weight, generator=generator)


@INITS.register(
    "deepnorm",
    label="DeepNorm",
    source="arXiv:2203.00555",
    equation="W ~ β · Xavier for W_v, W_o and the MLP,  β = (8L)^(−¼)",
    used_by="DeepNet",
    help="Xavier with value, output and MLP matrices shrunk by (8L)^(−¼), the partner of the DeepNorm placement.",
)
@dataclass(frozen=True)
class DeepNormInit:
    def __call__(self, name: str, weight: Tensor, depth: int, generator: torch.Generator) -> None:
        nn.init.xavier_normal_(weight, beta(depth) if name.endswith(_DEEPNORM_SCALED) else 1.0, generator=generator)


def initialise(model: nn.Module, init: Init, depth: int, seed: int) -> None:
    """Draw every matrix of `model`; see `draw`."""
    for name, parameter in model.named_parameters():
        draw(name, parameter, init, depth, seed)


@torch.no_grad()
def draw(name: str, parameter: Tensor, init: Init, depth: int, seed: int) -> None:
    """Draw a matrix from its own stream of `seed` and its name, so that changing one part, or the depth, leaves the others as
    they were. A bias becomes 0; a one-dimensional norm gain keeps the value its part gave it."""
    if parameter.dim() >= 2:
        stream = seed * 1_000_003 + zlib.crc32(name.encode())
        generator = torch.Generator(device=parameter.device).manual_seed(stream)
        init(name, parameter, depth, generator)
    elif name.endswith("bias"):
        parameter.zero_()
