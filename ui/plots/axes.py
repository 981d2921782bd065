"""Axes that print plain numbers: decimal bytes, minutes and seconds, few labels on a logarithmic scale."""

from __future__ import annotations

import math

import numpy as np
import pyqtgraph as pg

_BYTE_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_CLOCK_STEPS = (5, 10, 15, 20, 30, 60, 90, 120, 180, 240, 300, 600, 900, 1200, 1800, 3600, 7200, 14400, 28800, 43200, 86400)


def number_text(value: float, spacing: float = 0.0) -> str:
    """A tick or a reading without SI prefix: as many places as the spacing needs, scientific when tiny or huge."""
    if value == 0:
        return "0"
    size = abs(value)
    if size < 1e-3 or size >= 1e6:
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    if spacing > 0:
        places = next((p for p in range(12) if math.isclose(round(spacing, p), spacing, rel_tol=1e-9)), 12)
        return f"{value:.{places}f}"
    return f"{value:.4g}" if size < 1e4 else f"{value:.0f}"


def clock_text(seconds: float) -> str:
    """0:05, 3:20, 1:05:00."""
    whole = round(seconds)
    sign, whole = ("-" if whole < 0 else ""), abs(whole)
    hours, rest = divmod(whole, 3600)
    if hours:
        return f"{sign}{hours}:{rest // 60:02d}:{rest % 60:02d}"
    return f"{sign}{rest // 60}:{rest % 60:02d}"


class UnitAxis(pg.AxisItem):  # type: ignore[misc]
    """An axis of one unit. "B" prints decimal MB, "s" prints minutes:seconds, "step" whole numbers, any other the bare number."""

    def __init__(self, orientation: str, unit: str = "") -> None:
        super().__init__(orientation)
        self.unit = unit
        self.enableAutoSIPrefix(False)  # a learning rate must not be drawn as "rate (x1e-06)"
        self.setTickDensity(1.5)
        self.setStyle(hideOverlappingLabels=True, tickTextOffset=4, tickLength=-4, maxTickLevel=1)

    def tickSpacing(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, float]]:
        span = abs(maxVal - minVal)
        if self.unit == "s" and span > 20:
            wanted = span / max(2.5, size / 60)
            major = next((s for s in _CLOCK_STEPS if s >= wanted), math.ceil(wanted / 86400) * 86400)
            return [(float(major), 0.0)]
        spacing: list[tuple[float, float]] = super().tickSpacing(minVal, maxVal, size)
        return [s for s in spacing if s[0] >= 1] or [(1.0, 0.0)] if self.unit == "step" else spacing

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        if self.logMode:
            return self.logTickStrings(values, scale, spacing)
        if self.unit == "B":
            return self._bytes(values, spacing)
        if self.unit == "s" and spacing >= 1:
            return [clock_text(v) for v in values]
        return [number_text(v, spacing) for v in values]

    def _bytes(self, values: list[float], spacing: float) -> list[str]:
        top = max(abs(v) for v in self.range)
        size, name = next(((s, n) for s, n in _BYTE_UNITS if top >= s), (1.0, "B"))
        return [f"{number_text(v / size, spacing / size)} {name}" if v else "0" for v in values]

    def logTickValues(
        self, minVal: float, maxVal: float, size: float, stdTicks: list[tuple[float, list[float]]]
    ) -> list[tuple[float, list[float]]]:
        """Levels 1.0 and 0.5 carry labels, level 0.1 only lines. Under 1.3 decades the ticks are round numbers instead."""
        if maxVal - minVal <= 1.3:
            low, high = 10.0**minVal, 10.0**maxVal
            step = _round_step((high - low) / max(2.5, size / 45))
            ticks = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step
            return [(1.0, [float(v) for v in np.log10(ticks[ticks > 0])])]
        decades = np.arange(math.ceil(minVal), math.floor(maxVal) + 1)
        every = max(1, math.ceil(len(decades) / max(2.0, size / 30)))
        majors = [float(d) for d in decades if d % every == 0]
        if every > 1:
            return [(1.0, majors), (0.1, [float(d) for d in decades if d % every])]
        between = [(d + math.log10(m), m) for d in range(math.floor(minVal), math.ceil(maxVal)) for m in range(2, 10)]
        inside = [(v, m) for v, m in between if minVal <= v <= maxVal]
        roomy = size / max(maxVal - minVal, 1e-9) > 90
        labelled = [v for v, m in inside if roomy and m in (2, 5)]
        return [(1.0, majors), (0.5, labelled), (0.1, [v for v, m in inside if not (roomy and m in (2, 5))])]

    def logTickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        if spacing == 0.1:
            return ["" for _ in values]
        if self.unit == "B":
            return [_byte_tick(10.0**v) for v in values]
        return [number_text(float(f"{10.0**v:.6g}")) for v in values]


def _byte_tick(value: float) -> str:
    size, name = next(((s, n) for s, n in _BYTE_UNITS if value >= s), (1.0, "B"))
    return f"{value / size:.3g} {name}"


def _round_step(wanted: float) -> float:
    """The least of 1, 2, 5 × 10^k that is not below `wanted`."""
    power: float = 10.0 ** math.floor(math.log10(max(wanted, 1e-300)))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= wanted * (1 - 1e-9))
