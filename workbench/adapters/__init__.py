"""Small trained corrections of a frozen model: attach them, train them, switch them, merge them, save them in PEFT's format."""

from workbench.adapters.attach import (
    adapter_names,
    adapters_of,
    attach,
    bake,
    detach,
    disabled,
    merge,
    scale,
    selected,
    strengths,
    trainable_parameters,
    unmerge,
)
from workbench.adapters.base import ADAPTERS, Adapter
from workbench.adapters.config import TARGETS, LoraConfig
from workbench.adapters.counts import TrainableCounts, trainable_counts
from workbench.adapters.linear import LoraLinear

__all__ = [
    "ADAPTERS",
    "TARGETS",
    "Adapter",
    "LoraConfig",
    "LoraLinear",
    "TrainableCounts",
    "adapter_names",
    "adapters_of",
    "attach",
    "bake",
    "detach",
    "disabled",
    "merge",
    "scale",
    "selected",
    "strengths",
    "trainable_counts",
    "trainable_parameters",
    "unmerge",
]
