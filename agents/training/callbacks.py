"""`EquivarianceCallback`: what equivariance looks like in TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from equirl.agents.equivariance_metrics import alphas
from equirl.agents.training.periodic_callback import PeriodicCallback


class EquivarianceCallback(PeriodicCallback):
    """Records under ``equirl/`` what the symmetrization does, measured on a replayed batch.

    - ``equivariance_error``: max |Q(gs, ga) − Q(s, a)|: rounding; of an agent with a mirror loss,
      what it has left. Of this and of `NativeEquivariantPolicy` no more than errors is recorded.
    - ``orbit_disagreement``: standard deviation of g⁻¹Q(gs) over g, mean over states and actions:
      how far the network itself is from being equivariant.
    - ``value_equivariance_error``, ``value_orbit_disagreement``: the same of V(s) (PPO, A2C, TRPO)
      or of every critic's Q(s, π(s)) (SAC, TD3, DDPG, TQC). The two above are then of the actor:
      of the parameters of its distribution, or of its action where it has none.
    - ``weight_entropy``: entropy of w_g(s) over log |G|: 1 for equitune, 0 for one chosen element.
    - ``chosen/<g>``: mean weight of each group element.
    - ``lambda_inverse_temperature``: β of `lambda`.
    - ``alpha_mean``, and ``alpha`` as a histogram: how much of the symmetry `relaxed` lets go of;
      its ``equivariance_error`` is what that leaves. ``alpha_by_action``, of DQN: 1 while each
      action has an α of its own, and 0 while one is of all.

    On-policy algorithms measure on a batch of the last rollout. Changes nothing of the training,
    random numbers included. What there is to record a policy, or an algorithm, says itself, by a
    method ``equivariance_metrics(observations)``.

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
        metrics = _metrics_of(self.model)
        observations = None if metrics is None else self._observations()
        if metrics is None or observations is None:
            return
        training = self.model.policy.training
        self.model.policy.set_training_mode(False)
        for name, value in metrics(observations).items():
            self.logger.record(f"equirl/{name}", value)
        alpha = alphas(self.model, observations)
        if alpha is not None:
            self.logger.record("equirl/alpha_mean", float(alpha.mean()))
            self.logger.record("equirl/alpha", alpha, exclude=("stdout", "log", "csv", "json"))
        self.model.policy.set_training_mode(training)

    def _observations(self) -> Any:
        """A batch of what the agent has seen, None before it has seen anything."""
        if isinstance(self.model, OnPolicyAlgorithm):
            return _last_of_rollout(self.model.rollout_buffer, self.batch_size)
        buffer = getattr(self.model, "replay_buffer", None)
        if buffer is None or buffer.size() == 0:
            return None
        # SB3's buffers draw from NumPy's global state (NPY002): leave it as training would find it.
        random_state = np.random.get_state()  # noqa: NPY002
        env = self.model.get_vec_normalize_env()
        observations = buffer.sample(self.batch_size, env=env).observations
        np.random.set_state(random_state)  # noqa: NPY002  # as above
        return observations


def _last_of_rollout(buffer: RolloutBuffer, count: int) -> Any:
    """The observations of the last steps of a rollout that is being collected."""
    if buffer.pos == 0:
        return None

    def last(stored: Any) -> torch.Tensor:
        rows = stored[: buffer.pos].reshape(-1, *stored.shape[2:])[-count:]
        return torch.as_tensor(rows, device=buffer.device)

    stored = buffer.observations
    if isinstance(stored, dict):
        return {key: last(part) for key, part in stored.items()}
    return last(stored)


def _metrics_of(model: BaseAlgorithm) -> Callable[[Any], dict[str, float]] | None:
    """What can be measured of this model, a function of observations, as it says itself."""
    for teller in (model, model.policy):
        found: Callable[[Any], dict[str, float]] | None = getattr(
            teller, "equivariance_metrics", None
        )
        if found is not None:
            return found
    return None
