"""Numbers as they are typed: exact texts and sensible steps. Qt-free."""

from __future__ import annotations

import math

import numpy as np


def typed(value: float) -> str:
    """The shortest text that gives the same number back: 64, 0.05, 2e-4."""
    if isinstance(value, int):
        return str(value)
    if value == 0 or not math.isfinite(value) or 1e-3 <= abs(value) < 1e6:
        return np.format_float_positional(value, trim="-") if math.isfinite(value) else str(value)
    return np.format_float_scientific(value, trim="-", exp_digits=1).replace("e+", "e")


def grouped(value: float) -> str:
    """For reading: 1,048,576 and 0.05 and 2e-4."""
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else typed(float(f"{value:.6g}"))


def untyped(text: str, whole: bool) -> str:
    """What a person typed, made ready for `fields.parse`: no spaces, a decimal comma as point, thousands joined."""
    text = text.strip().replace(" ", "").replace("\N{NO-BREAK SPACE}", "").replace("\N{MINUS SIGN}", "-")
    if whole or "." in text or text.count(",") > 1:
        return text.replace(",", "")
    return text.replace(",", ".")


def stepped(value: float, steps: int, *, whole: bool, low: float | None, high: float | None, log: bool) -> float:
    """`value` after so many steps of its arrow keys, inside the bounds.

    Whole numbers go by one, on a logarithmic scale to the next power of two; others by a round part of their range, on a
    logarithmic scale to the next first digit (2e-4, 3e-4 … 9e-4, 1e-3).
    """
    for _ in range(abs(steps)):
        value = _one_step(value, 1 if steps > 0 else -1, whole, low, high, log)
    if high is not None:
        value = min(value, high)
    if low is not None:
        value = max(value, low)
    return int(value) if whole else float(value)


def _one_step(value: float, direction: int, whole: bool, low: float | None, high: float | None, log: bool) -> float:
    if whole:
        return _next_power(int(value), direction) if log else int(value) + direction
    if log and value > 0:
        return _next_digit(value, direction)
    if log:
        return (low or 1e-6) if direction > 0 else value
    step = _linear_step(value, low, high)
    return float(f"{value + direction * step:.12g}")


def _next_power(value: int, direction: int) -> int:
    if direction > 0:
        return 1 if value < 1 else 1 << value.bit_length()
    return 0 if value <= 1 else 1 << ((value - 1).bit_length() - 1)


def _next_digit(value: float, direction: int) -> float:
    exponent = math.floor(math.log10(value) + 1e-12)
    digit = value / 10.0**exponent
    nearest = round(digit)
    if direction > 0:
        target = nearest + 1 if digit > nearest - 1e-9 else nearest
    else:
        target = nearest - 1 if digit < nearest + 1e-9 else nearest
        if target < 1:
            target, exponent = 9, exponent - 1
    return float(f"{target}e{exponent}")


def _linear_step(value: float, low: float | None, high: float | None) -> float:
    """A hundredth to a twentieth of the range, rounded to 1 or 5 × 10^k; without a range a tenth of the value's size."""
    span = high - low if high is not None and low is not None and high - low <= 100 else max(abs(value), 0.1) * 2
    power: float = 10.0 ** math.floor(math.log10(span / 20))
    return 5 * power if span / 20 >= 5 * power else power
