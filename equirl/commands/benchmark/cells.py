"""The cells of the table of `equirl benchmark`: one question each, asked of every method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from equirl.commands.benchmark.subjects import STOCK, gradient_step, subject, symmetry_of_order
from equirl.commands.benchmark.timing import PeakMemory, Spread, Timing, Work, take_turns
from equirl.commands.environments import environment_maker
from equirl.commands.training.model import build_model
from equirl.configs.algorithms import ALGORITHMS
from equirl.configs.methods import METHODS
from equirl.configs.schema import BenchmarkConfig, TrainConfig
from equirl.symmetry import Symmetry

TRIVIAL = "equitune, {e}"
"""In the training part: what the machinery costs where there is no symmetry."""


@dataclass(frozen=True)
class Cell:
    """One comparison.

    Args:
        part: what is measured, a key of `PARTS`.
        network: a key of `NETWORKS`, or the environment's own.
        order: |G|.
        batch_size: observations handled at once.
    """

    part: str
    network: str
    order: int
    batch_size: int


@dataclass(frozen=True)
class Measurement:
    """What one method needs in one cell.

    Args:
        cell: the cell.
        method: the method, or what it is compared with.
        unit: s (of one call), MiB, or steps/s, where more is better.
        value: the measurement.
        ratio: to the first method of the cell.
    """

    cell: Cell
    method: str
    unit: str
    value: Spread
    ratio: Spread


class TooLong(Exception):
    """A cell would take longer than allowed."""


def measure(cell: Cell, settings: BenchmarkConfig, device: torch.device) -> list[Measurement]:
    """Every method's measurement, the baseline's first.

    Raises:
        TooLong: see ``cell_seconds``.
    """
    return PARTS[cell.part](cell, settings, device)


def cells_of(settings: BenchmarkConfig, order_of_env: int) -> Iterator[Cell]:
    """The cells that the settings ask for."""
    for part in settings.parts:
        if part == "training":
            yield Cell(
                part,
                str(settings.env.name or settings.env.id),
                order_of_env,
                getattr(settings.algorithm, "batch_size", settings.algorithm.n_steps),
            )
            continue
        for network in settings.networks if part != "orbit" else _observed(settings.networks):
            for order in settings.orders:
                for batch_size in _batch_sizes(part, settings):
                    yield Cell(part, network, order, batch_size)


def training_steps(settings: BenchmarkConfig) -> int:
    """Environment steps in one turn; fewer of algorithms that take a gradient step at each."""
    takes_discrete = "Discrete" in ALGORITHMS[settings.algorithm.name].ACTIONS
    return settings.training_steps or (2560 if takes_discrete else 256)


def training_of(settings: BenchmarkConfig, method: str, device: torch.device) -> TrainConfig:
    """What ``equirl train`` would be told for one turn of the training part."""
    ours = method not in ("plain", "augment")
    return TrainConfig(
        env=settings.env,
        algorithm=settings.algorithm,
        method=METHODS[method](),
        seed=settings.seed,
        device=str(device),
        threads=settings.threads,
        total_timesteps=training_steps(settings),
        device_replay=settings.device_replay and method != "augment",
        compile=settings.compile and ours,
        bf16=settings.bf16 and ours,
    )


def _observed(networks: Sequence[str]) -> list[str]:
    """Of networks that are shown the same observations, which an orbit is of, the first."""
    first = {network == "nature-cnn": network for network in reversed(networks)}
    return [network for network in networks if network in first.values()]


def _batch_sizes(part: str, settings: BenchmarkConfig) -> list[int]:
    if part == "predict":
        return [1]
    return [min(settings.batch_sizes)] if part == "memory" else settings.batch_sizes


def _training(cell: Cell, settings: BenchmarkConfig, device: torch.device) -> list[Measurement]:
    make_env, symmetry = environment_maker(settings.env, needs_symmetry=True)
    assert symmetry is not None
    trivial = Symmetry.trivial(symmetry.observation_space, symmetry.action_space)

    taken: list[int] = []

    def learner(method: str, moved_by: Symmetry) -> Work:
        train = training_of(settings, method, device)
        env = DummyVecEnv([lambda: Monitor(make_env())] * settings.algorithm.n_envs)
        model = build_model(train, env, moved_by)
        model.learn(getattr(settings.algorithm, "learning_starts", 1))

        def learn() -> None:
            before = model.num_timesteps
            model.learn(training_steps(settings), reset_num_timesteps=False)
            taken.append(model.num_timesteps - before)  # whole rollouts, or rounds of train_freq

        return learn

    works = {STOCK: learner("plain", symmetry), TRIVIAL: learner("equitune", trivial)}
    works |= {method: learner(method, symmetry) for method in settings.methods}
    timings = take_turns(works, settings.rounds, 0.0, *_clock(settings, device))
    steps = float(np.mean(taken))
    return [
        Measurement(cell, name, "steps/s", _inverse(t.seconds, steps), _inverse(t.ratio))
        for name, t in timings.items()
    ]


def _gradient_step(
    cell: Cell, settings: BenchmarkConfig, device: torch.device
) -> list[Measurement]:
    return _timed(cell, settings, device, lambda model: gradient_step(model, cell.batch_size))


def _predict(cell: Cell, settings: BenchmarkConfig, device: torch.device) -> list[Measurement]:
    def predictor(model: Any) -> Work:
        observation = np.asarray(model.env.reset())[0]
        return lambda: model.predict(observation, deterministic=True)

    return _timed(cell, settings, device, predictor)


def _orbit(cell: Cell, settings: BenchmarkConfig, device: torch.device) -> list[Measurement]:
    symmetry = symmetry_of_order(cell.order, cell.network == "nature-cnn")
    space = symmetry.observation_space
    batch = torch.as_tensor(np.stack([space.sample() for _ in range(cell.batch_size)])).to(device)
    orbit = symmetry.orbit(batch)
    source, target = torch.empty_like(orbit), torch.empty_like(orbit)
    works: dict[str, Work] = {
        "copy of that size": lambda: target.copy_(source),
        "orbit": lambda: symmetry.orbit(batch),
    }
    return _as_seconds(
        cell,
        take_turns(works, settings.rounds, settings.turn_seconds, *_clock(settings, device)),
    )


def _memory(cell: Cell, settings: BenchmarkConfig, device: torch.device) -> list[Measurement]:
    peaks = {}
    for method in (STOCK, *settings.methods):
        model = _subject(method, cell, settings, device)
        step = gradient_step(model, cell.batch_size)
        step()  # the optimiser's own state is made on the first step
        with PeakMemory() as memory:
            step()
        peaks[method] = memory.peak / 2**20
    return [
        Measurement(cell, method, "MiB", Spread.of([peak]), Spread.of([peak / peaks[STOCK]]))
        for method, peak in peaks.items()
    ]


PARTS: dict[str, Callable[[Cell, BenchmarkConfig, torch.device], list[Measurement]]] = {
    "training": _training,
    "gradient_step": _gradient_step,
    "predict": _predict,
    "orbit": _orbit,
    "memory": _memory,
}
"""What is measured, by name."""


def _timed(
    cell: Cell,
    settings: BenchmarkConfig,
    device: torch.device,
    work_of: Callable[[Any], Work],
) -> list[Measurement]:
    models = {
        method: _subject(method, cell, settings, device) for method in (STOCK, *settings.methods)
    }
    works = {method: work_of(model) for method, model in models.items()}
    _check_length(works[STOCK], cell, settings)
    timings = take_turns(works, settings.rounds, settings.turn_seconds, *_clock(settings, device))
    return _as_seconds(cell, timings)


def _check_length(stock: Work, cell: Cell, settings: BenchmarkConfig) -> None:
    stock()
    started = time.perf_counter()
    stock()
    one = time.perf_counter() - started
    # Every method at most |G| times stock, in each round and in two more for warming up.
    longest = max(one * cell.order, settings.turn_seconds)
    seconds = longest * (settings.rounds + 2) * (1 + len(settings.methods))
    if seconds > settings.cell_seconds:
        raise TooLong(f"about {seconds:.0f} s")


def _subject(method: str, cell: Cell, settings: BenchmarkConfig, device: torch.device) -> Any:
    name = settings.algorithm.name
    continuous = "Discrete" not in ALGORITHMS[name].ACTIONS
    return subject(
        method,
        cell.network,
        symmetry_of_order(cell.order, cell.network == "nature-cnn", continuous),
        cell.batch_size,
        device=str(device),
        algorithm=name,
        compile=settings.compile,
        bf16=settings.bf16,
        device_replay=settings.device_replay,
    )


def _as_seconds(cell: Cell, timings: dict[str, Timing]) -> list[Measurement]:
    return [Measurement(cell, name, "s", t.seconds, t.ratio) for name, t in timings.items()]


def _inverse(spread: Spread, amount: float = 1) -> Spread:
    """Of seconds or their ratio: the speed."""
    return Spread(amount / spread.median, amount / spread.high, amount / spread.low)


def _clock(
    settings: BenchmarkConfig, device: torch.device
) -> tuple[Callable[[], Any], Callable[[], float]]:
    """How to wait for the device, and what tells the time: of one thread that of its computing."""
    if device.type == "cuda":
        return torch.cuda.synchronize, time.perf_counter
    return lambda: None, time.process_time if settings.threads == 1 else time.perf_counter
