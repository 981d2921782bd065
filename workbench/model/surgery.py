"""Select modules by name pattern and replace them in place; adapters and quantization both work through here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from torch import nn

from workbench.core.errors import ConfigError
from workbench.parts.frozen import FrozenLinear
from workbench.parts.linear import Joined

ALL_LINEAR = "all-linear"


def linears(model: nn.Module) -> dict[str, nn.Module]:
    """Every linear layer inside the blocks by its dotted name, wrapped ones (with a `base` linear) included."""
    return {
        name: module
        for name, module in model.named_modules()
        if name.startswith("blocks.")
        and not name.endswith(".base")
        and isinstance(getattr(module, "base", module), (nn.Linear, FrozenLinear))
    }


def select(model: nn.Module, patterns: str | Sequence[str]) -> dict[str, nn.Module]:
    """The linears whose name matches one of `patterns`: "all-linear", a module name ("q_proj"), a dotted suffix, or a
    shell pattern over the full name ("blocks.*.mlp.*"). Raises `ConfigError` naming a pattern that matches nothing."""
    found = linears(model)
    chosen = matching(found, patterns)
    return {name: module for name, module in found.items() if name in chosen}


def matching(names: Collection[str], patterns: str | Sequence[str]) -> set[str]:
    """Of the names of linears, those that `select` would choose; needs no model. Raises as `select` does."""
    chosen: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        hits = set(names) if pattern == ALL_LINEAR else {n for n in names if matches(n, pattern)}
        if not hits:
            leaves = sorted({n.rpartition(".")[2] for n in names})
            raise ConfigError(f"No linear layer matches {pattern!r}.", hint=f"Layers are named: {', '.join(leaves)}; or use all-linear.")
        chosen |= hits
    return chosen


def matches(name: str, pattern: str) -> bool:
    """True when `pattern` is the full dotted name, a suffix of it at a dot, or a shell pattern that covers it."""
    return name == pattern or name.endswith("." + pattern) or fnmatchcase(name, pattern)


def replace(model: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """Put `module` where the module called `name` was, keeping the training mode; returns the one taken out.

    A `module` that holds the old one (an adapter) may be taken away again later and leaves everything as it was.
    """
    parent_name, _, leaf = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    old = parent.get_submodule(leaf)
    module.train(old.training)
    setattr(parent, leaf, module)
    if isinstance(parent, Joined) and old in parent.joint.linears and old not in module.modules():
        parent.joint.drop()
    return old
