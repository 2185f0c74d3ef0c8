"""Callbacks for SB3's `learn`: what equivariance looks like in TensorBoard, evaluation, saving."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from equirl.agents.evaluation import Episodes, play_episodes
from equirl.agents.policies import EquivariantQNetwork
from equirl.verification import equivariance_error

MAX_ELEMENTS_SHOWN = 48
"""Larger groups get no curve per element."""


def save_atomically(model: BaseAlgorithm, path: Path) -> None:
    """Save a model so that ``path`` holds either the old file or the whole new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.stem}.writing.zip")
    try:
        model.save(aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


class PeriodicCallback(BaseCallback):
    """Does something whenever that many environment steps have been taken since the last time.

    Args:
        every: environment steps between two times; training that goes on counts anew.
    """

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every
        self._next = every

    def _init_callback(self) -> None:
        self._next = self.model.num_timesteps + self.every

    def _on_step(self) -> bool:
        if self.num_timesteps < self._next:
            return True
        self._next = self.num_timesteps + self.every
        return self._on_time()

    @abstractmethod
    def _on_time(self) -> bool:
        """What is done; False stops the training."""


class EquivarianceCallback(PeriodicCallback):
    """Records under ``equirl/`` what the symmetrization does, measured on a replayed batch.

    - ``equivariance_error``: max |Q(gs, ga) − Q(s, a)| of the symmetrized Q-function: rounding.
    - ``orbit_disagreement``: standard deviation of g⁻¹Q(gs) over g, mean over states and actions:
      how far the network itself is from being equivariant.
    - ``weight_entropy``: entropy of w_g(s) over log |G|: 1 for equitune, 0 for one chosen element.
    - ``chosen/<g>``: mean weight of each group element.
    - ``lambda_inverse_temperature``: β of `lambda`.

    Changes nothing of the training, random numbers included. Does nothing for a plain policy.

    Args:
        every: environment steps between two measurements.
        batch_size: number of replayed states.
    """

    def __init__(self, every: int = 1000, batch_size: int = 64) -> None:
        super().__init__(every)
        self.batch_size = batch_size

    def _on_time(self) -> bool:
        self._record()
        return True

    def _record(self) -> None:
        q_net = getattr(self.model, "q_net", None)
        buffer = getattr(self.model, "replay_buffer", None)
        if not isinstance(q_net, EquivariantQNetwork) or buffer is None or buffer.size() == 0:
            return
        # SB3's buffers draw from NumPy's global state (NPY002): leave it as training would find it.
        random_state = np.random.get_state()  # noqa: NPY002
        observations = buffer.sample(
            self.batch_size, env=self.model.get_vec_normalize_env()
        ).observations
        np.random.set_state(random_state)  # noqa: NPY002
        training = q_net.training
        q_net.set_training_mode(False)
        for name, value in equivariance_metrics(q_net, observations).items():
            self.logger.record(f"equirl/{name}", value)
        q_net.set_training_mode(training)


@torch.no_grad()
def equivariance_metrics(q_net: EquivariantQNetwork, observations: Any) -> dict[str, float]:
    """The numbers that `EquivarianceCallback` records, for a batch of observations."""
    symmetrized = q_net.symmetrized
    branches = symmetrized.branches(observations)
    weights = branches.weights
    group = symmetrized.input_action.group
    metrics = {
        "equivariance_error": equivariance_error(
            q_net, symmetrized.input_action, symmetrized.output_action, observations
        ),
        "orbit_disagreement": float(branches.values.std(dim=0, correction=0).mean()),
    }
    if group.order > 1:
        entropy = -torch.special.xlogy(weights, weights).sum(dim=0).mean()
        metrics["weight_entropy"] = float(entropy / np.log(group.order))
    if group.order <= MAX_ELEMENTS_SHOWN:
        for name, weight in zip(group.names, weights.mean(dim=1).tolist(), strict=True):
            metrics[f"chosen/{name}"] = weight
    if symmetrized.weighting is not None:
        metrics["lambda_inverse_temperature"] = float(symmetrized.weighting.beta)
    return metrics


class EvaluationCallback(PeriodicCallback):
    """Plays greedy episodes from time to time and keeps the best model.

    Writes ``evaluations.npz`` in the format of SB3's `EvalCallback` and ``best_model.zip``.

    Args:
        make_env: makes one environment.
        folder: where the files go.
        every: environment steps between two evaluations.
        seeds: of the episodes, the same at every evaluation.
        target_return: stop training once an evaluation reaches this mean return.
    """

    def __init__(
        self,
        make_env: Callable[[], gym.Env[Any, Any]],
        folder: Path,
        every: int,
        seeds: range,
        target_return: float | None = None,
    ) -> None:
        super().__init__(every)
        self.make_env = make_env
        self.folder = folder
        self.seeds = seeds
        self.target_return = target_return
        self.best_mean_return = -np.inf
        self.history: list[tuple[int, Episodes]] = []

    @property
    def best_path(self) -> Path:
        """Where the best model is."""
        return self.folder / "best_model.zip"

    def _on_time(self) -> bool:
        mean = self.evaluate()
        return self.target_return is None or mean < self.target_return

    def evaluate(self) -> float:
        """Plays the episodes now; returns their mean return."""
        episodes = play_episodes(self.model, self.make_env, self.seeds)
        self.history.append((self.num_timesteps, episodes))
        self.logger.record("eval/mean_reward", episodes.mean)
        self.logger.record("eval/mean_ep_length", float(episodes.lengths.mean()))
        if episodes.successes is not None:
            self.logger.record("eval/success_rate", float(episodes.successes.mean()))
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)
        self._write_history()
        if episodes.mean > self.best_mean_return:
            self.best_mean_return = episodes.mean
            save_atomically(self.model, self.best_path)
        return episodes.mean

    def _write_history(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / ".evaluations.writing.npz"
        columns: dict[str, Any] = {
            "timesteps": np.array([step for step, _ in self.history]),
            "results": np.stack([episodes.returns for _, episodes in self.history]),
            "ep_lengths": np.stack([episodes.lengths for _, episodes in self.history]),
        }
        successes = [e.successes for _, e in self.history if e.successes is not None]
        if len(successes) == len(self.history):
            columns["successes"] = np.stack(successes)
        np.savez(aside, **columns)
        aside.replace(self.folder / "evaluations.npz")


class CheckpointCallback(PeriodicCallback):
    """Saves the model from time to time, written aside and renamed; keeps the last two.

    Args:
        folder: where the checkpoints go, as ``step_<n>.zip``.
        every: environment steps between two checkpoints.
    """

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(every)
        self.folder = folder

    def _on_time(self) -> bool:
        save_atomically(self.model, self.folder / f"step_{self.num_timesteps}.zip")
        for old in self._by_age()[:-2]:
            old.unlink()
        return True

    def _by_age(self) -> list[Path]:
        return sorted(self.folder.glob("step_*.zip"), key=lambda path: int(path.stem[5:]))
