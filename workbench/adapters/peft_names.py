"""Where PEFT's keys put each linear of a family: module paths, not tensor names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.core.errors import ConfigError
from workbench.model.config import ModelConfig
from workbench.model.fused import group_rows
from workbench.model.surgery import linears

Layout = dict[str, tuple[str, ...]]
"""PEFT's module path -> our layers; several where their matrix holds several of ours one below the other."""


@dataclass(frozen=True)
class Naming:
    """`modules` maps their path to ours, with {n} for the block; None means that our own paths are used as they are.

    `fan_in_fan_out`: their matrices are stored (in, out), which PEFT records though adapters are (out, in) everywhere.
    `order`: the rows of each of our layers in a matrix that holds several, where they are not one below the other.
    """

    families: tuple[str, ...]
    modules: Mapping[str, tuple[str, ...]] | None
    fan_in_fan_out: bool = False
    order: Callable[[ModelConfig], Sequence[np.ndarray[Any, Any]]] | None = None

    def rows(self, model: nn.Module, parts: Sequence[str]) -> Tensor | None:
        """The rows of their matrix in the order of our `parts`; None where it is the same."""
        if self.order is None or len(parts) == 1:
            return None
        config: Any = model.config
        return torch.from_numpy(np.concatenate(list(self.order(config))))

    def layout(self, model: nn.Module) -> Layout:
        """The layers of `model` that this naming has a place for."""
        ours = linears(model)
        if self.modules is None:
            return {name: (name,) for name in ours}
        blocks = sorted({int(name.split(".")[1]) for name in ours})
        found: Layout = {}
        for n in blocks:
            for theirs, parts in self.modules.items():
                members = tuple(p.format(n=n) for p in parts)
                if all(m in ours for m in members):
                    found[theirs.format(n=n)] = members
        return found


_BLOCK = "blocks.{n}."
_QKV = tuple(f"{_BLOCK}attention.{x}_proj" for x in "qkv")
_OUT, _UP, _DOWN = ((f"{_BLOCK}{path}_proj",) for path in ("attention.o", "mlp.up", "mlp.down"))


def _fused(layer: str, attention: str) -> dict[str, tuple[str, ...]]:
    """GPT-NeoX's names, which Falcon took over."""
    return {
        f"{layer}.{attention}.query_key_value": _QKV,
        f"{layer}.{attention}.dense": _OUT,
        f"{layer}.mlp.dense_h_to_4h": _UP,
        f"{layer}.mlp.dense_4h_to_h": _DOWN,
    }


NAMINGS = (
    Naming(
        ("gpt2", "openai-gpt"),
        {
            "transformer.h.{n}.attn.c_attn": _QKV,
            "transformer.h.{n}.attn.c_proj": _OUT,
            "transformer.h.{n}.mlp.c_fc": _UP,
            "transformer.h.{n}.mlp.c_proj": _DOWN,
        },
        fan_in_fan_out=True,
    ),
    Naming(
        ("llama", "mistral", "qwen2", "qwen3", "gemma2", "olmo2", "smollm3"),
        {
            **{f"model.layers.{{n}}.self_attn.{x}_proj": (f"{_BLOCK}attention.{x}_proj",) for x in "qkvo"},
            **{f"model.layers.{{n}}.mlp.{x}_proj": (f"{_BLOCK}mlp.{x}_proj",) for x in ("gate", "up", "down")},
        },
    ),
    Naming(("falcon", "bloom"), _fused("transformer.h.{n}", "self_attention"), order=group_rows),
    Naming(("gpt_neox",), _fused("gpt_neox.layers.{n}", "attention"), order=group_rows),
    Naming(
        ("phi",),
        {
            **{f"model.layers.{{n}}.self_attn.{x}_proj": (f"{_BLOCK}attention.{x}_proj",) for x in "qkv"},
            "model.layers.{n}.self_attn.dense": _OUT,
            "model.layers.{n}.mlp.fc1": _UP,
            "model.layers.{n}.mlp.fc2": _DOWN,
        },
    ),
    Naming(
        ("bert",),
        {
            **{
                f"bert.encoder.layer.{{n}}.attention.self.{theirs}": (q,) for theirs, q in zip(("query", "key", "value"), _QKV, strict=True)
            },
            "bert.encoder.layer.{n}.attention.output.dense": _OUT,
            "bert.encoder.layer.{n}.intermediate.dense": _UP,
            "bert.encoder.layer.{n}.output.dense": _DOWN,
        },
    ),
    Naming(("workbench",), None),
)


def naming_of(family: str) -> Naming:
    """The naming of a family of checkpoints. Raises `ConfigError` for one that PEFT's format is not known for."""
    for naming in NAMINGS:
        if family in naming.families:
            return naming
    known = ", ".join(f for n in NAMINGS for f in n.families)
    raise ConfigError(f"Adapters of the family {family!r} are not known.", hint=f"Choose one of: {known}.")


def recognise(model: nn.Module, modules: Sequence[str]) -> Naming | None:
    """The naming whose layout of `model` holds most of `modules`, the first of several; None when no naming holds any."""
    held = [(len(naming.layout(model).keys() & set(modules)), naming) for naming in NAMINGS]
    most, naming = max(held, key=lambda found: found[0])
    return naming if most else None


def targeted(name: str, targets: Sequence[str] | str) -> bool:
    """PEFT's rule: a string is "all-linear" or a regular expression over the whole path; in a list, the path or a dotted suffix."""
    if isinstance(targets, str):
        return targets == "all-linear" or re.fullmatch(targets, name) is not None
    return any(name == t or name.endswith(f".{t}") for t in targets)


def by_pattern(name: str, patterns: Mapping[str, float], default: float) -> float:
    """PEFT's rule for rank_pattern and alpha_pattern: the first key that matches the end of the path, as a regular expression."""
    return next((v for key, v in patterns.items() if re.match(rf"(.*\.)?({key})$", name)), default)


def shortest(names: Sequence[str], among: Sequence[str]) -> list[str]:
    """As few dotted suffixes as name exactly `names` and nothing else of `among`; full paths where no suffix does."""
    wanted, result = set(names), []
    for name in names:
        parts = name.split(".")
        suffixes = [".".join(parts[i:]) for i in range(len(parts) - 1, 0, -1)]
        fitting = (s for s in suffixes if not s[0].isdigit() and all(a in wanted for a in among if targeted(a, [s])))
        choice = next(fitting, name)
        if choice not in result:
            result.append(choice)
    return result
