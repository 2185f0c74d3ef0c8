"""What rliable makes of normalised returns, against answers known without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rliable import metrics

from equirl.reporting.aggregates import (
    ALL,
    Aggregates,
    Rliable,
    _probability_of_improvement,
    aggregate,
    count_intervals,
)
from equirl.reporting.normalisation import Scale, normalised, scales_of

Scores = Mapping[tuple[str, str], Sequence[float]]


def frame_of(scores: Scores) -> pd.DataFrame:
    """Runs of environments and methods whose every normalised return is the score."""
    rows = [
        {"env": env, "method": method, "seed": seed, "final": score, "area": score, "reached": True}
        | {"normalised_final": score, "normalised_area": score, "steps_to_threshold": 100 - score}
        for (env, method), own in scores.items()
        for seed, score in enumerate(own)
    ]
    return pd.DataFrame(rows)


def aggregates_of(scores: Scores, reps: int = 100) -> Aggregates:
    return aggregate(frame_of(scores), Rliable(reps, 0, lambda: None))


def one(frame: pd.DataFrame, **values: str) -> pd.Series:
    for key, value in values.items():
        frame = frame[frame[key] == value]
    assert len(frame) == 1
    return frame.iloc[0]


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    found = aggregates_of({("a", "plain"): [0, 100, 3, 4, 5, 6, -9, 7]}).iqm
    row = one(found, env="a", method="plain", measure="final")
    assert row.point == (3 + 4 + 5 + 6) / 4
    assert row.low <= row.point <= row.high
    assert row.runs == 8


def test_equal_scores_have_an_interval_without_width() -> None:
    found = aggregates_of({(env, m): [0.5] * 4 for env in "ab" for m in ("plain", "lambda")})
    for _, row in found.iqm.iterrows():
        assert (row.point, row.low, row.high) == (0.5, 0.5, 0.5)
    assert set(found.iqm.env) == {"a", "b", ALL}
    assert set(found.improvement.point) == {0.5}  # ties count half


def test_never_is_worse_than_the_last_evaluation() -> None:
    frame = frame_of({("a", "plain"): [1, 1], ("a", "lambda"): [1, 1]})
    frame["reached"] = frame.method == "lambda"
    found = aggregate(frame, Rliable(100, 0, lambda: None)).improvement
    row = one(found, method="lambda", over="plain", measure="steps_to_threshold")
    assert (row.point, row.low, row.high) == (1, 1, 1)


def test_probability_of_improvement_counts_pairs() -> None:
    found = aggregates_of({("a", "plain"): [1, 2, 3], ("a", "lambda"): [2, 3, 4]}).improvement
    for measure in ("final", "area", "steps_to_threshold"):
        row = one(found, env="a", method="lambda", over="plain", measure=measure)
        assert row.point == pytest.approx((6 + 2 / 2) / 9)
        back = one(found, env="a", method="plain", over="lambda", measure=measure)
        assert back.point == pytest.approx(1 - row.point)
        assert (back.low, back.high) == pytest.approx((1 - row.high, 1 - row.low))
        assert row.low <= row.point <= row.high


@pytest.mark.long
def test_over_all_environments_the_probability_is_their_mean() -> None:
    found = aggregates_of(
        {
            ("a", "plain"): [1, 1],
            ("a", "lambda"): [2, 2],
            ("b", "plain"): [1, 2],
            ("b", "lambda"): [1, 2],
        }
    ).improvement
    assert one(found, env="a", method="lambda", measure="final").point == 1
    assert one(found, env="b", method="lambda", measure="final").point == 0.5
    assert one(found, env=ALL, method="lambda", measure="final").point == 0.75


tables = st.integers(1, 3).flatmap(
    lambda tasks: st.lists(
        st.lists(st.integers(0, 3), min_size=tasks, max_size=tasks), min_size=2, max_size=5
    )
)


@settings(max_examples=50)
@given(data=st.data(), first=tables)
def test_it_is_the_probability_of_improvement_of_rliable(
    data: st.DataObject, first: list[list[int]]
) -> None:
    width = len(first[0])
    row = st.lists(st.integers(0, 3), min_size=width, max_size=width)
    second = data.draw(st.lists(row, min_size=2, max_size=5))
    x, y = np.array(first, float), np.array(second, float)
    assert _probability_of_improvement(x, y)[0] == pytest.approx(
        metrics.probability_of_improvement(x, y)
    )


def test_a_profile_is_the_fraction_of_runs_above() -> None:
    found = aggregates_of({("a", "plain"): [0.1, 0.3, 0.3, 0.9]}).profiles
    for _, row in found.iterrows():
        above = np.mean(np.array([0.1, 0.3, 0.3, 0.9]) > row.tau)
        assert row.point == above
        assert row.low <= above <= row.high
    assert found.point.iloc[0] == 1
    assert found.point.iloc[-1] == 0


@pytest.mark.long
def test_unequal_numbers_of_seeds_are_cut_to_the_common_ones_and_said_to_be() -> None:
    scores = {
        ("a", "plain"): [0, 0, 9],  # the third seed has no counterpart
        ("a", "lambda"): [1, 1],
        ("b", "plain"): [0, 0, 9],
        ("b", "lambda"): [1, 1, 9],
    }
    found = aggregates_of(scores)
    assert one(found.iqm, env=ALL, method="plain", measure="final").point == 0
    assert one(found.iqm, env=ALL, method="plain", measure="final").runs == 4
    assert one(found.iqm, env="b", method="plain", measure="final").runs == 3
    assert any("unequal numbers of seeds: 2 of each" in note for note in found.notes)
    assert aggregates_of({("a", "plain"): [0, 1], ("a", "lambda"): [1]}).notes == []


def test_a_method_that_lacks_an_environment_is_not_aggregated_over_all() -> None:
    found = aggregates_of({("a", "plain"): [0, 1], ("b", "plain"): [0, 1], ("b", "lambda"): [1, 2]})
    assert set(found.iqm[found.iqm.env == ALL].method) == {"plain"}
    assert set(found.iqm[found.iqm.env == "b"].method) == {"plain", "lambda"}
    assert any("lambda" in note for note in found.notes)


def test_an_environment_called_all_keeps_its_own_numbers() -> None:
    scores = {("x", "plain"): [0, 0], ("all", "plain"): [1, 1]}
    found = aggregates_of(scores).iqm
    assert one(found, env="all", measure="final").point == 1
    assert one(found, env="x", measure="final").point == 0
    assert one(found, env=ALL, measure="final").point == 0.5


def test_environments_without_a_common_method_are_not_put_together() -> None:
    found = aggregates_of({("a", "plain"): [0, 1], ("b", "lambda"): [1, 2]})
    assert ALL not in set(found.iqm.env)
    assert len(found.profiles) == 0


def test_a_single_seed_has_no_interval() -> None:
    found = aggregates_of({("a", "plain"): [1], ("a", "lambda"): [2]})
    for frame in (found.iqm, found.improvement, found.profiles):
        assert frame.low.isna().all()
        assert frame.high.isna().all()


def test_the_same_seed_gives_the_same_and_the_global_state_stays() -> None:
    scores: Scores = {("a", "plain"): [0.1, 0.5, 0.2], ("a", "lambda"): [0.3, 0.9, 0.4]}
    np.random.seed(7)  # noqa: NPY002 (what rliable draws from, whatever it is told)
    first = aggregates_of(scores)
    drawn = np.random.random()  # noqa: NPY002  # as above
    np.random.seed(7)  # noqa: NPY002  # as above
    assert drawn == np.random.random()  # noqa: NPY002  # as above
    second = aggregates_of(scores)
    pd.testing.assert_frame_equal(first.iqm, second.iqm)
    pd.testing.assert_frame_equal(first.improvement, second.improvement)


@pytest.mark.long
def test_progress_is_about_what_was_announced() -> None:
    frame = frame_of({(e, m): [1, 2] for e in "ab" for m in ("plain", "lambda", "equizero")})
    done: list[None] = []
    aggregate(frame, Rliable(100, 0, lambda: done.append(None)))
    assert len(done) == count_intervals(frame)


def measured(**columns: Sequence[object]) -> pd.DataFrame:
    return pd.DataFrame(columns)


def test_zero_is_the_untrained_baseline_and_one_the_threshold() -> None:
    frame = measured(
        env=["a", "a", "a"],
        method=["plain", "plain", "lambda"],
        first=[10.0, 30.0, 99.0],
        best=[50.0, 60.0, 200.0],
        final=[20.0, 70.0, 120.0],
        area=[20.0, 20.0, 20.0],
        threshold=[120.0] * 3,
    )
    assert scales_of(frame, "plain") == {"a": Scale(20, 120)}
    scaled = normalised(frame, scales_of(frame, "plain"))
    assert scaled.normalised_final.tolist() == [0, 0.5, 1]
    frame["threshold"] = None
    assert scales_of(frame, "plain") == {"a": Scale(20, 200)}
    assert scales_of(frame, "none of them") == {"a": Scale(pytest.approx(139 / 3), 200)}


def test_an_environment_in_which_nothing_was_learned_is_left_out() -> None:
    frame = frame_of({("a", "plain"): [0, 1], ("b", "plain"): [0, 1]})
    frame = normalised(frame, {"a": Scale(0, 1), "b": Scale(5, 5)})
    found = aggregate(frame, Rliable(100, 0, lambda: None))
    assert set(found.iqm.env) == {"a"}
    assert any(note.startswith("b has no scale") for note in found.notes)
