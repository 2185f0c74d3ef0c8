"""The numbers of one run, against answers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equirl.reporting.measures import horizon_of, mean_over, measures_of
from equirl.reporting.runs import Run

returns_of = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20)


def run_of(
    steps: list[int],
    returns: list[float],
    total: int | None = None,
    finished: bool = True,
    seconds: list[float] | None = None,
) -> Run:
    clocks = {} if seconds is None else {"seconds": np.asarray(seconds, float)}
    return Run(
        path=Path("run"),
        env="task",
        method="plain",
        seed=0,
        steps=np.asarray(steps),
        returns=np.asarray(returns, float),
        clocks=clocks,
        total_timesteps=total or steps[-1],
        finished=finished,
        config={},
    )


@given(value=st.floats(-1e3, 1e3), n=st.integers(1, 20))
def test_a_constant_curve_has_that_mean_everywhere(value: float, n: int) -> None:
    run = run_of([10 * (i + 1) for i in range(n)], [value] * n)
    found = measures_of(run, 10 * n, None)
    assert (found.area, found.final) == (pytest.approx(value), pytest.approx(value))
    assert found.best == found.first == value
    assert found.reached is found.steps_to_threshold is None


def test_a_straight_line_from_the_first_evaluation_to_the_end() -> None:
    run = run_of([10, 20, 30, 40, 100], [0, 1, 2, 3, 9])
    found = measures_of(run, 100, None)
    # (10 · 0 + ∫₁₀¹⁰⁰ (t − 10)/10 dt) / 100, and the mean of (t − 10)/10 from 90 to 100.
    assert found.area == pytest.approx((90 * 90 / 20) / 100)
    assert found.final == pytest.approx(8.5)
    assert (found.first, found.best) == (0, 9)


@given(returns=returns_of)
def test_the_area_does_not_depend_on_extra_points_on_the_curve(returns: list[float]) -> None:
    steps = [10 * (i + 1) for i in range(len(returns))]
    run = run_of(steps, returns)
    every = list(range(1, steps[-1] + 1))
    dense = run_of(every, np.interp(every, steps, returns).tolist())
    assert mean_over(run, 0, steps[-1]) == pytest.approx(mean_over(dense, 0, steps[-1]), abs=1e-6)


@given(returns=returns_of, threshold=st.floats(-1e3, 1e3))
def test_the_threshold_is_reached_at_the_first_evaluation_that_is_not_below_it(
    returns: list[float], threshold: float
) -> None:
    steps = [10 * (i + 1) for i in range(len(returns))]
    found = measures_of(run_of(steps, returns, total=1000), 1000, threshold)
    expected = next((s for s, r in zip(steps, returns, strict=True) if r >= threshold), None)
    assert found.reached == (expected is not None)
    assert found.steps_to_threshold == (1000 if expected is None else expected)


def test_seconds_to_the_threshold_are_those_of_the_same_evaluation() -> None:
    run = run_of([10, 20, 30], [0, 5, 9], seconds=[1.0, 2.5, 4.0])
    assert measures_of(run, 30, 5).seconds_to_threshold == 2.5
    never = measures_of(run, 30, 10)
    assert (never.reached, never.seconds_to_threshold) == (False, 4.0)
    assert never.cpu_seconds_to_threshold is None


def test_nothing_after_the_horizon_counts() -> None:
    run = run_of([10, 20, 30], [0, 1, 100], seconds=[1, 2, 3])
    found = measures_of(run, 20, 50)
    assert (found.reached, found.steps_to_threshold, found.seconds_to_threshold) == (False, 20, 2)
    assert found.best == 1
    assert found.area == pytest.approx(0.25)


def test_a_run_that_stopped_at_its_target_keeps_its_return() -> None:
    stopped = run_of([10, 20], [0, 8], total=100)
    found = measures_of(stopped, 100, 8)
    assert found.final == 8
    assert found.area == pytest.approx((10 * 4 + 80 * 8) / 100)


def test_the_shortest_run_decides_how_much_is_compared() -> None:
    whole, stopped = run_of([50, 100], [0, 1]), run_of([50], [1], total=100)
    beyond = run_of([50, 103], [0, 1], total=100)  # the last round ends a little later
    short, unfinished = run_of([30], [1]), run_of([50, 70], [0, 1], total=100, finished=False)
    assert horizon_of([whole, stopped]) == 100
    assert horizon_of([whole, stopped, beyond]) == 103
    assert horizon_of([beyond, short]) == 30
    assert horizon_of([whole, unfinished]) == 70
