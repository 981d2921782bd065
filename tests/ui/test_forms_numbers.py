"""Numbers and lists as they are typed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ui.forms.numbers import grouped, stepped, typed, untyped
from ui.forms.texts import list_parts, list_text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_comes_back_exactly_from_its_text(value: float) -> None:
    assert float(untyped(typed(value), whole=False)) == value


@given(st.integers())
def test_a_whole_number_comes_back_exactly_from_its_text(value: int) -> None:
    assert int(untyped(typed(value), whole=True)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [(64, "64"), (0.05, "0.05"), (2e-4, "2e-4"), (1.0, "1"), (0.0, "0"), (3.3e-7, "3.3e-7"), (1.5e9, "1.5e9"), (-2e-5, "-2e-5")],
)
def test_texts_are_short(value: float, text: str) -> None:
    assert typed(value) == text


@pytest.mark.parametrize(("value", "text"), [(1_048_576, "1,048,576"), (0.5, "0.5"), (1.0, "1"), (2e-4, "2e-4"), (0, "0")])
def test_bounds_are_read_in_full(value: float, text: str) -> None:
    assert grouped(value) == text


@pytest.mark.parametrize(
    ("text", "whole", "meant"),
    [
        ("0,5", False, "0.5"),
        ("1,000.5", False, "1000.5"),
        ("1,000,000", False, "1000000"),
        ("1,000", True, "1000"),
        (" 1 000 ", True, "1000"),
        ("1\N{NO-BREAK SPACE}000", True, "1000"),
        ("\N{MINUS SIGN}3", True, "-3"),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, whole: bool, meant: str) -> None:
    assert untyped(text, whole) == meant


@pytest.mark.parametrize(
    ("value", "steps", "settings", "after"),
    [
        (8, 1, dict(whole=True, log=True), 16),
        (8, -1, dict(whole=True, log=True), 4),
        (12, 1, dict(whole=True, log=True), 16),
        (12, -1, dict(whole=True, log=True), 8),
        (0, 1, dict(whole=True, log=True), 1),
        (1, -1, dict(whole=True, log=True), 0),
        (8, 3, dict(whole=True, log=False), 11),
        (2**70, 1, dict(whole=True, log=False), 2**70 + 1),
        (500, 1, dict(whole=True, log=True, high=512), 512),
        (1, -5, dict(whole=True, log=False, low=0), 0),
        (2e-4, 1, dict(whole=False, log=True), 3e-4),
        (9e-4, 1, dict(whole=False, log=True), 1e-3),
        (1e-3, -1, dict(whole=False, log=True), 9e-4),
        (2.5e-4, 1, dict(whole=False, log=True), 3e-4),
        (2.5e-4, -1, dict(whole=False, log=True), 2e-4),
        (0.0, 1, dict(whole=False, log=True, low=1e-7), 1e-7),
        (0.05, 1, dict(whole=False, log=False, low=0, high=0.5), 0.06),
        (0.7, -1, dict(whole=False, log=False, low=0, high=2), 0.6),
        (0.95, 1, dict(whole=False, log=False, low=0, high=1), 1.0),
        (1.0, 1, dict(whole=False, log=False, low=0), 1.1),
    ],
)
def test_steps_are_round_and_inside_the_bounds(value: float, steps: int, settings: dict[str, float], after: float) -> None:
    got = stepped(value, steps, **{"low": None, "high": None, **settings})  # type: ignore[arg-type]
    assert got == pytest.approx(after, rel=1e-12)
    assert isinstance(got, int if settings["whole"] else float)


@given(st.floats(1e-9, 1e3), st.booleans())
def test_a_logarithmic_step_moves_by_at_most_a_factor_of_two(value: float, up: bool) -> None:
    after = stepped(value, 1 if up else -1, whole=False, low=None, high=None, log=True)
    assert (after > value) == up
    assert 0.49 <= after / value <= 2.01
    assert math.isclose(after, float(f"{after:.1g}"))


@given(st.lists(st.text(alphabet="ab ,\\\n\t\rn#s", min_size=1).filter(lambda t: t != "")))
def test_any_list_of_texts_comes_back_from_its_line(items: list[str]) -> None:
    line = list_text(tuple(items))
    assert "\n" not in line
    assert list_parts(line) == items


def test_spaces_around_commas_and_empty_items_mean_nothing() -> None:
    assert list_parts(" a ,, b,") == ["a", "b"]
    assert list_parts("") == []
    assert list_parts("q_proj.*, \\d+") == ["q_proj.*", "\\d+"], "an unknown escape is left as it is"
