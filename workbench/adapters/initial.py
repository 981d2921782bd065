"""How the first matrix of an adapter starts; the second starts at zero."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.core.fields import Option


@dataclass(frozen=True)
class Initial:
    """`draw(r, in_features, generator)` gives A, float32 [r, in]; `peft` is the value of PEFT's `init_lora_weights`."""

    option: Option
    peft: bool | str
    draw: Callable[[int, int, torch.Generator], Tensor]


def _kaiming(r: int, in_features: int, generator: torch.Generator) -> Tensor:
    """U(−1/√in, 1/√in): the variance 1/(3·in) does not depend on r, which the theory behind RsLoRA needs."""
    bound = 1 / math.sqrt(in_features)
    return torch.empty(r, in_features).uniform_(-bound, bound, generator=generator)


def _gaussian(r: int, in_features: int, generator: torch.Generator) -> Tensor:
    """N(0, 1/r²), PEFT's 'gaussian'."""
    return torch.empty(r, in_features).normal_(0, 1 / r, generator=generator)


INITIAL = {
    i.option.name: i
    for i in (
        Initial(Option("kaiming", "Kaiming uniform", "Variance 1/(3·in), whatever the rank; the usual start."), True, _kaiming),
        Initial(
            Option("gaussian", "Gaussian, 1/r", "Standard deviation 1/r, as PEFT's 'gaussian'; ranks are then not comparable."),
            "gaussian",
            _gaussian,
        ),
    )
}
