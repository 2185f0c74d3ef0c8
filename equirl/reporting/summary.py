"""From the numbers of single runs to those of methods: means over seeds, and ratios."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from equirl.reporting.bootstrap import Bootstrap, Estimate
from equirl.reporting.measures import TIMES, return_at
from equirl.reporting.runs import Run

TO_THRESHOLD = tuple(f"{clock}_to_threshold" for clock in TIMES)
RETURNS = ("area", "final", "best")

EXACT, AT_LEAST, AT_MOST, UNKNOWN = "", "≥", "≤", "≷"
"""How a number relates to what it would be, had every run gone on to its threshold."""

CURVE_POINTS = 200

FEW = 5
"""With fewer seeds than these, intervals are too narrow (`docs/reporting.md`)."""


def summary_frame(measures: pd.DataFrame, baseline: str, bootstrap: Bootstrap) -> pd.DataFrame:
    """One row for each environment, method and measure.

    Columns: ``env, method, measure, seeds, reached, point, low, high, bound``. Measures are
    ``area``, ``final`` and ``best`` return; ``…_to_threshold``, the mean of the times, where a
    run that never got there counts with all of its training; and ``…_ratio``, that mean over the
    baseline's.
    """
    rows = []
    for env, of_env in measures.groupby("env", sort=False):
        beside = of_env[of_env.method == baseline]
        for method, own in of_env.groupby("method", sort=False):
            for measure, bound, estimate in _estimates(own, beside, bootstrap):
                rows.append(
                    {
                        "env": env,
                        "method": method,
                        "measure": measure,
                        "seeds": len(own),
                        "reached": own.reached.sum() if own.reached.notna().all() else None,
                        **vars(estimate),
                        "bound": bound,
                    }
                )
    return pd.DataFrame(rows)


def _estimates(
    own: pd.DataFrame, beside: pd.DataFrame, bootstrap: Bootstrap
) -> Iterator[tuple[str, str, Estimate]]:
    for measure in RETURNS:
        yield measure, EXACT, bootstrap.mean(own[measure])
    for measure in TO_THRESHOLD:
        if own[measure].isna().any():
            continue
        yield measure, EXACT if own.reached.all() else AT_LEAST, bootstrap.mean(own[measure])
        if len(beside) == 0 or beside[measure].isna().any():
            continue
        name = measure.replace("_to_threshold", "_ratio")
        if own.method.iloc[0] == beside.method.iloc[0]:
            yield name, EXACT, Estimate(1.0, 1.0, 1.0)
        else:
            yield name, _bound(own, beside), bootstrap.ratio(own[measure], beside[measure])


def _bound(own: pd.DataFrame, beside: pd.DataFrame) -> str:
    """A time that is a lower bound makes its ratio one, or an upper bound where it divides."""
    return {
        (True, True): EXACT,
        (False, True): AT_LEAST,
        (True, False): AT_MOST,
        (False, False): UNKNOWN,
    }[bool(own.reached.all()), bool(beside.reached.all())]


def verdicts(summary: pd.DataFrame, improvement: pd.DataFrame, baseline: str) -> list[str]:
    """A sentence in plain words for each environment and method beside the baseline.

    A method learns faster, or slower, where the whole 95 % interval says so: that of the ratio of
    steps to the threshold; where there is none, that of the probability that one of its runs has a
    better mean return over the training than one of the baseline.

    Args:
        summary: of `summary_frame`.
        improvement: of `equirl.reporting.aggregates.Aggregates`.
        baseline: what methods are compared with.
    """
    lines = []
    for env, of_env in summary.groupby("env", sort=False):
        methods = [method for method in of_env.method.unique() if method != baseline]
        if not methods or baseline not in set(of_env.method):
            lines.append(
                f"{env}: nothing to compare, there are only runs of "
                + ", ".join(of_env.method.unique())
            )
            continue
        seeds = of_env.groupby("method").seeds.first()
        for method in methods:
            own = of_env[of_env.method == method].set_index("measure")
            fewest = int(min(seeds[method], seeds[baseline]))
            pairs = improvement[
                (improvement.env == env)
                & (improvement.method == method)
                & (improvement.over == baseline)
            ].set_index("measure")
            lines.append(f"{env}: {method} {_verdict(own, pairs, baseline, fewest)}")
    return lines


def _verdict(own: pd.DataFrame, pairs: pd.DataFrame, baseline: str, seeds: int) -> str:
    said = f"than {baseline}"
    # There is no ratio to a baseline one of whose runs began above the threshold.
    is_known = "steps_ratio" in own.index and own.bound["steps_ratio"] != UNKNOWN
    if is_known and not math.isnan(own.point["steps_ratio"]):
        ratio = own.loc["steps_ratio"]
        faster = ratio.high < 1 and ratio.bound != AT_LEAST
        slower = ratio.low > 1 and ratio.bound != AT_MOST
        words = f"{ratio.bound}{ratio.point:.2f} times the steps to the threshold"
        if not math.isnan(ratio.low) and ratio.low != ratio.high:
            words += f", 95 % interval {ratio.low:.2f} to {ratio.high:.2f}"
    elif "area" in pairs.index:
        better = pairs.loc["area"]
        faster, slower = better.low > 0.5, better.high < 0.5
        words = f"one of its runs is better with probability {better.point:.2f}"
    else:
        return f"cannot be compared with {baseline}: there is neither a ratio of steps nor a scale"
    if seeds == 1:
        return f"against {baseline}: one seed says little, train ten ({words})"
    if faster or slower:
        few = "" if seeds >= FEW else f"; {seeds} seeds are few"
        return f"learns {'faster' if faster else 'slower'} {said} ({words}{few})"
    return f"learns neither faster nor slower {said}, as far as {seeds} seeds can tell ({words})"


def curves_frame(
    runs: Sequence[Run], horizons: Mapping[str, int], bootstrap: Bootstrap
) -> pd.DataFrame:
    """Mean learning curves with bands.

    Columns: ``env, method, clock, at, seeds, mean, low, high``; ``clock`` is ``steps``,
    ``seconds`` or ``cpu_seconds``. Against seconds, a run that is over keeps its last return.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.env, run.method), []).append(run)
    frames = []
    for (env, method), own in groups.items():
        for clock in TIMES:
            if clock != "steps" and not all(clock in run.clocks for run in own):
                continue
            at, curves = _on_one_grid(own, clock, horizons[env])
            low, high = bootstrap.band(curves)
            columns = {"at": at, "seeds": len(own), "mean": curves.mean(axis=0)}
            frames.append(
                pd.DataFrame(
                    {"env": env, "method": method, "clock": clock, **columns}
                    | {"low": low, "high": high}
                )
            )
    return pd.concat(frames, ignore_index=True)


def _on_one_grid(runs: Sequence[Run], clock: str, horizon: int) -> tuple[Any, Any]:
    """Times ``[points]`` and returns ``[runs, points]`` of a method."""
    within = [run.steps <= horizon for run in runs]
    if clock == "steps":
        at = np.unique(np.concatenate([run.steps[w] for run, w in zip(runs, within, strict=True)]))
        if len(at) > CURVE_POINTS:
            at = np.linspace(at[0], at[-1], CURVE_POINTS)
        return at, np.stack([return_at(run, at) for run in runs])
    times = [run.clocks[clock][w] for run, w in zip(runs, within, strict=True)]
    at = np.linspace(min(t[0] for t in times), max(t[-1] for t in times), CURVE_POINTS)
    curves = [
        np.interp(at, t, run.returns[w]) for run, w, t in zip(runs, within, times, strict=True)
    ]
    return at, np.stack(curves)
