"""`EvaluationCallback`: how the return goes along a training, and the best model of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from equirl.agents.training.evaluation import Episodes, Player, play_episodes
from equirl.agents.training.normalised_play import as_trained, save_with_statistics
from equirl.agents.training.periodic_callback import PeriodicCallback
from equirl.runs.atomic_write import written_whole
from equirl.runs.run_directory import RunDirectory

FEWEST_CONFIRMING = 20
"""Episodes that confirm a target return, at the least."""


class Spent(NamedTuple):
    """What a training has cost, its evaluations not counted.

    Args:
        seconds: on the clock.
        cpu_seconds: of the processor, in this process, on all its cores together: the same however
            busy the machine is with other programs.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @classmethod
    def now(cls) -> Spent:
        """Since some fixed time."""
        return cls(time.monotonic(), time.process_time())

    def plus(self, begin: Spent, end: Spent) -> Spent:
        """This and what was spent in between."""
        (a, b), (c, d), (e, f) = self, begin, end
        return Spent(a + e - c, b + f - d)


class Evaluation(NamedTuple):
    """One evaluation."""

    step: int
    episodes: Episodes
    spent: Spent = Spent(float("nan"), float("nan"))  # older checkpoints lack it


class EvaluationCallback(PeriodicCallback):
    """Plays greedy episodes from time to time and keeps the best model.

    An evaluation that reaches the target return may be a lucky one, and the best of many is: the
    training ends only when fresh episodes, at least 20, have that mean return too. Otherwise it
    goes on.

    Behind a `VecNormalize` the episodes are seen through its statistics, which are saved beside the
    best model as ``best_model.vecnormalize.pkl``.

    Writes ``evaluations.npz`` in the format of SB3's `EvalCallback`, with ``seconds`` and
    ``cpu_seconds`` (see `Spent`), and ``best_model.zip``.

    Args:
        make_env: makes one environment.
        folder: where the files go.
        every: environment steps between two evaluations.
        seeds: of the episodes, the same at every evaluation.
        target_return: stop training once an evaluation, and fresh episodes after it, reach this
            mean return.
        versions: other players that can be made of the model at any time, which play the same
            episodes; each gets its ``evaluations_<name>.npz``.
        at_start: evaluate before the first step too.
        confirmation_seed: of the first of the fresh episodes; no two confirmations share one.
    """

    def __init__(
        self,
        make_env: Callable[[], gym.Env[Any, Any]],
        folder: Path,
        every: int,
        seeds: range,
        target_return: float | None = None,
        versions: Mapping[str, Callable[[BaseAlgorithm], Player]] | None = None,
        at_start: bool = False,
        confirmation_seed: int = 3_000_000,
    ) -> None:
        super().__init__(every)
        self.make_env = make_env
        self.files = RunDirectory(folder)
        self.seeds = seeds
        self.target_return = target_return
        self.versions = dict(versions or {})
        self.at_start = at_start
        self.confirmation_seed = confirmation_seed
        self.best_mean_return = -np.inf
        self.history: list[Evaluation] = []
        self.histories: dict[str, list[Evaluation]] = {name: [] for name in self.versions}
        self._spent = Spent()
        self._since = Spent.now()

    @property
    def best_path(self) -> Path:
        """Where the best model is."""
        return self.files.best_model

    def _on_training_start(self) -> None:
        self._since = Spent.now()
        if self.at_start and not self.history:
            self.evaluate()

    def _on_time(self) -> bool:
        mean = self.evaluate()
        if self.target_return is None or mean < self.target_return:
            return True
        return not self._confirms(self.target_return)

    def _confirms(self, target_return: float) -> bool:
        """Whether fresh episodes reach the target return too; the model is the best one then."""
        count = max(len(self.seeds), FEWEST_CONFIRMING)
        # By the evaluation it follows, so that a training that is resumed plays the same ones.
        first = self.confirmation_seed + count * (len(self.history) - 1)
        with self._stopped_clock():
            player = as_trained(self.model, self.model)
            episodes = play_episodes(player, self.make_env, range(first, first + count))
            self.logger.record("eval/confirmation_mean_reward", episodes.mean)
            if episodes.mean < target_return:
                return False
            save_with_statistics(self.model, self.files.best_model)  # not an earlier, lucky one
        return True

    def evaluate(self) -> float:
        """Plays the episodes now; returns their mean return."""
        with self._stopped_clock():
            episodes = self._play("", self.model, self.history)
            for name, version in self.versions.items():
                self._play(f"/{name}", version(self.model), self.histories[name])
            self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
            self.logger.dump(self.num_timesteps)
            if episodes.mean > self.best_mean_return:
                self.best_mean_return = episodes.mean
                save_with_statistics(self.model, self.files.best_model)
            # After the model: whoever reads of a best evaluation finds the best model there.
            _write(self.history, self.files.evaluations)
            for name, history in self.histories.items():
                _write(history, self.files.version_evaluations(name))
        return episodes.mean

    def _play(self, tag: str, player: Player, history: list[Evaluation]) -> Episodes:
        episodes = play_episodes(as_trained(player, self.model), self.make_env, self.seeds)
        history.append(Evaluation(self.num_timesteps, episodes, self._spent))
        self.logger.record(f"eval{tag}/mean_reward", episodes.mean)
        self.logger.record(f"eval{tag}/mean_ep_length", float(episodes.lengths.mean()))
        if episodes.successes is not None:
            self.logger.record(f"eval{tag}/success_rate", float(episodes.successes.mean()))
        return episodes

    @contextmanager
    def _stopped_clock(self) -> Iterator[None]:
        self._spent = self._spent.plus(self._since, Spent.now())
        yield
        self._since = Spent.now()

    def state(self) -> dict[str, Any]:
        """See `PeriodicCallback`."""
        return {
            **super().state(),
            "history": self.history,
            "histories": self.histories,
            "best": self.best_mean_return,
            "spent": self._spent.plus(self._since, Spent.now()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `PeriodicCallback`. A better model saved after the checkpoint stays the best one."""
        super().restore(state)
        self.history = [Evaluation(*row) for row in state["history"]]
        self.histories |= {name: list(rows) for name, rows in state.get("histories", {}).items()}
        self.best_mean_return = state["best"]
        self._spent = state.get("spent", Spent())
        if self.files.evaluations.exists() and self.files.best_model.exists():
            with np.load(self.files.evaluations) as written:
                best = float(written["results"].mean(axis=1).max())
            self.best_mean_return = max(self.best_mean_return, best)


def _write(history: list[Evaluation], path: Path) -> None:
    columns: dict[str, Any] = {
        "timesteps": np.array([evaluation.step for evaluation in history]),
        "results": np.stack([evaluation.episodes.returns for evaluation in history]),
        "ep_lengths": np.stack([evaluation.episodes.lengths for evaluation in history]),
        "seconds": np.array([evaluation.spent.seconds for evaluation in history]),
        "cpu_seconds": np.array([evaluation.spent.cpu_seconds for evaluation in history]),
    }
    successes = [e.episodes.successes for e in history if e.episodes.successes is not None]
    if len(successes) == len(history):
        columns["successes"] = np.stack(successes)
    with written_whole(path) as aside:
        np.savez(aside, **columns)
