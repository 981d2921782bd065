"""What a family of checkpoints is: a table of names and the two directions of its configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.table import Table
from workbench.core.registry import Registry
from workbench.model import ModelConfig


@dataclass(frozen=True)
class Family:
    """`read(settings)` gives the fields of `ModelConfig` (all but `tie_embeddings`, which the tensors decide together with
    the key `tie_word_embeddings`); `write(config)` is its inverse, None when files of this family cannot be written.
    `prefix` is the outermost module's name, which some files leave out. `architecture` is the class that transformers names.
    `extras(config)` gives tensors of the file that are settings rather than parameters (the table maps them to None).
    """

    table: Table
    read: Callable[[Settings], Mapping[str, Any]]
    write: Callable[[ModelConfig], Mapping[str, Any]] | None = None
    prefix: str = ""
    architecture: str = ""
    tied_by_default: bool = False
    extras: Callable[[ModelConfig], Mapping[str, Tensor]] | None = None


HF_FAMILIES: Registry[Family] = Registry("Hugging Face model type")
"""By `model_type` of config.json. A new family is one file and one import line."""

HF_ALIASES = {"RefinedWebModel": "falcon", "RefinedWeb": "falcon"}
"""Older names of model types."""

GGUF_FAMILIES: Registry[Family] = Registry("GGUF architecture")
"""By `general.architecture`."""

PLAIN_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
GATED_ACTIVATIONS = {"silu": "swiglu", "swish": "swiglu", "gelu": "geglu", "gelu_pytorch_tanh": "geglu_tanh", "gelu_new": "geglu_tanh"}
"""Hugging Face's activation -> our MLP kind. The first spelling of a kind is the one written."""


def activation_of(table: Mapping[str, str], kind: str) -> str:
    """The activation that stands for our MLP `kind`; another one when there is none, and reading it back will show that."""
    return next((theirs for theirs, ours in table.items() if ours == kind), next(iter(table)))


def epsilon_of(config: ModelConfig) -> float:
    """The norm's ε; any for a kind of norm that has none, and reading it back will show that."""
    return float(getattr(config.norm.options, "eps", 1e-5))
