"""Stop strings over token borders."""

from __future__ import annotations

import random

import pytest

from workbench.generation.stopping import StopStrings


def run(stops: list[str], pieces: list[str]) -> tuple[str, str | None, list[str]]:
    stopper = StopStrings(stops)
    shown = [stopper.push(p) for p in pieces]
    return "".join(shown) + stopper.flush(), stopper.found, shown


def test_a_stop_string_over_three_pieces_is_cut() -> None:
    assert run(["\nUser:"], ["Hello", "\nUs", "er", ": hi"])[:2] == ("Hello", "\nUser:")


def test_a_false_start_is_shown_as_soon_as_it_is_one() -> None:
    assert run(["abc"], ["xab", "d", "e"]) == ("xabde", None, ["x", "abd", "e"])


def test_held_text_is_given_back_at_the_end() -> None:
    assert run(["abc"], ["xab"]) == ("xab", None, ["x"])


def test_a_start_inside_a_false_start_is_still_held() -> None:
    assert run(["aab"], ["aa", "ab", "z"])[:2] == ("a", "aab")


def test_nothing_is_shown_after_the_stop() -> None:
    stopper = StopStrings(["."])
    assert (stopper.push("a.b"), stopper.push("c"), stopper.flush()) == ("a", "", "")


def test_no_stops_hold_nothing_back() -> None:
    assert run([], ["a", "b"])[2] == ["a", "b"]


@pytest.mark.parametrize("seed", range(30))
def test_the_cut_into_pieces_does_not_matter(seed: int) -> None:
    rng = random.Random(seed)
    stops = ["".join(rng.choices("ab", k=rng.randint(1, 4))) for _ in range(rng.randint(1, 3))]
    text = "".join(rng.choices("abc", k=30))
    whole = run(stops, [text])[:2]
    assert run(stops, list(text))[:2] == whole
    pieces, rest = [], text
    while rest:
        n = rng.randint(1, 5)
        pieces, rest = [*pieces, rest[:n]], rest[n:]
    assert run(stops, pieces)[:2] == whole
    ends = [text.find(s) + len(s) for s in stops if s in text]
    assert (whole[1] is None) == (not ends)
