"""The tables and figures of docs/broken_symmetry.md, from what the other scripts wrote.

python examples/broken_symmetry/tables.py FOLDER [FIGURES]
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

Runs = dict[tuple[str, str, str, str], list[dict[str, Any]]]
METHODS = ("plain", "augment", "mirror_loss", "equitune", "equizero", "rpp", "relaxed")
TITLES = {
    "slope": "slope on 2 of 5 columns", "wall": "wall on one side", "exact": "exact symmetry",
    "all": "slope everywhere",
}  # fmt: skip


def read(folder: Path) -> Runs:
    runs: Runs = defaultdict(list)
    for file in sorted(folder.rglob("*.json")):
        kind = file.name.partition("-")[0]
        if kind in ("grid", "cartpole", "actor_critic"):
            run = json.loads(file.read_text())
            runs[kind, run["task"], run["method"], run["way"]].append(run)
    return runs


def interval(values: list[float]) -> str:
    """The mean, and the 95 % interval of a bootstrap over seeds."""
    rng, sample = np.random.default_rng(0), np.array(values, float)
    means = rng.choice(sample, (5000, len(sample))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{sample.mean():.3g} [{low:.3g}, {high:.3g}]"


def last(run: dict[str, Any], key: str) -> float:
    return float(run[key][-1] if isinstance(run[key], list) else run[key])


def tables(runs: Runs) -> None:
    for (kind, task, method, way), found in sorted(runs.items()):
        if kind == "grid":
            final = interval([float(np.mean(run["returns"][-3:])) for run in found])
        else:
            final = interval([run["final"] for run in found])
        area = interval([float(np.mean(run["returns"])) for run in found])
        cells = [kind, task, method, way, f"{len(found)} seeds", final, area]
        if kind == "grid":
            cells.append(f"rmse {np.mean([last(run, 'errors') for run in found]):.3f}")
        if "alpha" in found[0] and found[0]["alpha"][0] is not None:
            cells.append(f"α in training {np.mean([np.mean(r['alpha']) for r in found]):.3f}")
        for key in sorted(found[0]):
            if key.startswith(("alpha_a", "alpha_s", "above", "below")) and "by_" not in key:
                cells.append(f"{key} {np.mean([last(run, key) for run in found]):.2f}")
        if found[0].get("correlation") is not None:
            cells.append(f"correlation {np.mean([run['correlation'] for run in found]):.2f}")
        cells.append(f"{np.mean([run['seconds'] for run in found]):.0f} s")
        print(" | ".join(cells))


def alpha_figure(runs: Runs, path: Path) -> None:
    figure = Figure(figsize=(6.4, 5), layout="constrained")
    axes = figure.subplots(2, 2)
    for row, task in zip(axes, ("slope", "wall"), strict=True):
        found = runs["grid", task, "relaxed", "-"]
        alpha = np.mean([run["alpha_by_agent"] for run in found], axis=0)
        asymmetry = np.mean([run["asymmetry_by_agent"] for run in found], axis=0)
        for ax, shown, title, top in (
            (row[0], asymmetry, f"{TITLES[task]}: asymmetry of Q*", None),
            (row[1], alpha, f"α, mean of {len(found)} seeds", 1),
        ):
            drawn = ax.imshow(shown, vmin=0, vmax=top, cmap="viridis")
            ax.set(xticks=[], yticks=[])
            ax.set_title(title, fontsize=9)
            figure.colorbar(drawn)
    figure.savefig(path, dpi=75)


def curves_figure(runs: Runs, path: Path) -> None:
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    for ax, task in zip(figure.subplots(2, 2).ravel(), TITLES, strict=True):
        for method in METHODS:
            found = runs.get(("grid", task, method, "-"), [])
            if found:
                mean = np.mean([run["returns"] for run in found], axis=0)
                width = 2 if method == "relaxed" else 1
                ax.plot(found[0]["steps"], mean, label=method, linewidth=width)
        ax.set_title(TITLES[task], fontsize=9)
    ax.legend(fontsize=7)
    figure.supxlabel("environment steps", fontsize=9)
    figure.supylabel("return of the greedy policy", fontsize=9)
    figure.savefig(path, dpi=75)


if __name__ == "__main__":
    runs = read(Path(sys.argv[1]))
    tables(runs)
    if len(sys.argv) > 2:
        alpha_figure(runs, Path(sys.argv[2]) / "broken-alpha.png")
        curves_figure(runs, Path(sys.argv[2]) / "broken-curves.png")
