"""A small axis with two kinds, and a config that has one field of every sort."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from workbench.core.fields import Option, Problem, choice, coerce_choices, field_problems, pick, setting
from workbench.core.registry import Choice, Registry

SHAPES: Registry[Any] = Registry("shape")
COLOURS: Registry[Any] = Registry("colour")


@dataclass(frozen=True)
class BoxOptions:
    width: float = setting(2.0, label="Box width", unit="cm", minimum=0.5, maximum=10, help="How wide the box is.")
    sides: str = pick((Option("four", "Four"), Option("six", "Six")), "four", label="Sides", help="How many sides it has.")


@SHAPES.register("dot", label="Dot", help="A point without size.", source="Euclid")
def _dot() -> str:
    return "dot"


@SHAPES.register("box", label="Box", options=BoxOptions, help="A box of some width.", source="Euclid")
def _box(width: float, sides: str, colour: str = "none") -> str:
    return f"box of {width} with {sides} sides in {colour}"


@COLOURS.register("red", label="Red", help="The colour red.", source="Newton")
def _red() -> str:
    return "red"


@dataclass(frozen=True, kw_only=True)
class Sample:
    count: int = setting(3, label="Count", group="Numbers", key="num_things", minimum=1, maximum=2_000_000, help="How many there are.")
    rate: float = setting(0.5, label="Rate", group="Numbers", unit="1/s", minimum=0.0, maximum=1.0, help="How fast it goes, at most 100 %.")
    limit: int | None = setting(None, label="Limit", none_label="no limit", help="Where it ends.")
    strict: bool = setting(True, label="Strict", help="Whether rules are kept.")
    title: str = setting("none", label="Title", help="What it is called.")
    tags: tuple[str, ...] = setting(("a", "b"), label="Tags", help="Words for finding it.")
    sizes: tuple[int, ...] = setting((), label="Sizes", help="Numbers for finding it.")
    level: str = pick((Option("low", "Low"), Option("high", "High")), "low", label="Level", help="How much of it.")
    colour: str | None = pick(COLOURS, None, label="Colour", help="Its colour, if any.")
    shape: Choice[Any] = choice(SHAPES, "dot", label="Shape", group="Looks", help="What it looks like.")
    inner: int = 7  # no metadata: belongs to the program, not to a person

    def __post_init__(self) -> None:
        coerce_choices(self)

    def problems(self) -> list[Problem]:
        return field_problems(self)


@pytest.fixture
def sample_type() -> type[Sample]:
    return Sample


@pytest.fixture
def sample() -> Callable[..., Sample]:
    return Sample


@pytest.fixture
def shapes() -> Registry[Any]:
    return SHAPES


@pytest.fixture
def colours() -> Registry[Any]:
    return COLOURS
