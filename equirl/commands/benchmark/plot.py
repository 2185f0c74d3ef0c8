"""The figure of `equirl benchmark`: what a gradient step costs against |G|."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from equirl.commands.benchmark.cells import Measurement
from equirl.commands.benchmark.subjects import STOCK

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = {
    "augment": "#000000",
    "equitune": "#0072B2",
    "lambda": "#D55E00",
    "equizero": "#009E73",
    "canonical": "#CC79A7",
    "relaxed": "#E69F00",
}
MARKERS = dict(zip(COLOURS, "osD^vP", strict=True))


def plot_cost(measurements: Sequence[Measurement], path: Path) -> None:
    """One panel for each network, |G| across and the ratio to stock upwards, at each batch size."""
    from matplotlib.figure import Figure

    steps = [m for m in measurements if m.cell.part == "gradient_step" and m.method != STOCK]
    networks = sorted({m.cell.network for m in steps})
    batch_sizes = sorted({m.cell.batch_size for m in steps})
    orders = sorted({m.cell.order for m in steps})
    rows, columns = len(networks), len(batch_sizes)
    figure = Figure(figsize=(max(3.5 * columns, 5), 3 * rows + 0.5), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, panel in zip(grid.flat, product(networks, batch_sizes), strict=True):
        here = [m for m in steps if (m.cell.network, m.cell.batch_size) == panel]
        if not here:  # left out
            axes.set_axis_off()
            continue
        for method, colour in COLOURS.items():
            own = sorted((m.cell.order, m.ratio) for m in here if m.method == method)
            if own:
                medians = [ratio.median for _, ratio in own]
                axes.errorbar(
                    [order for order, _ in own],
                    medians,
                    yerr=[
                        [r.median - r.low for _, r in own],
                        [r.high - r.median for _, r in own],
                    ],
                    color=colour,
                    marker=MARKERS[method],
                    label=method,
                )
        axes.plot(orders, orders, color="#999999", linestyle=":", label="|G| times stock")
        axes.axhline(1, color="#999999", linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(orders, [str(order) for order in orders])
        axes.set_title(f"{panel[0]}, batch {panel[1]}")
    figure.supxlabel("|G|")
    figure.supylabel("seconds of a gradient step ÷ stock SB3")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=6)
    figure.savefig(path, dpi=110)
