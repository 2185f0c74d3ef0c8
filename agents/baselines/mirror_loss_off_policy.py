"""`MirrorLossSAC` and `MirrorLossTD3`: plain agents with a penalty on their asymmetry."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from stable_baselines3 import SAC
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from equirl.agents.baselines.mirror_loss import MirrorLoss
from equirl.agents.equivariance_metrics import error_alone, value_error_alone
from equirl.agents.sac.sac import SoftActorCritic
from equirl.agents.symmetrized_critic import StatesAndActions
from equirl.agents.td3.td3 import TwinDelayed


class MirrorLossOffPolicy(MirrorLoss):
    """An actor-critic algorithm with stock networks, whose losses are those of SB3 plus

        c · mean |π(gs) − gπ(s)|²  (actor),    c · mean (Q_i(gs, ga) − Q_i(s, a))²  (critics),

    each state s of the minibatch with a random g ≠ e, π the (squashed) mean action, see
    `MirrorLoss`, which has the arguments. Stands before a class with the hooks ``critic_loss`` and
    ``actor_loss``.
    """

    actor: Any
    critic: Any

    @property
    def trains_as_stock(self) -> bool:
        """Whether SB3's own code trains."""
        return not self.mirrors

    def critic_loss(self, sample: ReplayBufferSamples, *arguments: Any) -> Tensor:
        """The critics' loss, and their mirror loss."""
        following: Any = super()
        loss: Tensor = following.critic_loss(sample, *arguments)
        g, moved = self.moved(sample.observations, len(sample.actions))
        actions = self.symmetry.scaled_actions.move_each(g, sample.actions)
        here = torch.cat(self.critic(sample.observations, sample.actions), dim=1)
        there = torch.cat(self.critic(moved, actions), dim=1)
        return loss + self.mirror_weight * F.mse_loss(there, here)

    def actor_loss(self, sample: ReplayBufferSamples, *arguments: Any) -> Tensor:
        """The actor's loss, and its mirror loss."""
        following: Any = super()
        loss: Tensor = following.actor_loss(sample, *arguments)
        g, moved = self.moved(sample.observations, len(sample.actions))
        there = self.symmetry.scaled_actions.pull_back_each(g, self.mean_actions(moved))
        return loss + self.mirror_weight * F.mse_loss(there, self.mean_actions(sample.observations))

    def equivariance_metrics(self, observations: Any) -> dict[str, float]:
        """What `EquivarianceCallback` records: what asymmetry there still is."""
        symmetry = self.symmetry
        points = StatesAndActions(symmetry.observations, symmetry.scaled_actions)

        def q_values(x: Any) -> Tensor:
            return torch.cat(self.critic(*points.split(x)), dim=1)

        with torch.no_grad():
            at = points.join(observations, self.mean_actions(observations))
        return {
            **error_alone(
                self.mean_actions, symmetry.observations, symmetry.scaled_actions, observations
            ),
            **value_error_alone(q_values, points.group_action, at),
        }

    @abstractmethod
    def mean_actions(self, observations: Any) -> Tensor:
        """π(s), ``[batch, actions]`` in -1 … 1."""


class MirrorLossSAC(MirrorLossOffPolicy, SoftActorCritic, SAC):
    """SAC with stock networks and the losses of `MirrorLossOffPolicy`, which has the arguments.

    Example:
        >>> mirror = {"mirror": ([1, -1, -1], [-1])}
        >>> model = MirrorLossSAC("MlpPolicy", "Pendulum-v1", symmetry=mirror, buffer_size=1000)
    """

    def mean_actions(self, observations: Any) -> Tensor:
        """See `MirrorLossOffPolicy`."""
        means: Tensor = self.actor.get_action_dist_params(observations)[0]
        return means.tanh()


class MirrorLossTD3(MirrorLossOffPolicy, TwinDelayed):
    """TD3 with stock networks and the losses of `MirrorLossOffPolicy`, which has the arguments.

    Example:
        >>> mirror = {"mirror": ([1, -1, -1], [-1])}
        >>> model = MirrorLossTD3("MlpPolicy", "Pendulum-v1", symmetry=mirror, buffer_size=1000)
    """

    def mean_actions(self, observations: Any) -> Tensor:
        """See `MirrorLossOffPolicy`."""
        actions: Tensor = self.actor(observations)
        return actions
