"""What stands in a report, part by part."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from equirl.reporting.aggregates import ALL
from equirl.reporting.analysis import Analysis
from equirl.reporting.figures import CLOCK_NAMES, SCORE_NAMES, file_names
from equirl.reporting.page import Bullets, Heading, Part, Pictures, Table, Text

Format = Callable[[float], int]
"""How many digits after the point a number is shown with."""


def parts_of(analysis: Analysis, figures: Iterable[str]) -> list[Part]:
    """All parts, in order.

    Args:
        analysis: what there is to say.
        figures: names of the figures there are, without suffix.
    """
    drawn = set(figures)
    return [
        *_introduction(analysis),
        *(
            part
            for env, file in file_names(analysis.envs).items()
            for part in _environment(analysis, env, file, drawn)
        ),
        *_aggregates(analysis, drawn),
        *_origins(analysis),
    ]


def _introduction(analysis: Analysis) -> Iterator[Part]:
    runs = analysis.measures
    yield Heading("Returns of " + ", ".join(analysis.envs), level=1)
    yield Bullets(list(analysis.verdicts))
    trainings = runs.run.nunique()
    yield Text(
        f"{trainings} training runs, {len(analysis.methods)} methods, baseline "
        f"**{analysis.baseline}**. Means over seeds; brackets and bands are 95 % percentile "
        f"bootstrap intervals over seeds, {analysis.reps:,} resamples. What each number is: "
        "`docs/reporting.md` of equirl."
    )
    if analysis.notes:
        yield Bullets(list(analysis.notes))
    if analysis.left_out:
        yield Bullets(list(analysis.left_out), f"{len(analysis.left_out)} runs were left out")


def _environment(analysis: Analysis, env: str, file: str, drawn: set[str]) -> Iterator[Part]:
    measures = analysis.measures[analysis.measures.env == env]
    yield Heading(env)
    pictures = {
        f"curves-{file}-{clock}.svg": f"Learning curves of {env} against {name}: "
        + ", ".join(measures.method.unique())
        for clock, name in CLOCK_NAMES.items()
        if f"curves-{file}-{clock}" in drawn and clock != "cpu_seconds"
    }
    yield Pictures(
        pictures,
        "Mean return of the evaluations, over seeds; the bands are pointwise 95 % bootstrap "
        "intervals of the mean.",
    )
    threshold = measures.threshold.iloc[0]
    if not pd.isna(threshold):
        yield from _times(analysis, env, file, threshold, drawn)
    summary = analysis.summary[analysis.summary.env == env]
    headings = ["method", "parameters", "seeds", "mean over training", "final", "best"]
    sizes = measures.groupby("method").parameters.first()
    rows = [
        [
            str(method),
            "–" if pd.isna(sizes[method]) else f"{sizes[method]:,.0f}",
            str(own.seeds.iloc[0]),
            *(_cell(own, measure, _three_significant) for measure in ("area", "final", "best")),
        ]
        for method, own in summary.groupby("method", sort=False)
    ]
    horizon = measures.horizon.iloc[0]
    yield Table(
        headings,
        rows,
        f"Return on {env} in {horizon:,} steps: mean over the training (area under the curve ÷ "
        "its length), mean over its last tenth, best evaluation; and the trainable parameters of "
        "the Q-network.",
    )


def _times(
    analysis: Analysis, env: str, file: str, threshold: float, drawn: set[str]
) -> Iterator[Part]:
    summary = analysis.summary[analysis.summary.env == env]
    present = set(summary.measure)
    clocks = [clock for clock in CLOCK_NAMES if f"{clock}_to_threshold" in present]
    headings, columns = ["method", "reached"], []
    for clock in clocks:
        headings.append({"cpu_seconds": "CPU seconds"}.get(clock, clock))
        columns.append(
            (f"{clock}_to_threshold", _whole if clock == "steps" else _three_significant)
        )
        if f"{clock}_ratio" in present:
            headings.append(f"÷ {analysis.baseline}")
            columns.append((f"{clock}_ratio", _two))
    rows = [
        [
            str(method),
            f"{own.reached.iloc[0]:.0f}/{own.seeds.iloc[0]}",
            *(_cell(own, measure, form) for measure, form in columns),
        ]
        for method, own in summary.groupby("method", sort=False)
    ]
    censored = (
        " A run that never got there counts with the whole of its training, so that ≥ marks a "
        "lower bound, ≤ an upper one, and ≷ a ratio of two lower bounds."
    )
    yield Table(
        headings,
        rows,
        f"To a mean return of {_plain(threshold)} on {env}: how many runs reached it, "
        f"and after how long on average.{censored if (summary.bound != '').any() else ''}",
    )
    pictures = {
        f"ratio-{clock}-{file}.svg": f"{name} to the threshold on {env}, divided by "
        f"those of {analysis.baseline}"
        for clock, name in CLOCK_NAMES.items()
        if f"ratio-{clock}-{file}" in drawn
    }
    if pictures:
        yield Pictures(pictures, f"Below 1 is faster than {analysis.baseline}.")


def _aggregates(analysis: Analysis, drawn: set[str]) -> Iterator[Part]:
    found = analysis.aggregates
    if len(found.iqm) == 0:
        return
    several = ALL in set(found.iqm.env)
    yield Heading("All environments together" if several else "Aggregates")
    scales = "; ".join(
        f"{env} {_plain(scale.zero)} → 0, {_plain(scale.one)} → 1"
        for env, scale in analysis.scales.items()
    )
    yield Text(
        "Normalised return is 0 for the mean of the baseline's first evaluations and 1 for the "
        f"threshold, or the best evaluation of any run where there is no threshold: {scales}. "
        "Interquartile mean, performance profile and probability of improvement with stratified "
        "bootstrap intervals, by rliable (Agarwal et al. 2021, arXiv 2108.13264)."
    )
    for score, name in SCORE_NAMES.items():
        rows = found.iqm[found.iqm.measure == score]
        yield _by_environment(rows, f"Interquartile mean of normalised {name}.")
    if analysis.are_aggregated:
        yield Pictures(
            {
                f"{name}.svg": alt
                for name, alt in {
                    "iqm-final": "Interquartile mean of normalised final returns",
                    "iqm-area": "Interquartile mean of normalised mean returns in training",
                    "improvement-final": "Probability of a better final return than the baseline",
                    "improvement-area": "Probability of a better mean return than the baseline",
                    "profiles": "Performance profiles: fraction of runs above each return",
                }.items()
                if name in drawn
            },
            "All environments." if several else f"{analysis.envs[0]} only.",
        )
    yield Heading("Probability of improvement", level=3)
    yield Text(
        "That a run of the method in the row is better than a run of the baseline, or of the "
        "method in the column; ties count half. All intervals are in `improvement.csv`."
    )
    names = {**SCORE_NAMES, "steps_to_threshold": "steps to threshold (fewer is better)"}
    for measure, name in names.items():
        rows = found.improvement
        rows = rows[(rows.measure == measure) & (rows.over == analysis.baseline)]
        if len(rows):
            yield _by_environment(rows, f"Better than {analysis.baseline} in {name}.")
    for measure, name in names.items():
        for env in reversed(found.iqm.env.unique()):
            yield from _improvement_table(analysis, str(env), measure, name)


def _by_environment(frame: pd.DataFrame, caption: str) -> Table:
    """A row for each method, a column for each environment."""
    envs = list(frame.env.unique())
    rows = []
    for method, own in frame.groupby("method", sort=False):
        found = {row["env"]: _with_interval(row, _two) for _, row in own.iterrows()}
        rows.append([str(method), *(found.get(env, "–") for env in envs)])
    return Table(["method", *("all" if env == ALL else env for env in envs)], rows, caption)


def _improvement_table(analysis: Analysis, env: str, measure: str, name: str) -> Iterator[Table]:
    frame = analysis.aggregates.improvement
    frame = frame[(frame.env == env) & (frame.measure == measure)]
    if len(frame) == 0:
        return
    methods = [m for m in analysis.methods if m in set(frame.method)]
    known = {(row.method, row.over): f"{row.point:.2f}" for row in frame.itertuples()}
    rows = [[one, *(known.get((one, other), "") for other in methods)] for one in methods]
    where = "all environments" if env == ALL else env
    yield Table(["", *methods], rows, f"{where}: {name}.")


def _origins(analysis: Analysis) -> Iterator[Part]:
    runs = {run.path: run.provenance for run in analysis.runs}
    yield Heading("How the runs were made")
    known = [origin for origin in runs.values() if origin]
    if len(known) < len(runs):
        yield Text(f"{len(runs) - len(known)} of {len(runs)} runs do not say how they were made.")
    if not known:
        return
    rows = []
    for what, values in _facts(known).items():
        said = Counter(values)
        several = "; ".join(
            value if len(said) == 1 else f"{value} ({n} runs)" for value, n in said.items()
        )
        rows.append([what, several])
    yield Table(["", "of the runs"], rows, "Versions and machine.")
    yield Bullets([f"`{line}`" for line in _commands(known)], "Commands")


def _facts(origins: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """What provenance says of each run: versions, machine, commit."""
    facts: dict[str, list[str]] = defaultdict(list)
    for origin in origins:
        hardware, git = origin.get("hardware") or {}, origin.get("git") or {}
        for name, version in (origin.get("versions") or {}).items():
            facts[name].append(str(version))
        for name in ("system", "processor", "cores"):
            if name in hardware:
                facts[name].append(str(hardware[name]))
        if hardware.get("gpus"):
            facts["GPUs"].append(", ".join(hardware["gpus"]))
        if git.get("commit"):
            facts["commit"].append(git["commit"][:12] + (", changed" if git.get("dirty") else ""))
    return facts


def _commands(origins: Sequence[Mapping[str, Any]]) -> list[str]:
    """The command lines, those that differ in the seed alone as one."""
    seeds: dict[str, list[str]] = defaultdict(list)
    for origin in origins:
        words = shlex.split(str(origin.get("command", "")))
        words = [w for w in words if not w.startswith(("run_dir=", "progress="))]
        given = [w.removeprefix("seed=") for w in words if re.fullmatch(r"seed=\d+", w)]
        line = shlex.join(word for word in words if not re.fullmatch(r"seed=\d+", word))
        seeds[line] += given
    return [
        (line.replace(" train ", " train -m ") if len(set(own)) > 1 else line)
        + (f" seed={','.join(sorted(set(own), key=int))}" if own else "")
        for line, own in seeds.items()
    ]


def _cell(own: pd.DataFrame, measure: str, form: Format) -> str:
    rows = own[own.measure == measure]
    return _with_interval(rows.iloc[0], form) if len(rows) else "–"


def _with_interval(row: Any, form: Format) -> str:
    if pd.isna(row["point"]):
        return "–"
    bound = f"{row['bound']} " if row.get("bound") else ""
    digits = form(row["point"])
    point, low, high = (
        f"{value:,.{digits}f}".replace("-", "−")
        for value in (row["point"], row["low"], row["high"])
    )
    if pd.isna(row["low"]) or math.isclose(row["low"], row["high"]):
        return f"{bound}{point}"
    return f"{bound}{point} [{low}, {high}]"


def _whole(value: float) -> int:
    return 0


def _two(value: float) -> int:
    return 2


def _three_significant(value: float) -> int:
    """Digits after the point."""
    return next((digits for digits, least in enumerate((100, 10, 1)) if abs(value) >= least), 3)


def _plain(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")
