"""Rules for single layers, as text: `0-3=int8`, `-1/keys=turboquant:bits=6`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.caches.base import KV_CODECS, Codec
from workbench.core.errors import ConfigError
from workbench.core.fields import Problem, field_problems, with_text
from workbench.core.registry import Choice

_RULE = re.compile(r"(?P<layers>[-\d,\s]+?)(?:/(?P<role>keys|values))?\s*=\s*(?P<kind>[\w-]+)(?::(?P<options>.*))?")
_RANGE = re.compile(r"(?P<first>-?\d+)(?:-(?P<last>-?\d+))?")


@dataclass(frozen=True)
class Override:
    """One rule: layers (negative ones count from the end), which of keys and values, and how they are stored."""

    ranges: tuple[tuple[int, int], ...]
    keys: bool
    values: bool
    codec: Choice[Codec]

    def layers(self, n_layers: int) -> set[int]:
        """The layers it names in a model of `n_layers`; others do not exist and are passed over."""
        found: set[int] = set()
        for first, last in self.ranges:
            a, b = (i + n_layers if i < 0 else i for i in (first, last))
            found |= set(range(max(a, 0), min(b, n_layers - 1) + 1))
        return found


def parse_override(text: str) -> Override:
    """Raises `ConfigError` that says what of the rule cannot be read."""
    rule = _RULE.fullmatch(text.strip())
    parts = [_RANGE.fullmatch(part.strip()) for part in rule["layers"].split(",")] if rule else []
    if rule is None or not all(parts):
        raise ConfigError(f"The rule {text!r} cannot be read.", hint="Write LAYERS=KIND, such as 0-3=int8 or -1/keys=turboquant:bits=6.")
    ranges = tuple((int(p["first"]), int(p["last"] if p["last"] is not None else p["first"])) for p in parts if p)
    codec = KV_CODECS.choose(rule["kind"])
    for option in filter(None, (rule["options"] or "").split(",")):
        codec = Choice(KV_CODECS, codec.kind, with_text(codec.options, option.strip()))
    problems = field_problems(codec.options)
    if problems:
        raise ConfigError(problems[0].message, hint=problems[0].fix)
    return Override(ranges, rule["role"] != "values", rule["role"] != "keys", codec)


def override_problems(texts: Sequence[str]) -> list[Problem]:
    """What is wrong with the rules, at their field."""
    found: list[Problem] = []
    for text in texts:
        try:
            parse_override(text)
        except ConfigError as error:
            found.append(Problem("layer_overrides", error.message, error.hint))
    return found
