"""Bootstrap intervals, against distributions that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equirl.reporting.bootstrap import Bootstrap


def test_of_two_values_the_resampled_mean_is_either_or_in_between() -> None:
    # 0, 1/2 and 1 with probabilities 1/4, 1/2, 1/4: both ends are within 95 %.
    estimate = Bootstrap(2000, seed=0).mean([0.0, 1.0])
    assert (estimate.point, estimate.low, estimate.high) == (0.5, 0.0, 1.0)


def test_of_many_values_the_interval_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=400)
    estimate = Bootstrap(4000, seed=1).mean(values)
    half = 1.96 * values.std() / 20
    assert estimate.point == pytest.approx(values.mean())
    assert estimate.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert estimate.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_the_truth_is_covered_about_as_often_as_said() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(200):
        estimate = Bootstrap(300, seed).mean(rng.exponential(1.0, size=30))
        covered += estimate.low <= 1 <= estimate.high
    # Percentile intervals of few skewed values are a little short of 95 %.
    assert 0.86 <= covered / 200 <= 0.99


@given(factor=st.floats(0.01, 100), values=st.lists(st.floats(1, 10), min_size=2, max_size=8))
def test_a_ratio_scales_with_what_is_above(factor: float, values: list[float]) -> None:
    one = Bootstrap(100, seed=0).ratio(values, values[::-1])
    scaled = Bootstrap(100, seed=0).ratio([factor * value for value in values], values[::-1])
    assert one.point == pytest.approx(1)
    for bound in ("point", "low", "high"):
        assert getattr(scaled, bound) == pytest.approx(factor * getattr(one, bound))
    assert one.low <= one.high


def test_constant_times_have_an_exact_ratio() -> None:
    estimate = Bootstrap(100, seed=0).ratio([250.0] * 3, [1000.0] * 5)
    assert (estimate.point, estimate.low, estimate.high) == pytest.approx((0.25, 0.25, 0.25))


def test_a_single_seed_has_no_interval() -> None:
    bootstrap = Bootstrap(100, seed=0)
    for estimate in (bootstrap.mean([3.0]), bootstrap.ratio([3.0], [1.0, 2.0])):
        assert np.isnan([estimate.low, estimate.high]).all()
    assert bootstrap.mean([3.0]).point == 3


def test_a_band_is_the_interval_at_each_point() -> None:
    low, high = Bootstrap(2000, seed=0).band(np.array([[0.0, 5.0, 1.0], [1.0, 5.0, 3.0]]))
    assert low.tolist() == [0, 5, 1]
    assert high.tolist() == [1, 5, 3]
