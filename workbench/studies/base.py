"""What a study is: a reproducible experiment on a model, with a table and a verdict that follows from its figures."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from workbench.checkpoints import Loaded
from workbench.core.control import Control
from workbench.core.events import Event
from workbench.core.registry import Registry
from workbench.devices import Compute

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Column:
    """One column: its key in the rows, its heading, and the unit of its numbers. `help` says what it measures."""

    name: str
    label: str
    unit: str = ""
    help: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of plain values by column name; None where a figure does not exist."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Cell], ...]


@dataclass(frozen=True)
class Bar:
    """One bar of a study's figure. `value` is drawn on the figure's axis; `text` stands at its end."""

    label: str
    value: float
    text: str


@dataclass(frozen=True)
class Figure:
    """Horizontal bars in groups, from `start`; `log` for figures that span powers of ten."""

    title: str
    x_label: str
    groups: tuple[tuple[str, tuple[Bar, ...]], ...]
    log: bool = False
    start: float = 0.0


@dataclass(frozen=True)
class StudyResult:
    """`tables[0]` is the study's table; `verdict` was computed from it; `notes` say how to read it and what was left out."""

    study: str
    tables: tuple[Table, ...]
    verdict: str
    notes: tuple[str, ...]
    figure: Figure
    options: Mapping[str, Any]

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.tables[0].columns

    @property
    def rows(self) -> tuple[Mapping[str, Cell], ...]:
        return self.tables[0].rows

    def to_json(self) -> dict[str, Any]:
        """JSON-ready: numbers that JSON cannot hold are None."""
        tables = {
            table.name: {
                "title": table.title,
                "columns": [{f.name: getattr(column, f.name) for f in fields(column)} for column in table.columns],
                "rows": [{name: _plain(value) for name, value in row.items()} for row in table.rows],
            }
            for table in self.tables
        }
        return {"study": self.study, "verdict": self.verdict, "notes": list(self.notes), "options": dict(self.options), "tables": tables}


@dataclass(frozen=True)
class StudyContext:
    """What a study may use: the loaded model (None: none is loaded), read only; a folder for what it makes once and finds again;
    and where to compute."""

    loaded: Loaded | None
    home: Path
    compute: Compute


class Study(ABC):
    """One experiment, made from its options by `STUDIES.choose(name, options).make()`."""

    @abstractmethod
    def run(self, context: StudyContext, control: Control) -> Generator[Event, None, StudyResult | None]:
        """Do it. None when `control` stopped it. Other threads may use the model meanwhile and notice nothing.

        Raises `ConfigError` for options that cannot be used together, `WorkbenchError` when a model is needed and none is loaded.
        """


STUDIES: Registry[Study] = Registry("study")
"""Each kind is a `Study`, built as `make(**options)`; its options dataclass has `problems()` like every config."""


def _plain(value: Cell) -> Cell:
    return None if isinstance(value, float) and not math.isfinite(value) else value
