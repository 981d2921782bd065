"""Where a model keeps its weights: the modules that can be quantized, by kind and name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from workbench.model import Transformer
from workbench.parts.frozen import Frozen, FrozenLinear
from workbench.parts.linear import Corrected
from workbench.quantization.norms import FrozenNorm

HEAD, EMBEDDING = "lm_head", "embedding"
LINEAR, NORM = "linear", "norm"
ADDED = "Its vectors are added, not multiplied, and stay as they are."
TIED = "Shared with the token embedding: one matrix serves both."


@dataclass(frozen=True)
class Place:
    """A module with weights. `kind` is linear, head, embedding or norm; `shape` that of its weight; `fixed` says why it can never be
    quantized ("" when it can); `note` what else to know."""

    name: str
    kind: str
    module: Any
    shape: tuple[int, ...]
    fixed: str = ""
    note: str = ""

    @property
    def frozen(self) -> bool:
        return isinstance(self.module, (Frozen, FrozenNorm))

    @property
    def plain_nbytes(self) -> int:
        """Bytes of its parameters when it is not quantized."""
        if not self.frozen:
            return _nbytes(self.module)
        bias = getattr(self.module, "bias", None)
        return math.prod(self.shape) * int(self.module.dtype.itemsize) + (0 if bias is None else int(bias.nbytes))

    @property
    def nbytes(self) -> int:
        """Bytes of its parameters as it is."""
        return _nbytes(self.module)


def places(model: Transformer) -> list[Place]:
    """Every module of `model` that has weights, in order, adapters aside; a tied embedding and head as one place, "lm_head"."""
    return list(_places(model))


def _places(model: Transformer) -> Iterator[Place]:
    tied = model.config.tie_embeddings
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        if ".adapters" in name or name.endswith(".base"):
            continue
        found[name] = module.base if isinstance(module, Corrected) else module
    for name, module in found.items():
        if name == EMBEDDING:
            if not tied:
                yield Place(name, EMBEDDING, module, _shape(module))
        elif name == HEAD:
            yield Place(name, "head", module, _shape(module), note=TIED if tied else "")
        elif isinstance(module, (nn.Linear, FrozenLinear)):
            yield Place(name, LINEAR, module, _shape(module))
        elif isinstance(module, (nn.Embedding, Frozen)) or name == "position":
            if any(True for _ in module.parameters(recurse=False)):
                yield Place(name, EMBEDDING, module, _shape(module), fixed=ADDED)
        elif isinstance(module, FrozenNorm):
            yield Place(name, NORM, module, module.shape)
        elif _is_norm(module):
            yield Place(name, NORM, module, tuple(module.weight.shape))


def _nbytes(module: nn.Module) -> int:
    return sum(p.nbytes for p in module.parameters())


def _shape(module: Any) -> tuple[int, ...]:
    return tuple(module.shape) if isinstance(module, Frozen) else tuple(module.weight.shape)


def _is_norm(module: nn.Module) -> bool:
    weight = module._parameters.get("weight")
    return weight is not None and weight.dim() == 1
