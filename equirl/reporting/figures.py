"""The figures of a report, as SVG and PNG."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count, cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from equirl.reporting.aggregates import ALL
from equirl.reporting.analysis import Analysis
from equirl.reporting.labels import USUAL

COLOURS = ("#000000", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#E69F00", "#56B4E9", "#777777")
"""Okabe and Ito's, which colour-blind readers can tell apart; grey for their yellow, which is too
pale for a line on white."""

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)), (0, (3, 3)))
MARKERS = "os^DvPX*"
WIDTH, HEIGHT, ROW = 4.6, 3.2, 0.2
"""Inches; a row is of the legend. On a telephone a figure is as wide as the screen, and its letters
are still legible."""

RATIO_TICKS = (
    (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10),
    (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100),
    (0.001, 0.01, 0.1, 1, 10, 100, 1000),
)
"""Spacings of ticks on a logarithmic axis: the first one is taken that gives at most seven."""

CLOCK_NAMES = {
    "steps": "environment steps",
    "seconds": "seconds of training",
    "cpu_seconds": "processor seconds of training",
}

SCORE_NAMES = {"final": "final return", "area": "mean return over training"}
"""Measures that can be normalised, and where more is better."""


@dataclass(frozen=True)
class Style:
    """How a method is drawn: in colour, line and marker, so that each alone tells it.

    ``place`` tells which of the points that lie together the markers are on.
    """

    colour: str
    line: Any
    marker: str
    place: int = 0


def styles_of(methods: Sequence[str]) -> dict[str, Style]:
    """A style for each method; those of `USUAL` have one of their own."""
    every = [
        Style(colour, LINES[(i + turn) % len(LINES)], MARKERS[(i + turn) % len(MARKERS)], i)
        for turn in range(len(LINES))
        for i, colour in enumerate(COLOURS)
    ]
    styles = {m: every[USUAL.index(m)] for m in methods if m in USUAL}
    free = cycle([style for style in every if style not in styles.values()])
    return {m: styles[m] if m in styles else next(free) for m in methods}


def file_names(envs: Sequence[str]) -> dict[str, str]:
    """What stands for each environment in the names of files, without anything that a file system
    or a URL may trip over. No two are equal, not even where case does not count.

    Example:
        >>> list(file_names(["ALE/Pong-v5", "maze (delta=-1)", "maze (delta=1)"]).values())
        ['ALE-Pong-v5', 'maze-delta-1', 'maze-delta-1-2']
    """
    names: dict[str, str] = {}
    for env in envs:
        plain = re.sub(r"[^\w.]+", "-", env).strip("-")
        taken = {name.casefold() for name in names.values()}
        numbered = (f"{plain}-{number}" for number in count(2))
        names[env] = next(n for n in chain([plain], numbered) if n.casefold() not in taken)
    return names


def draw_figures(analysis: Analysis) -> dict[str, Figure]:
    """All of them, by their file's name without suffix."""
    styles = styles_of(analysis.methods)
    figures = {}
    for env, file in file_names(analysis.envs).items():
        for clock in CLOCK_NAMES:
            figure = _curves(analysis, env, clock, styles)
            if figure is not None:
                figures[f"curves-{file}-{clock}"] = figure
        for name, figure in _ratios(analysis, env, styles):
            figures[f"{name}-{file}"] = figure
    if not analysis.are_aggregated:
        return figures
    figures["profiles"] = _profiles(analysis.aggregates.profiles, styles)
    for measure in SCORE_NAMES:
        figure = _improvement(analysis, measure, styles)
        if figure is not None:
            figures[f"improvement-{measure}"] = figure
        figures[f"iqm-{measure}"] = _iqm(analysis, measure, styles)
    return figures


def save_figures(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write each as SVG and as PNG; the same numbers give the same files."""
    for name, figure in figures.items():
        (folder / f"{name}.svg").write_text(_svg(figure), encoding="utf-8")
        figure.savefig(folder / f"{name}.png", dpi=160, bbox_inches="tight")


def _svg(figure: Figure) -> str:
    written = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "equirl"}):
        figure.savefig(written, format="svg", bbox_inches="tight", metadata={"Date": None})
    return written.getvalue()


def _new(height: float = HEIGHT) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(figure: Figure, axes: Any) -> None:
    """Below the axes, where it hides nothing; the figure grows by its rows."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels))
    columns = 3 if longest < 13 else 2 if longest < 28 else 1
    figure.set_figheight(HEIGHT + ROW * math.ceil(len(labels) / columns))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
        handlelength=3,
        columnspacing=1.2,
    )


def _line(axes: Any, x: Any, own: pd.DataFrame, column: str, style: Style, label: str) -> None:
    every = max(1, len(own) // 8)
    axes.plot(
        x,
        own[column],
        color=style.colour,
        linestyle=style.line,
        marker=style.marker,
        markevery=(style.place * every // len(COLOURS), every),
        markersize=4.5,
        linewidth=1.6,
        label=label,
    )
    axes.fill_between(x, own.low, own.high, color=style.colour, alpha=0.15, linewidth=0)


def _curves(analysis: Analysis, env: str, clock: str, styles: Mapping[str, Style]) -> Figure | None:
    curves = analysis.curves
    curves = curves[(curves.env == env) & (curves.clock == clock)]
    if len(curves) == 0:
        return None
    figure, axes = _new()
    for method, own in curves.groupby("method", sort=False):
        _line(axes, own["at"], own, "mean", styles[str(method)], str(method))
    threshold = analysis.measures[analysis.measures.env == env].threshold.iloc[0]
    if not pd.isna(threshold):
        label = f"threshold {threshold:g}".replace("-", "−")
        axes.axhline(threshold, color="#777777", linewidth=1, linestyle=(0, (1, 2)), label=label)
    axes.set_xlim(left=0)
    if axes.get_xlim()[1] >= 1000:  # steps; of seconds, half a one would be "500m"
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_title(env)
    axes.set_xlabel(CLOCK_NAMES[clock])
    axes.set_ylabel("return")
    _legend(figure, axes)
    return figure


def _ratios(
    analysis: Analysis, env: str, styles: Mapping[str, Style]
) -> Iterator[tuple[str, Figure]]:
    """Time to the threshold over the baseline's; none where a scale has nothing but itself."""
    for clock in ("steps", "seconds"):
        rows = analysis.summary
        rows = rows[(rows.env == env) & (rows.measure == f"{clock}_ratio")]
        if len(rows) < 2 or not np.isfinite(rows.point).all() or (rows.point <= 0).any():
            continue
        labels = [f"{r.method}\n{r.bound}{r.point:.2f}" for r in rows.itertuples()]
        figure, axes = _intervals(rows, labels, styles)
        axes.axvline(1, color="#777777", linewidth=1)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        shown = ([tick for tick in ticks if low <= tick <= high] for ticks in RATIO_TICKS)
        ticks = next((ticks for ticks in shown if len(ticks) <= 7), [1])
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_title(env)
        axes.set_xlabel(f"{CLOCK_NAMES[clock]} to threshold\n÷ those of {analysis.baseline}")
        yield f"ratio-{clock}", figure


def _intervals(
    rows: pd.DataFrame, labels: Sequence[str], styles: Mapping[str, Style]
) -> tuple[Figure, Any]:
    """A point with its interval in each row."""
    figure, axes = _new(1.2 + 0.42 * len(rows))
    for y, row in enumerate(rows.itertuples()):
        style = styles[row.method]
        axes.plot([row.low, row.high], [y, y], color=style.colour, linewidth=3, alpha=0.4)
        axes.plot(
            row.point, y, color=style.colour, marker=style.marker, markersize=7, clip_on=False
        )
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    return figure, axes


def _profiles(profiles: pd.DataFrame, styles: Mapping[str, Style]) -> Figure:
    figure, axes = _new()
    for method, own in profiles.groupby("method", sort=False):
        _line(axes, own.tau, own, "point", styles[str(method)], str(method))
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("normalised final return τ")
    axes.set_ylabel("fraction of runs above τ")
    _legend(figure, axes)
    return figure


def _improvement(analysis: Analysis, measure: str, styles: Mapping[str, Style]) -> Figure | None:
    rows = _of_all(analysis.aggregates.improvement, measure)
    rows = rows[rows.over == analysis.baseline]
    if len(rows) == 0:
        return None
    figure, axes = _intervals(rows, list(rows.method), styles)
    axes.axvline(0.5, color="#777777", linewidth=1)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel(f"probability of a better {SCORE_NAMES[measure]}\nthan {analysis.baseline}")
    return figure


def _iqm(analysis: Analysis, measure: str, styles: Mapping[str, Style]) -> Figure:
    rows = _of_all(analysis.aggregates.iqm, measure)
    figure, axes = _intervals(rows, list(rows.method), styles)
    axes.set_xlabel(f"normalised {SCORE_NAMES[measure]}\n(interquartile mean)")
    return figure


def _of_all(frame: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The rows of all environments together, or of the only one."""
    several = (frame.env == ALL).any()
    return frame[(frame.measure == measure) & ((frame.env == ALL) | (not several))]
