"""Carry a model's weights to another architecture, and say for each change what it does to the model.

`plan` reads two configs and allocates nothing; `convert` does what the plan says, on a copy. The rules are in `conversion/`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from workbench.core.fields import describe, require_usable
from workbench.model.accounting import account
from workbench.model.build import build_model
from workbench.model.config import ModelConfig
from workbench.model.conversion import EXACT, FRESH, RULES, State, Step, Weights, resolved, tensor_suffix, worst
from workbench.model.init import draw
from workbench.model.transformer import Transformer

_PROBE_TOKENS = 32
_EVERYTHING = _NEW_BLOCKS = ""


@dataclass(frozen=True)
class Change:
    """What one changed setting does. `part` is the field's group on screen, `how` one or more plain sentences; `needs` are
    settings (dotted names) with which it would be exact."""

    field: str
    part: str
    verdict: str
    how: str
    fresh_parameters: int = 0
    needs: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"needs": dict(self.needs)}


@dataclass(frozen=True)
class ConversionPlan:
    """What a conversion will do: one `Change` per changed setting, in the order of the form, and the worst of their verdicts.

    "exact": the model computes the same; "approximate": nearly the same without training, measure it; "fresh": needs training.
    """

    old: ModelConfig
    new: ModelConfig
    changes: tuple[Change, ...]
    verdict: str
    parameters: int
    fresh_parameters: int

    @property
    def kept_parameters(self) -> int:
        """Values of the new model that come from the old one, or that keep its function (zeros)."""
        return self.parameters - self.fresh_parameters

    def to_json(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict, "changes": [change.to_json() for change in self.changes], "parameters": self.parameters,
            "fresh_parameters": self.fresh_parameters, "kept_parameters": self.kept_parameters,
        }  # fmt: skip


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did. `max_abs_logit_difference` compares old and new model on random tokens that both know, within
    both contexts; `logit_size` is the largest logit of the old one there."""

    plan: ConversionPlan
    max_abs_logit_difference: float
    logit_size: float

    @property
    def changes(self) -> tuple[Change, ...]:
        return self.plan.changes

    @property
    def verdict(self) -> str:
        return self.plan.verdict

    @property
    def fresh_parameters(self) -> int:
        return self.plan.fresh_parameters

    def to_json(self) -> dict[str, Any]:
        measured = {"max_abs_logit_difference": self.max_abs_logit_difference, "logit_size": self.logit_size}
        return {**self.plan.to_json(), **measured}


def plan(old: ModelConfig, new: ModelConfig) -> ConversionPlan:
    """What `convert` would do to a model of architecture `old`. Raises `ConfigError` when `new` cannot be built."""
    require_usable(new)
    steps = list(_steps(old, new))
    cost = account(new)
    counts = _fresh_counts(steps, new, cost.by_tensor, min(old.n_layers, new.n_layers))
    changes = _merged(steps, counts)
    return ConversionPlan(old, new, changes, worst(tuple(c.verdict for c in changes)), cost.parameters, sum(counts))


def convert(model: Transformer, new: ModelConfig, *, seed: int = 0) -> tuple[Transformer, ConversionReport]:
    """A model of architecture `new` with what can be carried over from `model`, which stays as it is; adapters on it are left
    out. What is fresh is drawn by the initialisation of `new` from `seed`. Raises `ConfigError` when `new` cannot be built."""
    steps = convert_steps(model, new, seed=seed)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: tuple[Transformer, ConversionReport] = end.value
            return found


def convert_steps(
    model: Transformer, new: ModelConfig, *, seed: int = 0
) -> Generator[tuple[int, int], None, tuple[Transformer, ConversionReport]]:
    """`convert`, yielding (done, total) between its parts, where it may be left."""
    planned = plan(model.config, new)
    todo = [step for step in _steps(model.config, new) if step.surgery is not None]
    total = len(todo) + 2
    weights = Weights(_plain_parameters(model), model.config.n_layers)
    for number, step in enumerate(todo):
        yield number, total
        with torch.no_grad():
            assert step.surgery is not None
            step.surgery(weights)
    yield len(todo), total
    made = build_model(new, device=model.device, dtype=model.dtype, init=False)
    _fill(made, weights, seed, planned.fresh_parameters)
    yield len(todo) + 1, total
    difference, size = compare(model, made)
    return made, ConversionReport(planned, difference, size)


def _steps(old: ModelConfig, new: ModelConfig) -> Iterator[Step]:
    """Every step from `old` to `new`, in the order of the rules; whatever no rule knows comes last."""
    state, wanted = State(resolved(old), min(old.max_positions, new.max_positions)), resolved(new)
    for rule in RULES:
        for step in rule(state, wanted):
            if state.lacks(_EVERYTHING):
                step = replace(step, verdict=FRESH, how="Everything is drawn fresh.", surgery=None, fresh_rows={}, fresh=())
            yield step
            state = state.after(step)
    for info in fields(ModelConfig):
        if getattr(state.config, info.name) != getattr(wanted, info.name):
            yield _unknown(state.config, wanted, info.name)


def _unknown(now: ModelConfig, new: ModelConfig, name: str) -> Step:
    after = replace(now, **{name: getattr(new, name)})
    if name == "init":
        return Step(name, EXACT, "No weight changes; fresh ones are drawn differently.", after)
    return Step(name, FRESH, "What this means to the weights is not known here; those that fit are kept.", after)


def _fresh_counts(steps: list[Step], new: ModelConfig, by_tensor: Mapping[str, int], layers: int) -> list[int]:
    """How many parameters of the new model each step leaves to be drawn. A tensor that is given up as a whole counts for the
    first that gave it up, and rows of it for none."""
    if any(_EVERYTHING in step.fresh for step in steps):
        return [sum(by_tensor.values()) if _EVERYTHING in step.fresh else 0 for step in steps]
    old = [(tensor_suffix(n), count) for n, count in by_tensor.items() if not n.startswith("blocks.") or int(n.split(".")[1]) < layers]
    whole = tuple(start for step in steps for start in step.fresh)
    there = {suffix for suffix, _ in old if not (whole and suffix.startswith(whole))} | {_NEW_BLOCKS}
    counts = []
    for step in steps:
        rows = sum(count for suffix, count in step.fresh_rows.items() if suffix in there)
        counts.append(rows + sum(count for suffix, count in old if step.fresh and suffix.startswith(step.fresh)))
        old = [pair for pair in old if not (step.fresh and pair[0].startswith(step.fresh))]
    return counts


def _merged(steps: list[Step], counts: list[int]) -> tuple[Change, ...]:
    """One change per field, in the order of the fields."""
    found = []
    for info in describe(ModelConfig):
        mine = [(step, count) for step, count in zip(steps, counts, strict=True) if step.field == info.name]
        if mine:
            needs: dict[str, Any] = {}
            for step, _ in mine:
                needs |= step.needs
            verdict = worst(tuple(step.verdict for step, _ in mine))
            how = " ".join(dict.fromkeys(step.how for step, _ in mine))
            found.append(Change(info.name, info.group, verdict, how, sum(count for _, count in mine), needs if verdict != EXACT else {}))
    return tuple(found)


# ---- doing it ------------------------------------------------------------------------------------------------------


def _plain_parameters(model: Transformer) -> dict[str, Tensor]:
    """The parameters by their own names, those of adapters left out."""
    return {name.replace(".base.", "."): p.detach() for name, p in model.named_parameters() if ".adapters." not in name}


@torch.no_grad()
def _fill(made: Transformer, weights: Weights, seed: int, expected: int) -> None:
    """Copy what was carried over; draw what is missing or marked: `expected` values, as planned."""
    config, drawn = made.config, 0
    init = config.init.make()
    for name, parameter in made.named_parameters():
        carried = weights.tensors.get(name)
        whole = carried is not None and carried.shape == parameter.shape
        marked = torch.isnan(carried) if carried is not None and whole else None
        drawn += parameter.numel() if marked is None else int(marked.sum())
        if marked is None or bool(marked.any()):
            draw(name, parameter, init, config.n_layers, seed)
        if carried is not None and marked is not None:
            parameter.copy_(torch.where(marked, parameter, carried) if bool(marked.any()) else carried)
    if drawn != expected:
        raise RuntimeError(f"A conversion planned to draw {expected} values and drew {drawn}: a rule does not say what it does.")


@torch.inference_mode()
def compare(old: Transformer, new: Transformer, seed: int = 0) -> tuple[float, float]:
    """(max |Δ logit|, the largest logit of `old`) on random tokens that both know, within both contexts. Adapters act as they
    do for the calling thread."""
    tokens = min(old.config.vocab_size, new.config.vocab_size)
    length = min(_PROBE_TOKENS, old.config.max_positions, new.config.max_positions)
    ids = torch.randint(tokens, (1, length), generator=torch.Generator().manual_seed(seed)).to(old.device)
    before, after = old(ids)[..., :tokens].float(), new(ids)[..., :tokens].float()
    return float((after - before).abs().max()), float(before.abs().max())
