"""Numbers as people read them."""

from __future__ import annotations

import pytest

from workbench.core.format import bytes_text, count_text, duration_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (98_400_000, "98.4 MB"), (123_456, "123 kB"), (99_960, "100 kB"),
        (999_700, "1.0 MB"), (999_999_999, "1.0 GB"), (17.18e9, "17.2 GB"), (5e12, "5000 GB"), (-2_500, "-2.5 kB"),
    ],
)  # fmt: skip
def test_bytes(count: float, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"), (960, "960"), (1000, "1 k"), (1234, "1.234 k"), (134_515_008, "134.5 M"), (999_999, "1 M"), (1_180_000_000, "1.18 B"),
        (999_960_000, "1 B"), (2.5, "2.5"),
    ],
)  # fmt: skip
def test_counts(count: float, text: str) -> None:
    assert count_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0004, "0 ms"), (0.25, "250 ms"), (0.9996, "1.0 s"), (1, "1.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (42, "42 s"),
        (59.7, "1 min 00 s"), (125, "2 min 05 s"), (3599.8, "1 h 00 min"), (4800, "1 h 20 min"), (100_000, "27 h 46 min"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
