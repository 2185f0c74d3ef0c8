"""Everything that a report says, as frames: `analyse`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from tqdm import tqdm

from equirl.errors import ConfigError
from equirl.reporting.aggregates import ALL, Aggregates, Rliable, aggregate, count_intervals
from equirl.reporting.bootstrap import Bootstrap
from equirl.reporting.labels import (
    in_order,
    labelled,
    unequal_settings,
    without_strays,
    without_twins,
)
from equirl.reporting.measures import horizon_of, measures_frame
from equirl.reporting.normalisation import Scale, normalised, scales_of
from equirl.reporting.runs import CLOCKS, LoadedRuns, Run
from equirl.reporting.summary import curves_frame, summary_frame, verdicts

Thresholds = Mapping[str, float] | float | None

PLAIN = "plain"
"""The usual baseline."""


@dataclass(frozen=True)
class Analysis:
    """What a report says.

    Args:
        verdicts: a sentence for each environment and method, in plain words.
        runs: what it is about, labelled.
        left_out: a line for each run directory that is not in it.
        baseline: the method that the others are compared with.
        reps: resamples of every interval.
        measures: of `equirl.reporting.measures.measures_frame`, normalised.
        summary: of `equirl.reporting.summary.summary_frame`.
        curves: of `equirl.reporting.summary.curves_frame`.
        scales: of each environment's normalised returns.
        aggregates: over seeds and environments.
        notes: lines that a reader has to know.
    """

    verdicts: Sequence[str]
    runs: Sequence[Run]
    left_out: Sequence[str]
    baseline: str
    reps: int
    measures: pd.DataFrame
    summary: pd.DataFrame
    curves: pd.DataFrame
    scales: Mapping[str, Scale]
    aggregates: Aggregates
    notes: Sequence[str]

    @property
    def envs(self) -> list[str]:
        """Labels of the environments."""
        return list(self.measures.env.unique())

    @property
    def methods(self) -> list[str]:
        """Labels of the methods."""
        return list(self.measures.method.unique())

    @property
    def are_aggregated(self) -> bool:
        """Whether there are aggregates of all environments together, or of the only one."""
        aggregated = set(self.aggregates.iqm.env)
        return ALL in aggregated or (len(aggregated) == 1 and len(self.envs) == 1)


def analyse(
    loaded: LoadedRuns,
    baseline: str = PLAIN,
    threshold: Thresholds = None,
    reps: int = 2000,
    seed: int = 0,
    progress: bool = False,
) -> Analysis:
    """Compute all of it.

    Args:
        loaded: of `load_runs`.
        baseline: label of a method.
        threshold: a mean return, or one for each of some environments, where ``maze`` stands for
            every ``maze (…)`` that is not named itself; without one, what the runs' configurations
            say.
        reps: resamples of every interval.
        seed: of the resampling.
        progress: show a progress bar.

    Raises:
        ConfigError: no run is left, or the baseline or a threshold's environment is not among
            them.
    """
    if not loaded.runs:
        raise ConfigError("; ".join(["no run to report on", *loaded.left_out]))
    runs, twins = without_twins(labelled(loaded.runs))
    runs, strays = without_strays(runs)
    _check_baseline(runs, baseline)
    runs = in_order(runs, baseline)
    by_env = {env: [run for run in runs if run.env == env] for env in {r.env: 0 for r in runs}}
    horizons = {env: horizon_of(own) for env, own in by_env.items()}
    thresholds = _thresholds(by_env, threshold)
    measures = measures_frame(runs, horizons, thresholds)
    scales = scales_of(measures, baseline)
    measures = normalised(measures, scales)
    bootstrap = Bootstrap(reps, seed)
    with tqdm(
        total=count_intervals(measures), unit="interval", disable=not progress, leave=False
    ) as bar:
        aggregates = aggregate(measures, Rliable(reps, seed, bar.update))
    summary = summary_frame(measures, baseline, bootstrap)
    return Analysis(
        verdicts=verdicts(summary, aggregates.improvement, baseline),
        runs=runs,
        left_out=[*loaded.left_out, *twins, *strays],
        baseline=baseline,
        reps=reps,
        measures=measures,
        summary=summary,
        curves=curves_frame(runs, horizons, bootstrap),
        scales=scales,
        aggregates=aggregates,
        notes=[
            *_notes_on_baseline(by_env, baseline),
            *(line for own in by_env.values() for line in _notes_on(own, horizons, thresholds)),
            *aggregates.notes,
        ],
    )


def _check_baseline(runs: Sequence[Run], baseline: str) -> None:
    """Refuse a baseline that no run has. A report without plain runs is allowed."""
    methods = sorted({run.method for run in runs})
    if baseline in methods:
        return
    variants = [method for method in methods if method.startswith(f"{baseline} (")]
    if variants:
        raise ConfigError(
            f"there are several {baseline!r}, say which is the baseline: "
            + " or ".join(f"'baseline=\"{variant}\"'" for variant in variants)
        )
    if baseline != PLAIN:
        raise ConfigError(f"baseline: no run of {baseline!r} (there are: {', '.join(methods)})")


def _thresholds(by_env: Mapping[str, Sequence[Run]], given: Thresholds) -> dict[str, float | None]:
    if isinstance(given, Mapping):
        unknown = [name for name in sorted(given) if not any(_names(name, env) for env in by_env)]
        if unknown:
            raise ConfigError(
                f"threshold: there are no runs of {', '.join(unknown)} (only {', '.join(by_env)})"
                + _spelt(by_env)
            )
    thresholds: dict[str, float | None] = {}
    for env, runs in by_env.items():
        if isinstance(given, float | int):
            thresholds[env] = float(given)
            continue
        names = [name for name in given or () if _names(name, env)]
        if given is not None and names:
            thresholds[env] = float(given[max(names, key=len)])
        else:
            thresholds[env] = _configured_threshold(env, runs)
    return thresholds


def _names(name: str, env: str) -> bool:
    """Whether a name is an environment's label, or that without what tells it apart."""
    return env == name or env.startswith(f"{name} (")


def _spelt(envs: Iterable[str]) -> str:
    """How labels are given on the command line, those that Hydra would not read as they are."""
    readable = [env for env in envs if re.fullmatch(r"[\w/\-+.$%*@?|()\[\]{}:=, ]+", env, re.ASCII)]
    escaped = {env: re.sub(r"[()\[\]{}:=,]", r"\\\g<0>", env) for env in readable}
    keys = [f"{key}: …" for env, key in escaped.items() if env != key]
    return f"; on the command line 'threshold={{{', '.join(keys)}}}'" if keys else ""


def _configured_threshold(env: str, runs: Sequence[Run]) -> float | None:
    said = {run.config["env.threshold_return"] for run in runs} - {None}
    if len(said) > 1:
        several = ", ".join(f"{value:g}" for value in sorted(said))
        raise ConfigError(
            f"the runs of {env} name several threshold returns ({several}): say threshold=…"
        )
    return float(said.pop()) if said else None


def _notes_on_baseline(by_env: Mapping[str, Sequence[Run]], baseline: str) -> list[str]:
    lacking = [env for env, own in by_env.items() if all(run.method != baseline for run in own)]
    if not lacking:
        return []
    return [f"no run of the baseline {baseline!r} in {', '.join(lacking)}: no ratios to it there"]


def _notes_on(
    runs: Sequence[Run], horizons: Mapping[str, int], thresholds: Mapping[str, float | None]
) -> list[str]:
    env, notes = runs[0].env, []
    if thresholds[env] is None:
        notes.append(f"{env} has no threshold return: say threshold=… to have times to it")
    lengths = sorted({run.total_timesteps if run.finished else int(run.steps[-1]) for run in runs})
    if len(lengths) > 1:
        several = ", ".join(f"{length:,}" for length in lengths)
        notes.append(f"{env}: runs of {several} steps are compared over {horizons[env]:,}")
    early = [run for run in runs if run.finished and run.steps[-1] < run.total_timesteps]
    by_target = [run for run in early if run.config["env.target_return"] is not None]
    if by_target:
        notes.append(
            f"{env}: {len(by_target)} of {len(runs)} curves end before their last step, by "
            "reaching a target return; their last return is taken to last"
        )
    if by_callback := len(early) - len(by_target):
        notes.append(
            f"{env}: {by_callback} of {len(runs)} curves were ended before their last step by a "
            "callback; what came later is not known, their last return is taken to last"
        )
    if lengthened := len({run.path for run in runs if _is_lengthened(run)}):
        notes.append(
            f"{env}: {lengthened} of {len({run.path for run in runs})} runs were given other "
            "total_timesteps when they were resumed: what follows these, as exploration of DQN "
            "does, went another way there than in a run begun with as many"
        )
    for clock in CLOCKS:
        without = {run.method: 0 for run in runs if clock not in run.clocks}
        if without:
            notes.append(f"{env}: no {clock} were recorded for {', '.join(without)}: left out")
    for key, values in unequal_settings(runs).items():
        notes.append(f"{env}: not all runs have the same {key} ({_listed(values)})")
    return notes


def _is_lengthened(run: Run) -> bool:
    """Whether a part of it was trained for other `total_timesteps` than it has now."""
    now = run.total_timesteps
    resumed = run.provenance.get("resumed", [])
    return any(one["step"] > 0 and one.get("planned", now) != now for one in resumed)


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
