"""Quantile-regression DQN: `EquivariantQRDQN`, which finds the symmetry itself."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from sb3_contrib import QRDQN
from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from equirl.agents.equivariant_algorithm import EquivariantAlgorithm
from equirl.agents.gradient_steps import overrides
from equirl.agents.qrdqn.policies import (
    EquivariantQRDQNCnnPolicy,
    EquivariantQRDQNMultiInputPolicy,
    EquivariantQRDQNPolicy,
)
from equirl.agents.relaxed_loss import newest_transitions, relaxed_weighting, with_newest
from equirl.symmetrize import relaxation

HOOKS = ("targets", "loss")


class EquivariantQRDQN(EquivariantAlgorithm, QRDQN):
    """QR-DQN (arXiv 1710.10044) with a policy that has the symmetry of the task exactly.

    Training is sb3-contrib's own code, unless `targets` or `loss` is overridden; only the quantile
    network and its target differ, see `EquivariantQRDQNPolicy`. With the trivial group it is
    sb3-contrib's own bit for bit. Of ``method="relaxed"`` there is one α(s) for all actions; see
    `relaxed_loss`.

    Args:
        args: see `EquivariantAlgorithm`, which raises what it says.
        kwargs: see there, and everything that `QRDQN` takes.

    Example:
        >>> model = EquivariantQRDQN("MlpPolicy", "CartPole-v1", "equizero", buffer_size=1000)
        >>> model.symmetry.group.names
        ('e', 'mirror')
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": EquivariantQRDQNPolicy,
        "CnnPolicy": EquivariantQRDQNCnnPolicy,
        "MultiInputPolicy": EquivariantQRDQNMultiInputPolicy,
    }
    equivariant_policy = EquivariantQRDQNPolicy

    quantile_net: Any
    quantile_net_target: Any
    replay_buffer: Any

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """See `QRDQN`, whose own code it is unless the method is ``relaxed`` or a hook changed."""
        relaxes = relaxed_weighting(self.quantile_net) is not None
        if not relaxes and not overrides(self, EquivariantQRDQN, HOOKS):
            super().train(gradient_steps, batch_size)
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses = []
        for _ in range(gradient_steps):
            sample = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            loss = self.relaxed_loss(sample) if relaxes else self.loss(sample)
            losses.append(loss.item())
            self.policy.optimizer.zero_grad()
            torch.autograd.backward(loss)
            if self.max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))

    @torch.no_grad()
    def targets(self, sample: ReplayBufferSamples) -> Tensor:
        """r + γⁿ z of the quantiles z of the best action of s', ``[batch, quantiles]``."""
        discounts = self.gamma if sample.discounts is None else sample.discounts
        following = self.quantile_net_target(sample.next_observations)
        best = following.mean(dim=1).argmax(dim=1, keepdim=True)
        return sample.rewards + (1 - sample.dones) * discounts * _of_actions(following, best)

    def loss(self, sample: ReplayBufferSamples) -> Tensor:
        """The quantile Huber loss of Z(s, a) and the targets, a scalar."""
        targets = self.targets(sample)
        taken = _of_actions(self.quantile_net(sample.observations), sample.actions)
        loss: Tensor = quantile_huber_loss(taken, targets, sum_over_quantiles=True)
        return loss

    def relaxed_loss(self, sample: ReplayBufferSamples) -> Tensor:
        """The loss of sb3-contrib of Z_R and of the plain Z, and the loss of α, a scalar.

        α(s) learns which of the *means* of Z_G(s, a) and Z(s, a) predicts the mean of the targets
        better, on the newest transitions (see `equirl.agents.relaxed_loss`).

        Args:
            sample: a minibatch.
        """
        symmetrized, count = self.quantile_net.symmetrized, len(sample.actions)
        newest = newest_transitions(self, count)
        observations, actions = with_newest(sample, newest)
        parts = relaxation(symmetrized, observations)
        value, symmetric, plain = (
            _of_actions(z, actions) for z in (parts.value, parts.symmetric, parts.plain)
        )
        targets = self.targets(sample)
        of_alpha: Tensor = symmetrized.weighting.loss(
            [p[count:] for p in parts.candidates],
            symmetric[count:].mean(dim=1),
            plain[count:].mean(dim=1),
            self.targets(newest).mean(dim=1),
        )
        of_both = [
            quantile_huber_loss(z[:count], targets, sum_over_quantiles=True) for z in (value, plain)
        ]
        return sum(of_both, of_alpha)


def _of_actions(quantiles: Tensor, actions: Tensor) -> Tensor:
    """The quantiles of one action each, ``[batch, quantiles, actions] -> [batch, quantiles]``."""
    chosen = actions.long()[:, None].expand(-1, quantiles.shape[1], -1)
    return quantiles.gather(2, chosen).squeeze(2)
