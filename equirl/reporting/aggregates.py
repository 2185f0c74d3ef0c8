"""Statistics over several environments, computed by rliable (Agarwal et al. 2021)."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from rliable import library, metrics

from equirl.reporting.normalisation import SCORES

ALL = ""
"""In place of an environment's label, which is never empty: all of them together. Tables and CSV
files say ``all``."""

COMPARED = {"final": 1, "area": 1, "steps_to_threshold": -1}
"""What the probability of improvement is of, and whether more of it is better."""

PROFILE_POINTS = 61


@dataclass(frozen=True)
class Aggregates:
    """Frames of intervals.

    Args:
        iqm: ``env, method, measure, runs, point, low, high``; the interquartile mean of the
            normalised scores, of each environment and of all together (`ALL`).
        improvement: ``env, method, over, measure, point, low, high``; the probability that a run
            of ``method`` is better than one of ``over``.
        profiles: ``method, tau, point, low, high``; the fraction of runs whose normalised final
            return is more than tau.
        notes: what was left out, and why.
    """

    iqm: pd.DataFrame
    improvement: pd.DataFrame
    profiles: pd.DataFrame
    notes: list[str]


class Rliable:
    """rliable's stratified bootstrap, repeatable.

    Args:
        reps: number of resamples.
        seed: of the random numbers.
        progress: called once for every interval.
    """

    def __init__(self, reps: int, seed: int, progress: Callable[[], Any]) -> None:
        self.reps, self.seed, self.progress = reps, seed, progress

    def intervals(self, scores: Mapping[str, Any], statistic: Callable[..., Any]) -> Any:
        """Points and bounds, as `rliable.library.get_interval_estimates` returns them."""
        with _seeded(self.seed):
            found = library.get_interval_estimates(dict(scores), statistic, reps=self.reps)
        self.progress()
        return found

    def profiles(self, scores: Mapping[str, Any], taus: Any) -> Any:
        """Points and bounds, as `rliable.library.create_performance_profile` returns them."""
        with _seeded(self.seed):
            found = library.create_performance_profile(dict(scores), taus, reps=self.reps)
        self.progress()
        return found


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """rliable draws from NumPy's global state (NPY002), whatever random_state it is given."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002  # as above
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of arch, about how rliable calls it
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002  # as above


def aggregate(measures: pd.DataFrame, rliable: Rliable) -> Aggregates:
    """All aggregates.

    Args:
        measures: of `equirl.reporting.measures.measures_frame`, with the columns that `normalised`
            adds.
        rliable: computes the intervals.
    """
    notes: list[str] = []
    usable = measures.dropna(subset=[f"normalised_{score}" for score in SCORES])
    for env in sorted(set(measures.env) - set(usable.env)):
        notes.append(f"{env} has no scale to normalise its returns by: not in the aggregates")
    blocks = {env: [env] for env in usable.env.unique()}
    together = usable
    if len(blocks) > 1:
        together, left_out = _balanced(usable)
        notes += left_out
        if len(together):
            blocks[ALL] = list(blocks)
    iqm: list[dict[str, Any]] = []
    improvement: list[dict[str, Any]] = []
    for name, envs in blocks.items():
        own = together if name == ALL else usable[usable.env == name]
        iqm += _iqm_rows(name, own, envs, rliable)
        improvement += _improvement_rows(name, own, envs, rliable)
    profiles = _profile_rows(together, rliable)
    bounds = ["point", "low", "high"]
    return Aggregates(
        pd.DataFrame(iqm, columns=["env", "method", "measure", "runs", *bounds]),
        pd.DataFrame(improvement, columns=["env", "method", "over", "measure", *bounds]),
        pd.DataFrame(profiles, columns=["method", "tau", *bounds]),
        notes,
    )


def count_intervals(measures: pd.DataFrame) -> int:
    """How often `Rliable` will report progress, where nothing has to be left out."""
    methods = [own.method.nunique() for _, own in measures.groupby("env")]
    blocks = [*methods, *([min(methods)] if len(methods) > 1 else [])]
    return 1 + sum(len(SCORES) + len(COMPARED) * math.comb(n, 2) for n in blocks)


def _balanced(measures: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The runs that make a full table of methods, environments and seeds; notes on the others.

    rliable needs ``[seeds, environments]`` of every method: methods that lack an environment are
    left out, and of each environment the seeds that all methods have in common are taken, as many
    as there are in every environment.
    """
    notes = []
    of_method = measures.groupby("method", sort=False).env.nunique()
    lacking = list(of_method.index[of_method < measures.env.nunique()])
    if lacking:
        notes.append(f"not in every environment, so not aggregated over all: {', '.join(lacking)}")
    whole = measures[~measures.method.isin(lacking)]
    common: dict[str, list[int]] = {}
    for env, own in whole.groupby("env", sort=False):
        seeds = [set(of_one.seed) for _, of_one in own.groupby("method")]
        common[str(env)] = sorted(set.intersection(*seeds))
    count = min((len(seeds) for seeds in common.values()), default=0)
    if any(len(own) != count for _, own in whole.groupby(["env", "method"])):
        notes.append(
            f"methods or environments have unequal numbers of seeds: {count} of each, those that "
            "all methods have, are in the aggregates over environments"
        )
    taken = [
        own[own.seed.isin(common[str(env)][:count])]
        for env, own in whole.groupby("env", sort=False)
    ]
    return (pd.concat(taken) if count else whole.iloc[:0]), notes


def _matrix(own: pd.DataFrame, column: str, envs: Sequence[str]) -> Any:
    """``[runs, environments]`` of one method."""
    return np.stack([own[own.env == env].sort_values("seed")[column] for env in envs], axis=1)


def _matrices(measures: pd.DataFrame, column: str, envs: Sequence[str]) -> dict[str, Any]:
    """``[runs, environments]`` of every method."""
    return {
        str(method): _matrix(own, column, envs)
        for method, own in measures.groupby("method", sort=False)
    }


def _iqm_rows(
    name: str, measures: pd.DataFrame, envs: Sequence[str], rliable: Rliable
) -> Iterator[dict[str, Any]]:
    for score in SCORES:
        scores = _matrices(measures, f"normalised_{score}", envs)
        points, bounds = rliable.intervals(scores, lambda x: np.array([metrics.aggregate_iqm(x)]))
        for method, matrix in scores.items():
            yield {
                "env": name,
                "method": method,
                "measure": score,
                "runs": matrix.size,
                **_estimate(points[method][0], bounds[method][:, 0], len(matrix)),
            }


def _improvement_rows(
    name: str, measures: pd.DataFrame, envs: Sequence[str], rliable: Rliable
) -> Iterator[dict[str, Any]]:
    for measure, sign in COMPARED.items():
        if measures[measure].isna().any():
            continue
        compared = measures
        if measure == "steps_to_threshold":  # never is later than in the last evaluation
            reached = measures.reached.astype(bool)
            compared = measures.assign(
                **{measure: measures[measure].astype(float).where(reached, math.inf)}
            )
        scores = {m: sign * x for m, x in _matrices(compared, measure, envs).items()}
        for one, other in combinations(scores, 2):
            pair = {"pair": (scores[one], scores[other])}
            points, bounds = rliable.intervals(pair, _probability_of_improvement)
            n = min(len(scores[one]), len(scores[other]))
            found = _estimate(points["pair"][0], bounds["pair"][:, 0], n)
            row = {"env": name, "measure": measure}
            yield {**row, "method": one, "over": other, **found}
            reverse = {"point": 1 - found["point"], "low": 1 - found["high"]}
            yield {**row, "method": other, "over": one, **reverse, "high": 1 - found["low"]}


def _probability_of_improvement(one: Any, other: Any) -> Any:
    """`rliable.metrics.probability_of_improvement`, ten times as fast: it is resampled often."""
    one, other = one[:, None], other[None]
    return np.array([np.mean((one > other) + 0.5 * (one == other))])


def _profile_rows(measures: pd.DataFrame, rliable: Rliable) -> Iterator[dict[str, Any]]:
    if len(measures) == 0:
        return
    scores = _matrices(measures, "normalised_final", list(measures.env.unique()))
    largest = max(matrix.max() for matrix in scores.values())
    taus = np.linspace(0, max(1.0, 1.05 * largest), PROFILE_POINTS)
    points, bounds = rliable.profiles(scores, taus)
    for method, matrix in scores.items():
        for i, tau in enumerate(taus):
            found = _estimate(points[method][i], bounds[method][:, i], len(matrix))
            yield {"method": method, "tau": tau, **found}


def _estimate(point: Any, bounds: Any, seeds: int) -> dict[str, float]:
    """A single seed says nothing about the spread."""
    low, high = bounds if seeds > 1 else (np.nan, np.nan)
    return {"point": float(point), "low": float(low), "high": float(high)}
