"""Series: the fast way to average, thin and store equals the plain one."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from ui.plots.activity import PAUSE, ActivityClock
from ui.plots.ranges import HeightRange, x_range
from ui.plots.series import Ema, Series, even_indices, extreme_indices


def plain_ema(values: list[float], smoothing: float) -> list[float]:
    """The definition, one value after the other."""
    out, mean, count = [], 0.0, 0
    for value in values:
        if not math.isfinite(value):
            out.append(math.nan)
            continue
        mean = smoothing * mean + (1 - smoothing) * value
        count += 1
        out.append(mean / (1 - smoothing**count))
    return out


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6, 0.9, 0.99])
def test_the_average_equals_the_plain_loop_however_the_points_arrive(smoothing: float) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(3.0, 1.0, 1500)
    values[[0, 17, 18, 600, 1499]] = np.nan
    series = Series(smoothing)
    start = 0
    while start < len(values):
        stop = min(start + int(rng.integers(1, 130)), len(values))
        series.extend(np.arange(start, stop), values[start:stop])
        start = stop
    np.testing.assert_allclose(series.smooth, plain_ema(values.tolist(), smoothing), rtol=1e-12, atol=1e-14)


def test_another_smoothing_averages_everything_again() -> None:
    values = np.random.default_rng(2).normal(size=500)
    series = Series(0.9)
    series.extend(np.arange(500), values)
    series.set_smoothing(0.5)
    series.append(500, 7.0)
    np.testing.assert_allclose(series.smooth, plain_ema([*values.tolist(), 7.0], 0.5), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("smoothing", [1.0, -0.1, 2.0])
def test_a_smoothing_that_never_forgets_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match="smoothing"):
        Ema(smoothing)


def test_points_come_back_as_they_went_in_across_growth() -> None:
    series = Series()
    for start in range(0, 3000, 250):
        series.extend(np.arange(start, start + 250), np.arange(start, start + 250) * 2.0)
    assert len(series) == 3000
    assert (series.x == np.arange(3000)).all()
    assert (series.y == np.arange(3000) * 2.0).all()
    assert series.ordered


def test_a_million_points_arrive_quickly_and_take_three_doubles_each() -> None:
    values = np.random.default_rng(3).normal(size=1_000_000)
    series = Series(0.9)
    started = time.thread_time()
    for start in range(0, 1_000_000, 10_000):
        series.extend(np.arange(start, start + 10_000), values[start : start + 10_000])
    keep = extreme_indices(series.y, 2000)
    assert time.thread_time() - started < 2.0
    assert len(series) == 1_000_000
    assert series.nbytes <= 3 * 8 * 2**20
    assert len(keep) <= 2000
    assert series.y[keep].min() == values.min()
    assert series.y[keep].max() == values.max()


def test_a_limit_bounds_memory_and_keeps_every_peak() -> None:
    series = Series(0.5, limit=1000)
    values = np.random.default_rng(4).normal(size=20_000)
    values[7] = 100.0
    values[19_990] = -100.0
    for i in range(0, 20_000, 7):
        series.extend(np.arange(i, min(i + 7, 20_000)), values[i : i + 7])
    assert len(series) <= 1000
    assert series.thinned
    assert series.y.max() == 100.0
    assert series.y.min() == -100.0
    assert series.x[0] == 0
    assert series.x[-1] == 19_999
    assert (np.diff(series.x) > 0).all()


def test_rows_of_unequal_length_and_endless_places_are_refused() -> None:
    series = Series()
    with pytest.raises(ValueError, match="equally long"):
        series.extend([1, 2], [1])
    with pytest.raises(ValueError, match="finite"):
        series.extend([math.inf], [1])
    with pytest.raises(ValueError, match="least is 16"):
        Series(limit=3)
    series.extend([], [])
    assert len(series) == 0


def test_a_gap_breaks_the_line_once() -> None:
    series = Series()
    series.gap()
    assert len(series) == 0
    series.extend([1, 2], [5, 6])
    series.gap()
    series.gap()
    assert len(series) == 3
    assert math.isnan(series.y[2])
    assert series.last() == (2.0, 6.0)


def test_last_and_nearest_pass_over_gaps() -> None:
    series = Series()
    assert series.last() is None
    assert series.nearest(1) is None
    series.extend([1, 2, 3, 4], [1, math.nan, 3, math.nan])
    assert series.last() == (3.0, 3.0)
    assert series.nearest(2.4) == 2
    assert series.nearest(4.0) == 2
    assert series.nearest(-10) == 0
    series.extend(np.arange(5, 3000), np.full(2995, math.nan))
    assert series.last() == (3.0, 3.0)


def test_a_step_that_is_measured_twice_shows_its_newest_value() -> None:
    series = Series()
    series.extend([1, 2, 3, 2], [1, 2, 3, 9])
    assert not series.ordered
    assert series.nearest(2) == 3


def test_between_gives_one_more_point_at_each_side() -> None:
    series = Series()
    series.extend(np.arange(10), np.arange(10))
    assert series.between(3, 5) == slice(2, 7)
    assert series.between(-5, 100) == slice(0, 10)
    series.append(2, 2)  # resumed from step 2: the order no longer helps
    assert series.between(3, 5) == slice(0, 11)


@pytest.mark.parametrize("length", [1, 4, 50, 51, 997])
def test_thinning_keeps_ends_extremes_and_gaps(length: int) -> None:
    y = np.random.default_rng(length).normal(size=length)
    y[length // 2 : length // 2 + length // 10] = np.nan
    keep = extreme_indices(y, 50)
    assert len(keep) <= 50
    assert keep[0] == 0
    assert keep[-1] == length - 1
    assert (np.diff(keep) > 0).all()
    assert np.nanmax(y[keep]) == np.nanmax(y)
    assert np.nanmin(y[keep]) == np.nanmin(y)
    assert np.isnan(y[keep]).any() == np.isnan(y).any()


def test_a_smooth_line_is_thinned_evenly_and_keeps_its_gaps() -> None:
    y = np.linspace(0, 1, 10_000)
    assert len(even_indices(y, 500)) == 500
    y[5000:5003] = np.nan
    keep = even_indices(y, 500)
    assert np.isnan(y[keep]).any()
    y[::2] = np.nan
    assert len(even_indices(y, 500)) == 500


# ---- ranges ------------------------------------------------------------------------------------------------------


def series_of(length: int, start: int = 0) -> Series:
    series = Series()
    series.extend(np.arange(start, start + length), np.ones(length))
    return series


def test_all_points_are_shown_or_the_newest_runs_last() -> None:
    old, new, sparse = series_of(1000), series_of(300), Series()
    sparse.extend([0, 100, 200], [1, 1, 1])
    assert x_range([old, new], [new], None)[0] == 0
    low, high = x_range([old, new, sparse], [new, sparse], 50)
    assert low == 250
    assert 299 < high < 320


def test_one_point_is_not_stretched_over_the_width() -> None:
    low, high = x_range([series_of(1)], [series_of(1)], None)
    assert high - low >= 5


def test_the_height_keeps_still_until_values_leave_it_or_shrink() -> None:
    height = HeightRange(from_zero=False)
    first = height.fit(2.0, 4.0)
    assert first is not None
    assert first[0] < 2.0
    assert first[1] > 4.0
    assert height.fit(2.1, 4.05) is None
    assert height.fit(2.0, 6.0) is not None
    assert height.fit(2.0, 2.5) is not None
    height.forget()
    assert height.fit(2.0, 2.5) is not None


def test_amounts_begin_at_zero_and_equal_values_get_room() -> None:
    amounts = HeightRange(from_zero=True)
    assert amounts.fit(100.0, 120.0) == (0.0, pytest.approx(132.0))
    flat = HeightRange(from_zero=False).fit(0.0, 0.0)
    assert flat is not None
    assert flat[0] < 0.0 < flat[1]
    logarithmic = HeightRange(from_zero=True)
    logarithmic.log = True
    assert logarithmic.fit(2.0, 2.1)[0] > 1.9  # type: ignore[index]


# ---- the clock of activity ---------------------------------------------------------------------------------------


def test_idle_time_is_cut_out_of_the_axis() -> None:
    clock = ActivityClock()
    clock.begin(100.0)
    assert clock.place(101.0) == 1.0
    assert clock.place(110.0) == 10.0
    clock.end()
    clock.begin(5000.0)
    assert clock.place(5000.5) == 10.0 + PAUSE + 0.5


def test_jobs_beside_each_other_share_the_axis() -> None:
    clock = ActivityClock()
    clock.begin(0.0)
    assert clock.place(5.0) == 5.0
    clock.begin(8.0)
    assert clock.place(9.0) == 9.0
    clock.end()
    assert clock.place(12.0) == 12.0
    clock.end()
    clock.begin(100.0)
    assert clock.place(100.0) == 12.0 + PAUSE


def test_values_without_a_job_and_after_clear_begin_the_axis() -> None:
    clock = ActivityClock()
    assert clock.place(50.0) == 0.0
    assert clock.place(52.0) == 2.0
    clock.clear()
    assert clock.place(60.0) == 0.0
