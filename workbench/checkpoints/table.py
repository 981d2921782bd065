"""Tables of names: how a family of files calls what the engine calls `blocks.N.attention.q_proj.weight`.

A table maps a pattern of names in the file to where its values go:

- a string: one parameter, stored as we store it;
- a `Take`: stored otherwise (transposed, rows in another order, several parameters in one tensor);
- `None`: dropped on purpose (mask buffers, rotary tables).

`{n}` stands for a block's number and `{p}` for `weight` or `bias`, on both sides. A key that fits no pattern and a parameter
that nothing fills are errors that list the keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.checkpoints.safetensors_file import Outgoing
from workbench.checkpoints.tensors import TensorInfo
from workbench.core.errors import ModelError
from workbench.model import ModelConfig

RowNumbers = np.ndarray[Any, Any]
Order = Callable[[ModelConfig], Sequence[RowNumbers]]
"""config -> for each parameter, the rows of the file's (out, in) tensor it consists of, in order."""
Condition = Callable[[ModelConfig], bool]

HEAD = "lm_head.weight"
EMBEDDING = "embedding.weight"


@dataclass(frozen=True)
class Take:
    """How one tensor of a file becomes parameters.

    `to`: the parameters, in the order they lie in the tensor. `transposed`: the file keeps (in, out).
    `order`: which rows each takes, where they do not simply follow one another.
    `when`: which models have this name, where the same parameter is called otherwise in others of the family.
    `spare`: an older name, read where no other tensor of the file fills the parameter; it stands below the newer one.
    """

    to: tuple[str, ...]
    transposed: bool = False
    order: Order | None = None
    when: Condition | None = None
    spare: bool = False

    def rows(self, config: ModelConfig, sizes: Sequence[int]) -> list[RowNumbers | None]:
        """The rows of each parameter, given the parameters' row counts; None means all rows as they come."""
        if self.order is not None:
            return list(self.order(config))
        if len(sizes) == 1:
            return [None]
        ends = np.cumsum(sizes)
        return [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]


Table = Mapping[str, str | Take | None]


@dataclass(frozen=True)
class Move:
    """One tensor of the file and the parameters it fills."""

    source: str
    to: tuple[str, ...]
    take: Take


@dataclass
class Matched:
    """A file's keys held against a table. `unknown` fit no pattern."""

    moves: list[Move] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def move_to(self, parameter: str) -> Move | None:
        return next((m for m in self.moves if parameter in m.to), None)


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    escaped = re.escape(text).replace(r"\{n\}", r"(?P<n>\d+)", 1).replace(r"\{p\}", "(?P<p>weight|bias)", 1)
    return re.compile(escaped)


def _take(entry: str | Take) -> Take:
    return Take((entry,)) if isinstance(entry, str) else entry


def match(table: Table, keys: Iterable[str], prefix: str = "") -> Matched:
    """Hold `keys` against `table`. A key may lack `prefix` (files saved without the outermost module do)."""
    found = Matched()
    for key in keys:
        hit = _lookup(table, key) or _lookup(table, prefix + key)
        if hit is None:
            found.unknown.append(key)
        elif hit[0] is None:
            found.dropped.append(key)
        else:
            take = _take(hit[0])
            found.moves.append(Move(key, tuple(_written(to, **hit[1]) for to in take.to), take))
    filled = {to for move in found.moves if not move.take.spare for to in move.to}
    doubles = [move for move in found.moves if move.take.spare and filled.issuperset(move.to)]
    found.moves = [move for move in found.moves if move not in doubles]
    found.dropped += [move.source for move in doubles]
    return found


def in_force(table: Table, config: ModelConfig) -> Table:
    """The entries that a file of such a model is written with."""
    return {text: entry for text, entry in table.items() if not isinstance(entry, Take) or entry.when is None or entry.when(config)}


def _lookup(table: Table, key: str) -> tuple[str | Take | None, dict[str, str]] | None:
    """The entry for `key` and what its placeholders stand for."""
    if key in table:
        return table[key], {}
    return next(((entry, m.groupdict()) for text, entry in table.items() if (m := _pattern(text).fullmatch(key))), None)


def _written(text: str, n: int | str = "{n}", p: str = "{p}") -> str:
    """`text` with its placeholders filled in."""
    return text.replace("{n}", str(n)).replace("{p}", p)


def source_of(table: Table, parameter: str) -> str:
    """The name the file should have had for `parameter`; the parameter's own when the table has none."""
    for text, entry in table.items():
        for to in _take(entry).to if entry is not None else ():
            hit = _pattern(to).fullmatch(parameter)
            if hit:
                return _written(text, **hit.groupdict())
    return parameter


def check(table: Table, matched: Matched, infos: Mapping[str, TensorInfo], shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Every key has a place, every parameter has a source, every shape fits. Raises `ModelError` naming what does not."""
    unknown = matched.unknown + [m.source for m in matched.moves if not any(to in shapes for to in m.to)]
    if unknown:
        raise _key_error(where, "holds tensors that this architecture has no place for", unknown)
    sources: dict[str, str] = {}
    for move in matched.moves:
        for to in move.to:
            if to in sources:
                raise _key_error(where, f"holds {to} twice", [sources[to], move.source])
            sources[to] = move.source
    missing = sorted({source_of(table, p) for p in shapes if p not in sources})
    if missing:
        raise _key_error(where, "lacks tensors that its configuration asks for", missing)
    for move in matched.moves:
        _check_shape(move, infos[move.source].shape, shapes, where)


def outgoing(table: Table, config: ModelConfig, parameters: Mapping[str, Tensor]) -> list[Outgoing]:
    """`parameters` as the file's tensors, in the table's order. Raises `ModelError` for one that has no place in it."""
    tensors, left = placed(table, config, parameters)
    if left:
        raise _key_error("The model", "has parameters that this family has no place for", left)
    return tensors


def placed(table: Table, config: ModelConfig, parameters: Mapping[str, Tensor]) -> tuple[list[Outgoing], list[str]]:
    """`outgoing`, and the names of the parameters that have no place in the table."""
    left = dict(parameters)
    tensors: list[Outgoing] = []
    for text, entry in in_force(table, config).items():
        if entry is None:
            continue
        take = _take(entry)
        for n in range(config.n_layers) if "{n}" in text else (0,):
            for p in ("weight", "bias") if "{p}" in text else ("weight",):
                names = [_written(to, n, p) for to in take.to]
                if all(name in left for name in names):
                    tensors.append(_joined(_written(text, n, p), take, config, [left.pop(name) for name in names]))
    return tensors, sorted(left)


def _joined(name: str, take: Take, config: ModelConfig, parts: Sequence[Tensor]) -> Outgoing:
    """The inverse of loading by `take`."""
    rows = sum(part.shape[0] for part in parts)
    shape: tuple[int, ...] = (rows, *parts[0].shape[1:])

    def make() -> Tensor:
        orders = take.rows(config, [part.shape[0] for part in parts])
        if len(orders) == 1 and orders[0] is None:  # stored as it is: no copy of the embedding, the largest of all
            return parts[0].to("cpu").t() if take.transposed else parts[0].to("cpu")
        whole = torch.empty(shape, dtype=parts[0].dtype)
        for part, order in zip(parts, orders, strict=True):
            whole[slice(None) if order is None else torch.from_numpy(order)] = part.to("cpu")
        return whole.t() if take.transposed else whole

    return Outgoing(name, shape[::-1] if take.transposed else shape, parts[0].dtype, make)


def _key_error(where: str, what: str, keys: Sequence[str]) -> ModelError:
    shown = ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
    return ModelError(
        f"{where} {what}: {shown}.",
        hint="The configuration does not belong to these weights, or the file is of a variant that is not supported.",
        details="\n".join(keys),
    )


def _check_shape(move: Move, found: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    parts = [shapes[to] for to in move.to]
    expected = (sum(shape[0] for shape in parts), *parts[0][1:])
    if move.take.transposed:
        expected = expected[::-1]
    if found != expected:
        raise ModelError(
            f"{where}: {move.source} has shape {list(found)}; the configuration asks for {list(expected)}.",
            hint="The configuration does not belong to these weights; get both from the same place.",
        )


def pair_order(heads: Callable[[ModelConfig], int]) -> Order:
    """Rows of a q or k projection stored for neighbouring-pair rotation (2i, 2i+1), in the order of half-split rotation
    (i, i + d/2): per head 0, 2, 4, … then 1, 3, 5, …. `heads` counts the heads of that projection."""

    def order(config: ModelConfig) -> Sequence[RowNumbers]:
        width = config.head_width
        one = np.concatenate([np.arange(0, width, 2), np.arange(1, width, 2)])
        return ((np.arange(heads(config))[:, None] * width + one).reshape(-1),)

    return order
