"""Where PEFT's keys put each linear of a family: module paths, not tensor names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from workbench.core.errors import ConfigError
from workbench.model.surgery import linears

Layout = dict[str, tuple[str, ...]]
"""PEFT's module path -> our layers; several where their matrix holds several of ours one below the other."""


@dataclass(frozen=True)
class Naming:
    """`modules` maps their path to ours, with {n} for the block; None means that our own paths are used as they are.

    `fan_in_fan_out`: their matrices are stored (in, out), which PEFT records though adapters are (out, in) everywhere.
    """

    families: tuple[str, ...]
    modules: Mapping[str, tuple[str, ...]] | None
    fan_in_fan_out: bool = False

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


NAMINGS = (
    Naming(
        ("gpt2",),
        {
            "transformer.h.{n}.attn.c_attn": tuple(f"blocks.{{n}}.attention.{x}_proj" for x in "qkv"),
            "transformer.h.{n}.attn.c_proj": ("blocks.{n}.attention.o_proj",),
            "transformer.h.{n}.mlp.c_fc": ("blocks.{n}.mlp.up_proj",),
            "transformer.h.{n}.mlp.c_proj": ("blocks.{n}.mlp.down_proj",),
        },
        fan_in_fan_out=True,
    ),
    Naming(
        ("llama", "mistral", "qwen2", "qwen3"),
        {
            **{f"model.layers.{{n}}.self_attn.{x}_proj": (f"blocks.{{n}}.attention.{x}_proj",) for x in "qkvo"},
            **{f"model.layers.{{n}}.mlp.{x}_proj": (f"blocks.{{n}}.mlp.{x}_proj",) for x in ("gate", "up", "down")},
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
    """The naming whose layout of `model` holds at least one of `modules`; None when no naming does."""
    return next((n for n in NAMINGS if not n.layout(model).keys().isdisjoint(modules)), None)


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
