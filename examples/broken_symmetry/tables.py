"""The tables and figures of docs/broken_symmetry.md, from what the other scripts wrote.

python examples/broken_symmetry/tables.py FOLDER [RESULTS]

The numbers of every run are kept in RESULTS/broken-runs.csv, beside those that are there already,
so that a table can be told again, and seeds added to it, where the runs themselves are gone.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

Runs = dict[tuple[str, str, str, str], list[dict[str, Any]]]
RUN = ("kind", "task", "method", "way", "seed")
"""What tells a run from the others, and the first columns of the file that they are kept in."""
MEASURES = ("end", "over_training")
METHODS = ("plain", "augment", "mirror_loss", "equitune", "equizero", "rpp", "relaxed")
TITLES = {"column": "slope on 1 of 5 columns", "wall": "wall on one side"}
GAMES = (("cartpole", "push6"), ("invaders", "gun"), ("lander", "engines"))
NAMES = {
    ("table", "wall"): "wall",
    ("table", "column"): "slope, 1 of 5 columns",
    ("table", "slope"): "slope, 2 of 5 columns",
    ("snake", "corner"): "Snake, `corner`",
    ("snake", "quadrant"): "Snake, `quadrant`",
    ("invaders", "gun"): "Space Invaders, `gun`",
    ("invaders", "side"): "Space Invaders, `side`",
    ("lander", "engines"): "LunarLander, `engines`",
    ("lander", "edge"): "LunarLander, `edge`",
    ("lander", "storm"): "LunarLander, `storm`",
    ("cartpole", "stuck"): "CartPole, `stuck`",
    ("cartpole", "weak"): "CartPole, `weak`",
    ("cartpole", "push6"): "CartPole, `push6`",
    ("cartpole", "push"): "CartPole, `push`",
    ("table", "exact"): "exact room",
    ("cartpole", "exact"): "exact CartPole",
    ("table", "all"): "slope everywhere",
    ("grid", "wall"): "wall, by the library",
    ("grid", "column"): "slope, 1 of 5 columns, by the library",
}
"""Tasks, in the order of the table; others follow."""


def read(folder: Path) -> Runs:
    runs: Runs = defaultdict(list)
    for file in sorted(folder.rglob("*.json")):
        kind = file.name.partition("-")[0]
        if kind in {key[0] for key in NAMES} | {"actor_critic"}:
            run = json.loads(file.read_text())
            runs[kind, run["task"], run["method"], run["way"]].append(run)
    return runs


def numbers(runs: Runs) -> Runs:
    """Of every run its end and its mean over training, and what was found of alpha."""
    found: Runs = defaultdict(list)
    for key, of_seeds in runs.items():
        for run in of_seeds:
            row = {"seed": run["seed"], "end": end(run), "over_training": over_training(run)}
            if alpha := [each for each in run.get("alpha", []) if each is not None]:
                row["alpha"] = float(np.mean(alpha))
            for name in run:
                is_told = name.startswith(("alpha_", "above", "below", "let_go"))
                if is_told and "by_" not in name:
                    row[name] = late(run, name)
            found[key].append({**row, "seconds": run["seconds"]})
    return found


def kept(path: Path, new: Runs) -> Runs:
    """Those of a file and the new ones, which take the place of the same run; both are written."""
    rows = {}
    if path.exists():
        with path.open(newline="") as file:
            for told in csv.DictReader(file):
                *key, seed = (told.pop(name) for name in RUN)
                values = {name: float(value) for name, value in told.items() if value}
                rows[tuple(key), int(seed)] = {"seed": int(seed), **values}
    rows |= {(key, run["seed"]): run for key, of_seeds in new.items() for run in of_seeds}
    names = sorted(set().union(*rows.values()) - {*RUN, *MEASURES})
    found: Runs = defaultdict(list)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*RUN, *MEASURES, *names], lineterminator="\n")
        writer.writeheader()
        for key, seed in sorted(rows):
            values = {name: f"{value:.6g}" for name, value in rows[key, seed].items()}
            writer.writerow(dict(zip(RUN, key, strict=False)) | values)
            found[key].append(rows[key, seed])
    return found


def interval(values: list[float], beside: float | None = None) -> str:
    """The mean over seeds and its 95 % interval of a bootstrap, bold where it leaves a number out.

    Of fewer than five seeds it is their range.
    """
    sample = np.array(values, float)
    if len(sample) < 5:
        return f"{sample.mean():.3g} ({sample.min():.3g} to {sample.max():.3g})"
    drawn = np.random.default_rng(0).choice(sample, (10_000, len(sample))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    shown = f"{sample.mean():.3g} [{low:.3g}, {high:.3g}]"
    return shown if beside is None or low <= beside <= high else f"**{shown}**"


def end(run: dict[str, Any]) -> float:
    """After training: of the last three evaluations, or of episodes of their own."""
    return float(run["final"] if "final" in run else np.mean(run["returns"][-3:]))


def over_training(run: dict[str, Any]) -> float:
    return float(np.mean(run["returns"]))


def late(run: dict[str, Any], key: str) -> float:
    """Mean of the last four evaluations."""
    return float(np.mean(run[key][-4:]) if isinstance(run[key], list) else run[key])


def tables(runs: Runs) -> None:
    """Of every task the methods, and by how much `relaxed` is better than each, seed by seed.

    Where it was not trained, by how much it is with an alpha for each action.
    """
    print("| task | method | seeds | end | relaxed is better by | over training |"
          " relaxed is better by |\n|---|---|---|---|---|---|---|")  # fmt: skip
    order = [*NAMES, *sorted({key[:2] for key in runs} - {*NAMES})]
    for kind, task, method, way in sorted(
        runs,
        key=lambda key: (order.index(key[:2]), METHODS.index(key[2].partition("-")[0]), key[3]),
    ):
        found = {run["seed"]: run for run in runs[kind, task, method, way]}
        of_task = {key[2]: runs[key] for key in runs if key[:2] == (kind, task) and key[3] == "-"}
        default = of_task.get("relaxed", of_task.get("relaxed-per_action", []))
        ours = {run["seed"]: run for run in default}
        pairs = [(ours[seed], found[seed]) for seed in sorted({*ours} & {*found})]
        if default is runs[kind, task, method, way]:
            pairs = []
        name = NAMES.get((kind, task), f"{kind} {task}")
        cells = [name, f"`{method}`" if way == "-" else f"`{method}`, {way}", str(len(found))]
        for measure in MEASURES:
            cells.append(interval([run[measure] for run in found.values()]))
            better = [own[measure] - other[measure] for own, other in pairs]
            cells.append(interval(better, beside=0) if better else "")
        print("| " + " | ".join(cells) + " |")
    for key in runs:
        if key[2].startswith("relaxed"):
            print("\n" + " ".join(key), *alpha_cells(runs[key]), sep="; ")


def alpha_cells(found: list[dict[str, Any]]) -> list[str]:
    cells = []
    for key in sorted(set().union(*found) - {*RUN, *MEASURES}):
        values = [run[key] for run in found if key in run]  # some states an agent may never meet
        cells.append(f"{key} {np.mean(values):.3g}")
    return cells


def alpha_figure(runs: Runs, path: Path, kind: str = "table") -> None:
    figure = Figure(figsize=(6.4, 5), layout="constrained")
    axes = figure.subplots(2, 2)
    for row, task in zip(axes, TITLES, strict=True):
        found = runs[kind, task, "relaxed", "-"]
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


def averaged(found: list[dict[str, Any]], name: str) -> np.ndarray:
    """Over agents, of each place by how often they are there; NaN where none of them ever is."""
    seen = [np.array(run["seen_by_place"]) for run in found]
    shape = np.max([counts.shape for counts in seen], axis=0)
    total, sums = np.zeros(shape), np.zeros(shape)
    for counts, run in zip(seen, found, strict=True):
        where = tuple(map(slice, counts.shape))
        total[where] += counts
        sums[where] += counts * run[f"{name}_by_place"]
    return np.where(total > 0, sums / np.maximum(total, 1), np.nan)


def snake_figure(runs: Runs, path: Path) -> None:
    """alpha by the cell of the fruit, with the head beside it and not."""
    found = [run for run in runs["snake", "corner", "relaxed", "-"] if "seen_by_place" in run]
    if not found:
        return
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    alpha = averaged(found, "alpha")
    for ax, shown, where in zip(figure.subplots(1, 2), alpha, ("beside", "away from"), strict=True):
        drawn = ax.imshow(shown, vmin=0, vmax=1, cmap="viridis")
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"the head {where} the fruit", fontsize=9)
    figure.suptitle(f"Snake: α by the cell of the fruit, mean of {len(found)} seeds", fontsize=9)
    figure.colorbar(drawn, ax=figure.axes)
    figure.savefig(path, dpi=75)


def pole_figure(runs: Runs, path: Path) -> None:
    """By the cart's position and the pole's angle, how far Q is from Q_G, and alpha."""
    found = [run for run in runs["cartpole", "push6", "relaxed", "-"] if "gap_by_place" in run]
    if not found:
        return
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    panels = (("gap", "|Q − Q_G|", None), ("alpha", f"α, mean of {len(found)} seeds", 1))
    for ax, (name, title, top) in zip(figure.subplots(1, 2), panels, strict=True):
        extent = (-2.4, 2.4, -12, 12)
        shown = averaged(found, name)
        drawn = ax.imshow(
            shown, vmin=0, vmax=top, cmap="viridis", origin="lower", extent=extent, aspect="auto"
        )
        ax.set_title(f"CartPole, push6: {title}", fontsize=9)
        ax.set_xlabel("position of the cart", fontsize=8)
        ax.set_ylabel("angle of the pole, degrees", fontsize=8)
        figure.colorbar(drawn)
    figure.savefig(path, dpi=75)


def curves_figure(runs: Runs, path: Path, tasks: tuple[tuple[str, str], ...]) -> None:
    """Of every method the mean return over its seeds, and the 95 % interval of that mean."""
    figure = Figure(figsize=(max(5.2, 3.5 * len(tasks)), 3), layout="constrained")
    lines = {}
    (axes,) = figure.subplots(1, len(tasks), squeeze=False)
    for ax, (kind, task) in zip(axes, tasks, strict=True):
        for method in METHODS:
            found = runs.get((kind, task, method, "-"), [])
            if not found:
                continue
            returns = np.array([run["returns"] for run in found])
            steps, width = found[0]["steps"], 2 if method == "relaxed" else 1
            color = f"C{METHODS.index(method)}"
            (lines[method],) = ax.plot(steps, returns.mean(axis=0), color=color, linewidth=width)
            if len(found) >= 5:
                drawn = np.random.default_rng(0).choice(returns, (2000, len(returns))).mean(axis=1)
                low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
                ax.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
        ax.set_title(TITLES.get(task, NAMES[kind, task].replace("`", "")), fontsize=9)
    across = min(len(lines), 4 * len(tasks))
    figure.legend(lines.values(), lines, loc="outside upper center", ncols=across, fontsize=8)
    figure.supxlabel("environment steps", fontsize=9)
    figure.supylabel("return of the greedy policy", fontsize=9)
    figure.savefig(path, dpi=75)


if __name__ == "__main__":
    runs = read(Path(sys.argv[1]))
    found = numbers(runs)
    if len(sys.argv) > 2:
        results = Path(sys.argv[2])
        found = kept(results / "broken-runs.csv", found)
        if all(("table", task, "relaxed", "-") in runs for task in TITLES):
            alpha_figure(runs, results / "broken-alpha.png")
            rooms = tuple(("table", task) for task in TITLES)
            curves_figure(runs, results / "broken-curves.png", rooms)
        # Of the games whose runs are there: their curves are not in the file.
        games = tuple(task for task in GAMES if (*task, "relaxed", "-") in runs)
        if games:
            names = "games" if games == GAMES else "-".join(kind for kind, _ in games)
            curves_figure(runs, results / f"broken-curves-{names}.png", games)
        snake_figure(runs, results / "broken-alpha-snake.png")
        pole_figure(runs, results / "broken-alpha-cartpole.png")
    tables(found)
