"""The figure of `equirl benchmark`: what a gradient step costs against |G|."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from equirl.commands.benchmark_cells import Measurement
from equirl.commands.benchmark_subjects import STOCK

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = {
    "augment": "#000000",
    "equitune": "#0072B2",
    "lambda": "#D55E00",
    "equizero": "#009E73",
    "canonical": "#CC79A7",
}
MARKERS = dict(zip(COLOURS, "osD^v", strict=True))


def plot_cost(measurements: Sequence[Measurement], path: Path) -> None:
    """One panel for each network, |G| across and the ratio to stock upwards, at each batch size."""
    from matplotlib.figure import Figure

    steps = [m for m in measurements if m.cell.part == "gradient_step" and m.method != STOCK]
    panels = sorted({(m.cell.network, m.cell.batch_size) for m in steps})
    figure = Figure(figsize=(max(4 * len(panels), 5), 4), layout="constrained")
    for axes, panel in zip(
        figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels, strict=True
    ):
        here = [m for m in steps if (m.cell.network, m.cell.batch_size) == panel]
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
        orders = sorted({m.cell.order for m in here})
        axes.plot(orders, orders, color="#999999", linestyle=":", label="|G| times stock")
        axes.axhline(1, color="#999999", linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(orders, [str(order) for order in orders])
        axes.set_title(f"{panel[0]}, batch {panel[1]}")
        axes.set_xlabel("|G|")
    figure.axes[0].set_ylabel("seconds of a gradient step ÷ stock SB3")
    figure.axes[-1].legend()
    figure.savefig(path, dpi=150)
