"""What `equirl transfer` leaves behind: a table, a JSON report and a figure."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from equirl.agents.training.evaluation import Episodes, half_width
from equirl.agents.transfer import PLAIN, Transferred
from equirl.agents.transfer.fine_tuning import Curve
from equirl.runs.atomic_write import written_whole

CHOSEN, OTHER = "#D55E00", "#0072B2"
"""Two of Okabe and Ito's colours, which colour-blind readers can tell apart."""


def write_report(result: Transferred, path: Path) -> None:
    """Everything that was measured, as JSON."""
    report: dict[str, Any] = {
        "versions": {name: _version(result, name) for name in result.played},
        "chosen": result.chosen,
    }
    if result.disagreement is not None:
        report["disagreement"] = {
            **asdict(result.disagreement),
            "risk": result.disagreement.risk,
        }
    if result.learned is not None:
        learned = result.learned
        report["learned_weights"] = {
            "chosen": learned.chosen,
            "beta": learned.beta,
            "environment_steps": learned.steps,
            "compared": learned.compared.returns,
        }
    if result.alpha is not None:
        report["mean_alpha"] = result.alpha
    if result.curves:
        report["curves"] = {name: _curve(curve) for name, curve in result.curves.items()}
    with written_whole(path) as aside:
        aside.write_text(json.dumps(report, indent=2) + "\n")


def _version(result: Transferred, name: str) -> dict[str, Any]:
    episodes = result.played[name]
    version: dict[str, Any] = {
        "mean_return": episodes.mean,
        "half_width_95": episodes.half_width,
        "episodes": len(episodes.returns),
    }
    if episodes.successes is not None:
        version["success_rate"] = float(episodes.successes.mean())
    if name != PLAIN:
        gain = _gain(result, name)
        version["gain_over_plain"] = float(gain.mean())
        version["gain_half_width_95"] = half_width(gain)
    return version


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "steps": curve.steps,
        "best_step": curve.steps[curve.best],
        "mean_return": [episodes.mean for episodes in curve.episodes],
        "half_width_95": [episodes.half_width for episodes in curve.episodes],
    }


def _gain(result: Transferred, name: str) -> Any:
    return result.played[name].returns - result.played[PLAIN].returns


def print_report(result: Transferred, title: str) -> None:
    """The table."""
    table = Table("version", "return", "gain over plain", "", title=title)
    for name, episodes in result.played.items():
        gain = ""
        if name != PLAIN:
            difference = _gain(result, name)
            gain = f"{difference.mean():+.1f} ± {half_width(difference):.1f}"
            if abs(difference.mean()) < 10:
                gain = f"{difference.mean():+.2f} ± {half_width(difference):.2f}"
        table.add_row(name, str(episodes), gain, "saved" if name == result.chosen else "")
    Console(highlight=False).print(table)
    if result.disagreement is not None:
        print(f"measured before: {result.disagreement}")
    if result.learned is not None:
        learned = result.learned
        print(f"learned λ: {learned.chosen}, β = {learned.beta:.2f}, {learned.steps} steps")
    if result.alpha is not None:
        print(f"learned α: {result.alpha:.2f} on average over the states played")
    for name, curve in result.curves.items():
        print(f"{name}, trained: the best of its curve, after {curve.steps[curve.best]} steps")
    if result.chosen == PLAIN:
        print("no version is better than the original with 95 % confidence: the original is kept")


def plot(result: Transferred, path: Path) -> None:
    """Returns with their intervals; and the learning curves, where there are some."""
    from matplotlib.figure import Figure

    panels = 2 if result.curves else 1
    height = 1.5 + 0.35 * len(result.played)
    figure = Figure(figsize=(6 * panels, max(height, 3.0)), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for row, (name, episodes) in enumerate(result.played.items()):
        axes[0].errorbar(
            episodes.mean,
            row,
            xerr=episodes.half_width,
            fmt="D" if name == result.chosen else "o",
            color=CHOSEN if name == result.chosen else OTHER,
            capsize=3,
        )
    axes[0].axvline(result.played[PLAIN].mean, color="#999999", linewidth=0.8)
    names = [f"{name} (saved)" if name == result.chosen else name for name in result.played]
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    axes[0].set_xlabel(f"return over {_count(result.played)} episodes, 95 % intervals")
    for (name, curve), style in zip(result.curves.items(), ("o-", "D-"), strict=False):
        means = [episodes.mean for episodes in curve.episodes]
        axes[1].errorbar(
            curve.steps,
            means,
            yerr=[episodes.half_width for episodes in curve.episodes],
            fmt=style,
            capsize=2,
            color=OTHER if name == PLAIN else CHOSEN,
            label=f"{name}, trained further",
        )
    if result.curves:
        axes[1].set_xlabel("environment steps")
        axes[1].set_ylabel("return")
        axes[1].legend()
    with written_whole(path) as aside:
        figure.savefig(aside, dpi=110, format="png")


def _count(played: dict[str, Episodes]) -> int:
    return len(played[PLAIN].returns)
