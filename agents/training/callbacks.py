"""`EquivarianceCallback`: what equivariance looks like in TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.dqn.policies import QNetwork

from equirl.actions import GroupAction
from equirl.agents.actor_critic.symmetrized_actor_critic import SymmetrizedActorCritic
from equirl.agents.baselines.mirror_loss import MirrorLossDQN
from equirl.agents.dqn import EquivariantQNetwork
from equirl.agents.native.native_policies import NativeEquivariantQNetwork
from equirl.agents.training.periodic_callback import PeriodicCallback
from equirl.symmetrize import RelaxedWeighting, Symmetrized, relaxation
from equirl.symmetry import Symmetry
from equirl.verification import equivariance_error

MAX_ELEMENTS_SHOWN = 48
"""Larger groups get no curve per element."""


class EquivarianceCallback(PeriodicCallback):
    """Records under ``equirl/`` what the symmetrization does, measured on a replayed batch.

    - ``equivariance_error``: max |Q(gs, ga) − Q(s, a)|: rounding; of a `MirrorLossDQN`, what it
      has left. Of this and of `NativeEquivariantPolicy` nothing else is recorded.
    - ``orbit_disagreement``: standard deviation of g⁻¹Q(gs) over g, mean over states and actions:
      how far the network itself is from being equivariant.
    - ``weight_entropy``: entropy of w_g(s) over log |G|: 1 for equitune, 0 for one chosen element.
    - ``chosen/<g>``: mean weight of each group element.
    - ``lambda_inverse_temperature``: β of `lambda`.
    - ``alpha_mean``, and ``alpha`` as a histogram: how much of the symmetry `relaxed` lets go of;
      its ``equivariance_error`` is what that leaves.

    Of an actor and a critic (PPO, A2C), on a batch of the last rollout: ``equivariance_error`` and
    ``orbit_disagreement`` of the parameters of the distribution of actions, and of the value as
    ``value_equivariance_error`` and ``value_orbit_disagreement``.

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
    """What can be measured of this model, a function of observations."""
    if isinstance(model.policy, SymmetrizedActorCritic):
        return partial(actor_critic_metrics, model.policy)
    q_net = getattr(model, "q_net", None)
    if isinstance(q_net, EquivariantQNetwork):
        return partial(equivariance_metrics, q_net)
    if isinstance(q_net, NativeEquivariantQNetwork):
        return partial(_equivariance_error, q_net, q_net.carried)
    if isinstance(model, MirrorLossDQN):
        return partial(_equivariance_error, model.q_net, model.symmetry)
    return None


@torch.no_grad()
def _equivariance_error(q_net: QNetwork, symmetry: Symmetry, observations: Any) -> dict[str, float]:
    error = equivariance_error(q_net, symmetry.observations, symmetry.q_values, observations)
    return {"equivariance_error": error}


@torch.no_grad()
def equivariance_metrics(q_net: EquivariantQNetwork, observations: Any) -> dict[str, float]:
    """The numbers that `EquivarianceCallback` records, for a batch of observations."""
    symmetrized = q_net.symmetrized
    branches = symmetrized.branches(observations)
    metrics = {
        "equivariance_error": equivariance_error(
            q_net, symmetrized.input_action, symmetrized.output_action, observations
        ),
        "orbit_disagreement": _disagreement(branches.values),
    }
    return {**metrics, **_weight_metrics(symmetrized, branches.weights)}


@torch.no_grad()
def actor_critic_metrics(policy: SymmetrizedActorCritic, observations: Any) -> dict[str, float]:
    """The numbers that `EquivarianceCallback` records of an actor and a critic."""
    symmetrized = policy.symmetrized
    group, moves = symmetrized.input_action.group, symmetrized.input_action
    branches = policy.branches(observations)
    of_actor, of_value = policy.output_action(), GroupAction.trivial(group, (1,))
    metrics = {
        "equivariance_error": equivariance_error(
            lambda obs: policy.parameters_and_values(obs)[0], moves, of_actor, observations
        ),
        "value_equivariance_error": equivariance_error(
            lambda obs: policy.parameters_and_values(obs)[1], moves, of_value, observations
        ),
        "orbit_disagreement": _disagreement(branches.values[..., :-1]),
        "value_orbit_disagreement": _disagreement(branches.values[..., -1:]),
    }
    return {**metrics, **_weight_metrics(symmetrized, branches.weights)}


def _disagreement(branches: torch.Tensor) -> float:
    return float(branches.std(dim=0, correction=0).mean())


def _weight_metrics(symmetrized: Symmetrized, weights: torch.Tensor) -> dict[str, float]:
    group, metrics = symmetrized.input_action.group, {}
    if group.order > 1:
        entropy = -torch.special.xlogy(weights, weights).sum(dim=0).mean()
        metrics["weight_entropy"] = float(entropy / np.log(group.order))
    if group.order <= MAX_ELEMENTS_SHOWN:
        for name, weight in zip(group.names, weights.mean(dim=1).tolist(), strict=True):
            metrics[f"chosen/{name}"] = weight
    weighting: Any = symmetrized.weighting
    learned: Any = weighting.inner if isinstance(weighting, RelaxedWeighting) else weighting
    if learned is not None:
        metrics["lambda_inverse_temperature"] = float(learned.beta)
    return metrics


@torch.no_grad()
def alphas(model: BaseAlgorithm, observations: Any) -> torch.Tensor | None:
    """α ``[batch]`` of an agent with ``method="relaxed"``, else None."""
    q_net = getattr(model, "q_net", None)
    if not isinstance(q_net, EquivariantQNetwork):
        return None
    symmetrized = q_net.symmetrized
    if not isinstance(symmetrized.weighting, RelaxedWeighting):
        return None
    return relaxation(symmetrized, observations).alpha
