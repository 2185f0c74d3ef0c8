"""The numbers of one run: when it reached a threshold, and how much return it had on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.integrate import trapezoid

from equirl.reporting.runs import CLOCKS, Run

LAST = 0.1
"""The final return is the mean over this last part of the training."""

TIMES = ("steps", *CLOCKS)
"""What time to the threshold is measured in."""


@dataclass(frozen=True)
class Measures:
    """The numbers of one run within the first ``horizon`` steps.

    Args:
        reached: an evaluation's mean return was at least the threshold; None without threshold.
        steps_to_threshold: environment steps before the first such evaluation; where none reached
            it, the horizon, a lower bound of it. None without threshold.
        seconds_to_threshold: likewise, by the clock on the wall; None also where not recorded.
        cpu_seconds_to_threshold: likewise, of the processor.
        area: mean return over the training, (1/H) ∫₀ᴴ R(t) dt.
        final: mean return over its last tenth.
        best: the largest mean return of an evaluation.
        first: the mean return of the first evaluation.
    """

    reached: bool | None
    steps_to_threshold: float | None
    seconds_to_threshold: float | None
    cpu_seconds_to_threshold: float | None
    area: float
    final: float
    best: float
    first: float


def measures_of(run: Run, horizon: int, threshold: float | None) -> Measures:
    """The numbers of one run.

    Args:
        run: at least one of its evaluations is within the horizon.
        horizon: the environment steps looked at.
        threshold: a mean return; None where there is none.
    """
    within = run.steps <= horizon
    returns = run.returns[within]
    times: dict[str, float | None] = dict.fromkeys(TIMES)
    reached = None
    if threshold is not None:
        above = np.flatnonzero(returns >= threshold)
        reached = len(above) > 0
        times["steps"] = float(run.steps[above[0]] if reached else horizon)
        for name, clock in run.clocks.items():
            times[name] = float(clock[within][above[0] if reached else -1])
    return Measures(
        reached=reached,
        steps_to_threshold=times["steps"],
        seconds_to_threshold=times["seconds"],
        cpu_seconds_to_threshold=times["cpu_seconds"],
        area=mean_over(run, 0, horizon),
        final=mean_over(run, (1 - LAST) * horizon, horizon),
        best=float(returns.max()),
        first=float(returns[0]),
    )


def mean_over(run: Run, start: float, end: float) -> float:
    """Mean return between two numbers of steps, linear between evaluations, constant outside."""
    between = run.steps[(run.steps > start) & (run.steps < end)]
    points = np.array([start, *between, end], float)
    return float(trapezoid(return_at(run, points), points) / (end - start))


def return_at(run: Run, steps: Any) -> Any:
    """Mean return after ``steps``, linear between evaluations, constant before and after them.

    So a run that stopped because it reached its target return keeps the return it had.
    """
    return np.interp(steps, run.steps, run.returns)


def horizon_of(runs: Sequence[Run]) -> int:
    """How many steps of an environment's runs can be compared.

    A finished run covers what it was given, even where it stopped early at its target return; an
    unfinished one what it was evaluated on. The shortest run decides; the few steps by which the
    last round of a training goes beyond what was asked for are kept.
    """
    covered = [run.total_timesteps if run.finished else int(run.steps[-1]) for run in runs]
    shortest = min(covered)
    ends = [
        int(run.steps[-1]) for run, steps in zip(runs, covered, strict=True) if steps == shortest
    ]
    return max(shortest, *ends)


def measures_frame(
    runs: Sequence[Run], horizons: Mapping[str, int], thresholds: Mapping[str, float | None]
) -> pd.DataFrame:
    """One row a run: environment, method, seed, `Measures`, and where it lies."""
    rows = [
        {
            "env": run.env,
            "method": run.method,
            "seed": run.seed,
            **asdict(measures_of(run, horizons[run.env], thresholds[run.env])),
            **{name: run.clocks[name][-1] if name in run.clocks else None for name in CLOCKS},
            "threshold": thresholds[run.env],
            "horizon": horizons[run.env],
            "evaluations": len(run.steps),
            "finished": run.finished,
            "parameters": run.parameters,
            "run": str(run.path),
        }
        for run in runs
    ]
    return pd.DataFrame(rows)
