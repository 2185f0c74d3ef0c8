"""Truncated quantile critics: `EquivariantTQC`, which finds the symmetry itself."""

from __future__ import annotations

from typing import ClassVar

import torch
from sb3_contrib import TQC
from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from equirl.agents.equivariant_algorithm import EquivariantAlgorithm
from equirl.agents.gradient_steps import overrides
from equirl.agents.sac.sac import HOOKS, SharingSoftActorCritic
from equirl.agents.symmetrized_actor import Weighed
from equirl.agents.tqc.policies import (
    EquivariantTQCCnnPolicy,
    EquivariantTQCMultiInputPolicy,
    EquivariantTQCPolicy,
)


class EquivariantTQC(EquivariantAlgorithm, SharingSoftActorCritic, TQC):
    """TQC (arXiv 2005.04269) with a policy that has the symmetry of the task exactly.

    Training is sb3-contrib's own up to rounding; only actor and critics differ, see
    `EquivariantTQCPolicy`. With the trivial group it is sb3-contrib's own bit for bit.

    Args:
        args: see `EquivariantAlgorithm`, which raises what it says.
        kwargs: see there, and everything that `TQC` takes.

    Raises:
        SymmetryError: the environment's symmetry is not known or does not fit.
        MethodError: the method is not known, or an option of it is not one.
        AgentError: gSDE.

    Example:
        >>> mirror = {"mirror": ([1, -1, -1], [-1])}
        >>> model = EquivariantTQC("MlpPolicy", "Pendulum-v1", "equizero", symmetry=mirror)
        >>> model.symmetry.group.names
        ('e', 'mirror')
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": EquivariantTQCPolicy,
        "CnnPolicy": EquivariantTQCCnnPolicy,
        "MultiInputPolicy": EquivariantTQCMultiInputPolicy,
    }
    equivariant_policy = EquivariantTQCPolicy

    @torch.no_grad()
    def targets(self, sample: ReplayBufferSamples, alpha: Tensor) -> Tensor:
        """r + γⁿ (z − α log π(a' | s')) for the smallest quantiles z at (s', a').

        Args:
            sample: a minibatch.
            alpha: the entropy coefficient α.

        Returns:
            ``[batch, 1, quantiles]``, of all critics together, the largest left out.
        """
        observations = sample.next_observations
        weighed = self.weigh(observations)
        actions, log_prob = self.act(observations, weighed)
        quantiles = self.q_values(self.critic_target, observations, actions, weighed)
        dropped = self.top_quantiles_to_drop_per_net * self.critic.n_critics
        kept = quantiles.flatten(1).sort(dim=1).values[:, : self.critic.quantiles_total - dropped]
        discounts = self.gamma if sample.discounts is None else sample.discounts
        following = (1 - sample.dones) * discounts * (kept - alpha * log_prob)
        return (sample.rewards + following).unsqueeze(1)

    def critic_loss(
        self, sample: ReplayBufferSamples, targets: Tensor, weighed: Weighed | None
    ) -> Tensor:
        """The quantile Huber loss, a scalar."""
        quantiles = self.q_values(self.critic, sample.observations, sample.actions, weighed)
        return quantile_huber_loss(quantiles, targets, sum_over_quantiles=False)

    def actor_loss(
        self,
        sample: ReplayBufferSamples,
        actions: Tensor,
        log_prob: Tensor,
        alpha: Tensor,
        weighed: Weighed | None,
    ) -> Tensor:
        """α log π(a | s) − the mean of all quantiles at (s, a), a scalar."""
        quantiles = self.q_values(self.critic, sample.observations, actions, weighed)
        value = quantiles.mean(dim=2).mean(dim=1, keepdim=True)
        return (alpha * log_prob - value).mean()

    @property
    def trains_as_stock(self) -> bool:
        """See `SoftActorCritic`."""
        return self.symmetry.group.order == 1 and not overrides(self, EquivariantTQC, HOOKS)
