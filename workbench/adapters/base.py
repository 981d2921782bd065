"""What an adapter is: a small trained correction of one frozen linear layer, named, scaled and removable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from workbench.core.registry import Registry


class Adapter(nn.Module, ABC):
    """One named correction of one linear. Its parameters are float32 whatever the base's dtype.

    `out` is the base's output; `forward` may write into it and returns the corrected one. A kind defines `scale_rule`,
    `forward`, `delta`, and how PEFT marks (`peft_flags`) and stores (`peft_tensors`) it.
    """

    peft_flags: ClassVar[Mapping[str, bool]] = {}
    """The switches of PEFT's `adapter_config.json` that name this kind."""

    def __init__(self, *, kind: str, r: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.kind = kind
        self.r = r
        self.alpha = alpha
        self.dropout = dropout
        self.scaling = self.scale_rule(alpha, r)
        self.merged: float | None = None
        """The strength with which it now sits in the base's weights; None while it does not."""

    def _load_from_state_dict(self, *args: Any) -> None:
        """A model's state dict holds its base weights only (`LoraLinear`), so adapters look for nothing in it."""

    @staticmethod
    @abstractmethod
    def scale_rule(alpha: float, r: int) -> float:
        """The factor s in front of the correction."""

    @abstractmethod
    def reset(self, init: str, generator: torch.Generator, weight: Tensor) -> None:
        """Draw starting values by the named rule; `weight` [out, in] is the base's. The correction is zero afterwards."""

    @abstractmethod
    def forward(self, x: Tensor, out: Tensor, strength: float, noise: int | None = None) -> Tensor:
        """x [..., in], out [..., out] -> [..., out]. `noise` seeds the dropout mask; None draws from the global generator."""

    def fused(self, x: Tensor, base: nn.Module, strength: float) -> Tensor | None:
        """Base and correction in one differentiable step, [..., out]; None where the kind or the base offers none."""
        return None

    @abstractmethod
    def delta(self, weight: Tensor) -> Tensor:
        """What it adds to the base's weight at strength 1, float32 [out, in]."""

    @abstractmethod
    def peft_tensors(self) -> dict[str, Tensor]:
        """The trained tensors under the names that end PEFT's keys; `lora_A.weight` [r, in], `lora_B.weight` [out, r], …"""


ADAPTERS: Registry[Adapter] = Registry("adapter method")
"""Kinds of adapter; each is built as `make(in_features=, out_features=, kind=, r=, alpha=, dropout=, device=)`."""


def adapter_type(method: str) -> type[Adapter]:
    """The class behind a registered method; `ConfigError` naming the known ones when there is none."""
    return cast("type[Adapter]", ADAPTERS[method].make)


def build_adapter(
    method: str, in_features: int, out_features: int, *, r: int, alpha: float, dropout: float, device: torch.device | str | None = None
) -> Adapter:
    """An adapter for a linear of that size, with values undefined until `reset` or a load."""
    return ADAPTERS[method].make(
        in_features=in_features, out_features=out_features, kind=method, r=r, alpha=alpha, dropout=dropout, device=device
    )
