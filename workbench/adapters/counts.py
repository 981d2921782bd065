"""How much an adapter trains, in both conventions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from workbench.adapters.base import build_adapter
from workbench.adapters.config import LoraConfig
from workbench.adapters.linear import LoraLinear
from workbench.model.surgery import select


@dataclass(frozen=True)
class TrainableCounts:
    """`base` counts a tied matrix once and no adapters; `trainable` the adapter parameters."""

    trainable: int
    base: int

    @property
    def percent_of_base(self) -> float:
        """Share of the base model's parameters."""
        return 100 * self.trainable / self.base

    @property
    def percent_of_all(self) -> float:
        """PEFT's convention (`print_trainable_parameters`): adapters are counted in the total too."""
        return 100 * self.trainable / (self.base + self.trainable)


def trainable_counts(model: nn.Module, config: LoraConfig | None = None) -> TrainableCounts:
    """What the attached adapters train, or what one of `config` would. A model on the meta device will do: nothing is allocated."""
    adapters = [m for m in model.modules() if isinstance(m, LoraLinear)]
    attached = sum(p.numel() for host in adapters for p in host.adapters.parameters())
    base = sum(p.numel() for p in model.parameters()) - attached
    if config is None:
        return TrainableCounts(attached, base)
    wanted = 0
    for host in select(model, config.patterns()).values():
        sizes = (int(host.in_features), int(host.out_features))  # type: ignore[arg-type]
        adapter = build_adapter(config.method, *sizes, r=config.r, alpha=config.lora_alpha, dropout=0.0, device="meta")
        wanted += sum(p.numel() for p in adapter.parameters())
    return TrainableCounts(wanted, base)
