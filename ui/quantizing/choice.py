"""Which modules are quantized: as check marks in a tree, and as the patterns that configs, files and flags use. No Qt here."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from workbench.model.surgery import matches
from workbench.quantization import SKIPPED, ModulePlan, QuantizationConfig

BLOCK: Final = "blocks."


@dataclass(frozen=True)
class Leaf:
    """A module in the tree: its whole name, and what it is called below its group."""

    name: str
    label: str


@dataclass(frozen=True)
class Group:
    """Modules of one block, or a single module without a block (`label` "")."""

    label: str
    leaves: tuple[Leaf, ...]


def groups(names: Sequence[str]) -> tuple[Group, ...]:
    """The modules in the model's order, those of a block together."""
    found: list[Group] = []
    for name in names:
        block, inside = _split(name)
        leaf = Leaf(name, inside)
        if block and found and found[-1].label == block:
            found[-1] = replace(found[-1], leaves=(*found[-1].leaves, leaf))
        else:
            found.append(Group(block, (leaf,)))
    return tuple(found)


def _split(name: str) -> tuple[str, str]:
    """ "blocks.3.mlp.up_proj" -> ("Block 3", "mlp.up_proj"); names outside of blocks have none."""
    if not name.startswith(BLOCK):
        return "", name
    number, _, inside = name.removeprefix(BLOCK).partition(".")
    return f"Block {number}", inside


def with_chosen(config: QuantizationConfig, rows: Sequence[ModulePlan], chosen: Collection[str]) -> QuantizationConfig:
    """`config` that takes exactly the `chosen` ones of the plan's modules; what can never be quantized does not count."""
    open_ones = [row for row in rows if not row.fixed]
    left = [row.name for row in open_ones if row.name not in chosen]
    wanted = [row.name for row in open_ones if row.name in chosen]
    return replace(config, modules=("*",), skip=patterns(left, wanted))


def patterns(left: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The fewest patterns, near enough, that match all of `left` and none of `wanted`: the usual ones first, then those of whole blocks
    and of one kind of module in all blocks, then names."""
    candidates = [*SKIPPED, *_wide(left)]
    usable = {p: {name for name in left if matches(name, p)} for p in candidates if not any(matches(name, p) for name in wanted)}
    found: list[str] = []
    open_ones = set(left)
    for usual in SKIPPED:
        if usual in usable and usable[usual] & open_ones:
            found.append(usual)
            open_ones -= usable[usual]
    while open_ones:
        best = max(usable, key=lambda p: len(usable[p] & open_ones), default="")
        if not best or len(usable[best] & open_ones) < 2:
            break
        found.append(best)
        open_ones -= usable[best]
    return (*found, *(name for name in left if name in open_ones))


def _wide(names: Sequence[str]) -> list[str]:
    """Patterns of the blocks and of the places within blocks that `names` come from."""
    found: dict[str, None] = {}
    for name in names:
        if name.startswith(BLOCK):
            number, _, inside = name.removeprefix(BLOCK).partition(".")
            found[f"{BLOCK}{number}.*"] = found[f"{BLOCK}*.{inside}"] = None
    return list(found)


def command(model: str, config: QuantizationConfig) -> str:
    """What does the same on the command line, for `generate`."""
    words = ["python", "-m", "workbench", "generate", model, "--prompt", "…", "--quantize", config.scheme.kind]
    if config.skip != SKIPPED:
        for pattern in config.skip or ("",):
            words += ["--quantize-skip", pattern]
    if config.modules != ("*",):
        words += ["--quantize-set", f"modules={','.join(config.modules)}"]
    defaults = type(config.scheme.options)()
    for name, value in vars(config.scheme.options).items():
        if value != getattr(defaults, name):
            words += ["--quantize-set", f"{name}={value}"]
    return shlex.join(words).replace("'…'", "…")
