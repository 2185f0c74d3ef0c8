"""``equirl benchmark``: what symmetry costs, beside stock Stable-Baselines3."""

from __future__ import annotations

import json
import math
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any, cast

import numpy as np
import stable_baselines3
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.utils import get_device
from tqdm import tqdm

import equirl
from equirl.commands.benchmark.cells import (
    PARTS,
    Cell,
    Measurement,
    TooLong,
    cells_of,
    measure,
    training_of,
)
from equirl.commands.benchmark.plot import plot_cost
from equirl.commands.benchmark.subjects import NETWORKS, ORDERS
from equirl.commands.environments import check_device, environment_maker
from equirl.commands.training.settings import check_settings
from equirl.configs.schema import BenchmarkConfig
from equirl.errors import ConfigError, EquirlError
from equirl.runs.run_directory import RunDirectory
from equirl.shown import nearest
from equirl.symmetrize import METHODS

CHOICES: dict[str, tuple[Any, ...]] = {
    "parts": tuple(PARTS),
    "methods": ("augment", *METHODS),
    "networks": tuple(NETWORKS),
    "orders": ORDERS,
}
"""What the entries of a key may be."""

MEANING = {
    "training": "whole training: environment steps a second (ratio above 1: faster)",
    "gradient_step": "one gradient step (ratio below 1: faster)",
    "predict": "one greedy action (ratio below 1: faster)",
    "orbit": "the orbit of a batch, beside a copy of the same size",
    "memory": "peak memory of tensors in one gradient step",
}
"""What each part is, for the heading of its table."""


def benchmark(config: DictConfig) -> None:
    """Measure as configured; print tables, write ``benchmark.json`` and ``cost.png``."""
    settings = cast(BenchmarkConfig, OmegaConf.to_object(config))
    run = RunDirectory(settings.run_dir)
    _check(settings, run)
    device = get_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    order = 0
    if "training" in settings.parts:
        _, symmetry = environment_maker(settings.env, needs_symmetry=True)
        assert symmetry is not None
        order = symmetry.group.order

    run.path.mkdir(parents=True)
    machine = _machine(device)
    measurements: list[Measurement] = []
    left_out: list[tuple[Cell, str]] = []
    cells = list(cells_of(settings, order))
    with tqdm(cells, unit="cell", disable=not settings.progress, leave=False) as bar:
        for cell in bar:
            bar.set_postfix_str(f"{cell.part} {cell.network} |G| = {cell.order}")
            try:
                measurements += measure(cell, settings, device)
            except TooLong as estimate:
                left_out.append((cell, str(estimate)))
            except EquirlError:
                if not measurements:
                    run.path.rmdir()
                raise
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    for part, own in groupby(measurements, key=lambda m: m.cell.part):
        Console().print(_table(MEANING[part], list(own)))
    for cell, length in left_out:
        print(f"left out: {_label(cell)} ({length}; raise cell_seconds to have it)")

    if not torch.cuda.is_available():
        print("no CUDA device here; where there is one: equirl benchmark compile=true")
    report = {
        "machine": machine,
        "config": OmegaConf.to_container(config, resolve=True),
        "measurements": [asdict(m) for m in measurements],
        "left_out": [asdict(cell) for cell, _ in left_out],
    }
    run.benchmark_numbers.write_text(json.dumps(report, indent=1) + "\n")
    print(f"numbers: {run.benchmark_numbers}")
    if any(m.cell.part == "gradient_step" for m in measurements):
        plot_cost(measurements, run.benchmark_figure)
        print(f"plot:    {run.benchmark_figure}")


def _check(settings: BenchmarkConfig, run: RunDirectory) -> None:
    run.check_new()
    check_device(settings.device)
    for key, known in CHOICES.items():
        for entry in getattr(settings, key):
            if entry not in known:
                hint = nearest(entry, known) if isinstance(entry, str) else ""
                raise ConfigError(
                    f"{key} may list {', '.join(map(str, known))}, got {entry!r}{hint}"
                )
    for key in ("parts", "methods", "orders", "networks", "batch_sizes"):
        if not getattr(settings, key):
            raise ConfigError(f"{key} is empty")
        if twice := [e for e, n in Counter(getattr(settings, key)).items() if n > 1]:
            raise ConfigError(f"{key} lists {', '.join(map(str, twice))} more than once")
    positive = [*settings.batch_sizes, settings.rounds]
    if settings.training_steps is not None:
        positive.append(settings.training_steps)
    lengths = (settings.turn_seconds, settings.cell_seconds)
    if min(positive) < 1 or not all(0 <= length < math.inf for length in lengths):
        raise ConfigError(
            "batch_sizes, rounds and training_steps must be at least 1, turn_seconds and "
            "cell_seconds at least 0"
        )
    # What it shares with train is checked as train checks it.
    for method in ("plain", *settings.methods):
        check_settings(training_of(settings, method, get_device(settings.device)))


def _machine(device: torch.device) -> dict[str, Any]:
    """What the numbers hold for."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": f"{device} ({name})",
        "threads": torch.get_num_threads(),
        "equirl": equirl.__version__,
        "stable-baselines3": stable_baselines3.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _table(title: str, measurements: Sequence[Measurement]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("network", "|G|", "batch", "method"):
        table.add_column(heading, no_wrap=True)
    table.add_column("median", justify="right", no_wrap=True)
    table.add_column("ratio (quartiles)", justify="right", no_wrap=True)
    for cell, own in groupby(measurements, key=lambda m: m.cell):
        first = True
        for m in own:
            where = (cell.network, str(cell.order), str(cell.batch_size)) if first else ("", "", "")
            ratio = f"{m.ratio.median:.2f} ({m.ratio.low:.2f} … {m.ratio.high:.2f})"
            table.add_row(*where, m.method, _shown(m), "1" if first else ratio)
            first = False
        table.add_section()
    return table


def _shown(m: Measurement) -> str:
    if m.unit == "MiB":
        return f"{m.value.median:.2f} MiB"
    if m.unit == "steps/s":
        return f"{m.value.median:,.0f} steps/s"
    scale, unit = (1e3, "ms") if m.value.median >= 1e-3 else (1e6, "µs")
    return f"{m.value.median * scale:.3g} {unit}"


def _label(cell: Cell) -> str:
    return f"{cell.part}, {cell.network}, |G| = {cell.order}, batch {cell.batch_size}"
