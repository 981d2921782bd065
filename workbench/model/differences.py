"""What two architectures differ in."""

from __future__ import annotations

from typing import Any, NamedTuple

from workbench.core.fields import to_dict
from workbench.model.config import ModelConfig


class Difference(NamedTuple):
    """One field (dotted for an option of a kind, as `--set` takes it) and its value on either side; `None` also stands
    where a side's kind has no such option."""

    field: str
    a: Any
    b: Any


def differences(a: ModelConfig, b: ModelConfig) -> list[Difference]:
    """Every field whose values differ, in the order of the fields. Where kinds differ, the kind is named and its options
    are not: they have nothing in common."""
    return list(_compare("", to_dict(a), to_dict(b)))


def _compare(prefix: str, a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    found = []
    for name in dict.fromkeys((*a, *b)):
        one, other = a.get(name), b.get(name)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            kinds = one.get("kind"), other.get("kind")
            same = kinds[0] == kinds[1]
            found += _compare(f"{prefix}{name}.", one, other) if same else [Difference(prefix + name, *kinds)]
        else:
            found.append(Difference(prefix + name, one, other))
    return found
