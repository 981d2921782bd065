"""Several architectures as the lines of one table: what they are set to, and what that costs. Qt-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ui.architecture.prices import price_rows
from ui.forms.help import plain_value
from workbench.core.fields import FieldInfo, describe
from workbench.core.registry import Choice
from workbench.model import Accounting, ModelConfig
from workbench.model.conversion import resolved

NOTHING: Final = "–"
MINUS: Final = "\N{MINUS SIGN}"
SMALLEST: Final = 0.0005
"""A relative difference below it is not worth a figure."""


@dataclass(frozen=True)
class Line:
    """One line: a label and a text for each column. `heading` lines have no texts; `differs`: the columns are not all alike."""

    label: str
    texts: tuple[str, ...] = ()
    differs: bool = False
    heading: bool = False
    tip: str = ""


def lines(columns: Sequence[Accounting], context: int | None, *, only_differences: bool) -> list[Line]:
    """Settings by group, then parameters, bytes and FLOPs; each relative to the first column. `context` None: the smallest
    of their own."""
    at = context or min(c.config.max_positions for c in columns)
    found = _settings([resolved(c.config) for c in columns])
    shown = [line for line in found if line.differs or not only_differences]
    title = "Settings that differ" if only_differences else "Settings"
    if not shown:
        shown = [Line("No setting differs.")]
    return [Line(title, heading=True), *shown, *_figures(columns, at)]


def _settings(configs: list[ModelConfig]) -> list[Line]:
    found = []
    for info in describe(ModelConfig):
        found += _setting(info, [getattr(c, info.name) for c in configs], "")
    return found


def _setting(info: FieldInfo, values: list[Any], prefix: str) -> list[Line]:
    """A field, and the options of its kinds; a column whose kind has no such option has a dash."""
    texts = tuple(NOTHING if value is _ABSENT else plain_value(info, value) for value in values)
    found = [Line(prefix + info.label, texts, any(t != texts[0] for t in texts), tip=info.help)]
    options: dict[str, FieldInfo] = {}
    for value in values:
        if isinstance(value, Choice):
            options |= {i.name: i for i in describe(type(value.options)) if i.name not in options}
    for name, inner in options.items():
        inside = [getattr(v.options, name, _ABSENT) if isinstance(v, Choice) else _ABSENT for v in values]
        found += _setting(inner, inside, f"{prefix}{info.label}: ")
    return found


class _Absent:
    """Stands for an option that a column's kind does not have."""


_ABSENT: Final = _Absent()


def _figures(columns: Sequence[Accounting], context: int) -> list[Line]:
    tables = [price_rows(c, columns[0], context) for c in columns]
    # A part that one of them lacks is in every table: each is priced against the first, and the first against the others.
    labels = list(dict.fromkeys(row.label for table in tables for row in table))
    by_label = [{row.label: row for row in table} for table in tables]
    found = []
    headings = {"parameters": "Parameters", "bytes": "Memory", "FLOPs": "Computation"}
    unit = ""
    for label in sorted(labels, key=lambda name: _order(by_label, name)):
        rows = [table.get(label) for table in by_label]
        one = next(row for row in rows if row is not None)
        if one.unit != unit:
            unit = one.unit
            found.append(Line(headings[unit], heading=True))
        numbers = [0.0 if row is None else row.now for row in rows]
        texts = tuple(
            (one.text(number) if number else NOTHING) + (relative(number, numbers[0]) if index else "")
            for index, number in enumerate(numbers)
        )
        found.append(Line(label, texts, any(n != numbers[0] for n in numbers), tip=one.tip))
    return found


def _order(tables: list[dict[str, Any]], label: str) -> tuple[int, bool, int]:
    """Parts before their sum, and each unit together, in the order of the longest table."""
    units = ("parameters", "bytes", "FLOPs")
    table = next(t for t in tables if label in t)
    row = table[label]
    return units.index(row.unit), row.total, max(list(t).index(label) for t in tables if label in t)


def relative(value: float, first: float) -> str:
    """ " (+7 %)", " (×3.2)", or nothing for no difference worth a figure."""
    if not first or not value or abs(value / first - 1) < SMALLEST:
        return ""
    ratio = value / first
    if ratio >= 2 or ratio <= 0.5:
        return f" (×{ratio:.3g})"
    return f" ({'+' if ratio > 1 else MINUS}{abs(ratio - 1) * 100:.3g} %)"
