"""What a setting could be instead, and what that would cost in this very architecture. Qt-free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from ui.forms.help import plain_value
from workbench.core.errors import WorkbenchError
from workbench.core.fields import FieldInfo, info_of
from workbench.core.registry import Choice
from workbench.model import PRESETS, Accounting, ModelConfig, account

MOST_NUMBERS: Final = 4


@dataclass(frozen=True)
class Cost:
    """What a change of architecture adds (or saves): parameters, cache bytes per token in float32, FLOPs of one token."""

    parameters: int
    kv_bytes: int
    flops: int

    @property
    def none(self) -> bool:
        return not (self.parameters or self.kv_bytes or self.flops)


@dataclass(frozen=True)
class Alternative:
    """Another value of one setting. `cost` None: with it the architecture cannot be built, and `problem` says why."""

    value: Any
    label: str
    config: ModelConfig
    cost: Cost | None
    problem: str = ""


def difference(now: Accounting, then: Accounting, context: int) -> Cost:
    return Cost(
        then.parameters - now.parameters, then.kv_bytes(1) - now.kv_bytes(1), then.flops_per_token(context) - now.flops_per_token(context)
    )


def owner_of(config: Any, path: str) -> tuple[Any, str]:
    """The dataclass that has the field at a dotted path, and the field's own name."""
    first, _, rest = path.partition(".")
    return owner_of(getattr(config, first).options, rest) if rest else (config, first)


def field_at(config: Any, path: str) -> tuple[FieldInfo, Any]:
    """(what is known about the field, its value). `ConfigError` when there is no such field."""
    owner, name = owner_of(config, path)
    return info_of(type(owner), name), getattr(owner, name)


def with_value(config: Any, path: str, value: Any) -> Any:
    """`config` with the field at a dotted path set."""
    first, _, rest = path.partition(".")
    if not rest:
        return replace(config, **{first: value})
    old: Choice[Any] = getattr(config, first)
    return replace(config, **{first: Choice(old.registry, old.kind, with_value(old.options, rest, value))})


def alternatives(accounting: Accounting, path: str, context: int) -> list[Alternative]:
    """Every other kind or word the setting may take, and some numbers around the one it has."""
    config = accounting.config
    info, value = field_at(config, path)
    found = []
    for other in _values(info, value, path):
        changed: ModelConfig = with_value(config, path, other)
        label = plain_value(info, other)
        problems = changed.problems()
        if problems and info.type in (int, float) and other is not None:
            continue  # of the many numbers only those that can be built are worth a line
        try:
            cost = None if problems else difference(accounting, account(changed), context)
        except WorkbenchError as error:
            found.append(Alternative(other, label, changed, None, str(error)))
            continue
        found.append(Alternative(other, label, changed, cost, str(problems[0]) if problems else ""))
    numbers = [a for a in found if info.type in (int, float) and a.value is not None]
    others = [a for a in found if a not in numbers]
    told = {a.cost for a in others if a.cost is not None and not a.cost.none}  # what "automatic" comes to is not said twice
    kept = [a for a in numbers if a.cost not in told][:MOST_NUMBERS]
    return others + sorted(kept, key=lambda a: float(a.value))


def _values(info: FieldInfo, value: Any, path: str) -> Iterator[Any]:
    if info.is_choice and info.registry is not None:
        yield from (info.registry.choose(name) for name in info.registry.names() if name != value.kind)
        return
    if info.optional and value is not None:
        yield None
    if info.pick_options():
        yield from (o.name for o in info.pick_options() if o.name != value)
    elif info.type is bool:
        yield from (v for v in (True, False) if v != value)
    elif value is None:
        yield from used_by_presets(path)
    elif info.type is int:
        yield from _numbers(info, value)


def used_by_presets(path: str) -> list[Any]:
    """The values that named architectures give a setting, the most common first; for one that is automatic now."""
    counted: Counter[Any] = Counter()
    for preset in PRESETS.values():
        try:
            owner, name = owner_of(preset.config, path)
        except AttributeError:  # an option of a kind that it does not have
            continue
        counted[getattr(owner, name, None)] += 1
    return [value for value, _ in counted.most_common() if value is not None]


def _numbers(info: FieldInfo, value: int) -> Iterator[int]:
    """Halves, doubles, thirds and neighbours, inside the bounds."""
    low, high = info.minimum, info.maximum
    seen = {value}
    for number in (value // 2, 2 * value, value // 3, 3 * value, value - 1, value + 1):
        if number not in seen and (low is None or number >= low) and (high is None or number <= high):
            seen.add(number)
            yield number
