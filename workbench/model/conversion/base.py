"""What a conversion rule is, and the weights it works on.

A rule looks at the architecture as converted so far and at the one that is wanted, and gives steps; a step knows its verdict and
its surgery, so that a plan and its execution cannot disagree. Whole tensors that a step gives up are simply missing afterwards,
and rows that need training are marked as NaN; both are drawn at the very end, by the initialisation of the new architecture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from workbench.core.registry import Choice
from workbench.model.config import ModelConfig

EXACT, APPROXIMATE, FRESH = "exact", "approximate", "fresh"
VERDICTS = (EXACT, APPROXIMATE, FRESH)
"""From the best to the worst: computes the same; computes nearly the same without training; needs training."""


def worst(verdicts: Iterator[str] | tuple[str, ...]) -> str:
    """The worst of some verdicts; exact when there are none."""
    return max(verdicts, key=VERDICTS.index, default=EXACT)


class Weights:
    """The tensors of a model by name, on their way. Never changed in place: the model they came from stays as it is."""

    def __init__(self, tensors: Mapping[str, Tensor], n_layers: int) -> None:
        self.tensors = dict(tensors)
        self.n_layers = n_layers

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __getitem__(self, name: str) -> Tensor:
        """The values in float32 at least, to compute with."""
        tensor = self.tensors[name]
        return tensor.to(torch.promote_types(tensor.dtype, torch.float32))

    def put(self, name: str, value: Tensor, like: str | None = None) -> None:
        """Set a tensor, in the dtype and on the device of `like` (by default of the one it replaces)."""
        model = self.tensors[like or name]
        self.tensors[name] = value.to(model)

    def change(self, name: str, how: Callable[[Tensor], Tensor]) -> None:
        """Replace a tensor by a function of it; one that is missing (it will be fresh) stays missing."""
        if name in self.tensors:
            self.put(name, how(self[name]))

    def drop(self, *names: str) -> None:
        for name in names:
            self.tensors.pop(name, None)

    def drop_all(self, *starts: str) -> None:
        """Give up every tensor whose name, without its block's, begins so."""
        self.drop(*[name for name in self.tensors if tensor_suffix(name).startswith(starts)])

    def zeros(self, name: str, size: int, like: str) -> None:
        """A new vector of zeros, unless the tensor it belongs to is missing."""
        if like in self.tensors and name not in self.tensors:
            self.put(name, torch.zeros(size, device=self.tensors[like].device), like)

    def each(self, *suffixes: str) -> Iterator[str]:
        """`blocks.<n>.<suffix>` for every block and suffix, present ones only."""
        for layer in range(self.n_layers):
            yield from (name for suffix in suffixes if (name := f"blocks.{layer}.{suffix}") in self.tensors)

    def change_each(self, suffix: str, how: Callable[[Tensor], Tensor]) -> None:
        for name in self.each(suffix):
            self.change(name, how)


def blank(rows: int, like: Tensor) -> Tensor:
    """Rows that are drawn at the end: [rows, *rest of `like`]."""
    return torch.full((rows, *like.shape[1:]), torch.nan, dtype=like.dtype, device=like.device)


Surgery = Callable[[Weights], None]


@dataclass(frozen=True)
class Step:
    """One change of the architecture. `after` is the architecture it leads to; `fresh` are the beginnings of the names (without
    the block's) of whole tensors that it gives up, `fresh_rows` counts values inside tensors (by name
    without the block's, all blocks together; "" for tensors of new blocks); `needs` are settings (dotted names) with
    which it would have been exact."""

    field: str
    verdict: str
    how: str
    after: ModelConfig
    surgery: Surgery | None = None
    fresh: tuple[str, ...] = ()
    fresh_rows: Mapping[str, int] = dataclasses.field(default_factory=dict)
    needs: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """How far a conversion has come: the architecture so far, the length of texts that the old and the new model can read, and
    the tensors that were given up (see `Step.fresh`)."""

    config: ModelConfig
    context: int
    fresh: frozenset[str] = frozenset()

    def after(self, step: Step) -> State:
        return replace(self, config=step.after, fresh=self.fresh | frozenset(step.fresh))

    def lacks(self, suffix: str) -> bool:
        """Whether a tensor (named without its block) was given up."""
        return any(suffix.startswith(start) for start in self.fresh)


Rule = Callable[[State, ModelConfig], Iterator[Step]]
"""(state, wanted architecture) -> the steps that this rule has to offer, each beginning where the one before ended."""


def changed(config: ModelConfig, **fields: Any) -> ModelConfig:
    return replace(config, **fields)


def with_options(choice: Choice[Any], **options: Any) -> Choice[Any]:
    """The same kind with some options changed."""
    return Choice(choice.registry, choice.kind, replace(choice.options, **options))


def option(choice: Choice[Any], name: str, default: Any = None) -> Any:
    """An option of the chosen kind; `default` for kinds without it."""
    return getattr(choice.options, name, default)


def trait(choice: Choice[Any], name: str, default: Any) -> Any:
    """What the chosen kind says of itself beside its code."""
    return getattr(choice.entry.make, name, default)


def resolved(config: ModelConfig) -> ModelConfig:
    """The same architecture with every automatic setting spelt out."""
    return replace(
        config,
        n_kv_heads=config.kv_heads,
        head_dim=config.head_width,
        d_ff=config.hidden,
        final_norm=config.has_final_norm,
        attention_scale=config.score_scale,
    )


def is_norm(name: str) -> bool:
    """Whether a tensor belongs to a norm of the configured kind."""
    return name.rpartition(".")[0].endswith("norm")


def tensor_suffix(name: str) -> str:
    """The name without its block: `blocks.3.mlp.up_proj.weight` -> `mlp.up_proj.weight`; others as they are."""
    return name.split(".", 2)[2] if name.startswith("blocks.") else name
