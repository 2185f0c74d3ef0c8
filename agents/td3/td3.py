"""TD3: the training step, and `EquivariantTD3` and `EquivariantDDPG`, which find the symmetry."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from stable_baselines3 import DDPG, TD3
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import polyak_update
from torch import Tensor

from equirl.agents.equivariant_algorithm import EquivariantAlgorithm
from equirl.agents.gradient_steps import minimize, overrides
from equirl.agents.relaxed_loss import alpha_loss, newest_transitions, relaxes
from equirl.agents.symmetrized_actor import Weighed, critic_values
from equirl.agents.td3.policies import (
    EquivariantTD3CnnPolicy,
    EquivariantTD3MultiInputPolicy,
    EquivariantTD3Policy,
)

HOOKS = ("targets", "critic_loss", "actor_loss")


class TwinDelayed(TD3):
    """SB3's TD3 (arXiv 1802.09477) with hooks: override `targets`, `critic_loss`, `actor_loss`.

    Where nothing is overridden and no symmetry is there to share, SB3's own code trains.
    """

    actor: Any
    actor_target: Any
    critic: Any
    critic_target: Any

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """See `TD3`."""
        if self.trains_as_stock:
            super().train(gradient_steps, batch_size)
            return
        assert self.replay_buffer is not None
        self.policy.set_training_mode(True)
        self._update_learning_rate([self.actor.optimizer, self.critic.optimizer])
        actor_losses, critic_losses = [], []
        for _ in range(gradient_steps):
            self._n_updates += 1
            updates_actor = self._n_updates % self.policy_delay == 0
            sample = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            targets = self.targets(sample)  # y = r + γⁿ min_i Q⁻_i(s', π⁻(s') + noise)
            with torch.set_grad_enabled(updates_actor):
                weighed = self.weigh(self.actor, sample.observations)  # w_g(s), of both below
            critic_loss = self.critic_loss(sample, targets, weighed)  # Σ_i (Q_i(s, a) − y)²
            if relaxes(weighed):
                critic_loss = critic_loss + self.critic_loss(sample, targets, weighed.plain)
            critic_losses.append(minimize(self.critic.optimizer, critic_loss))
            if updates_actor:
                actor_loss = self.actor_loss(sample, weighed)  # −Q_1(s, π(s))
                if relaxes(weighed):
                    actor_loss = actor_loss + self.actor_loss(sample, weighed.plain)
                    newest = newest_transitions(self, batch_size)
                    actor_loss = actor_loss + alpha_loss(self, newest, self.targets(newest))
                actor_losses.append(minimize(self.actor.optimizer, actor_loss))
                self._update_targets()
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, losses in (("actor_loss", actor_losses), ("critic_loss", critic_losses)):
            if losses:
                self.logger.record(f"train/{name}", float(torch.stack(losses).mean()))

    @torch.no_grad()
    def targets(self, sample: ReplayBufferSamples) -> Tensor:
        """y = r + γⁿ min_i Q⁻_i(s', a'), a' = π⁻(s') + clipped noise, ``[batch, 1]``.

        The noise is drawn in the frame of s', whichever branches were chosen there: independent
        entries of one symmetric distribution, exchanged and with other signs, are distributed as
        before, and so the target is equivariant in distribution.
        """
        noise = torch.empty_like(sample.actions).normal_(0, self.target_policy_noise)
        noise = noise.clamp(-self.target_noise_clip, self.target_noise_clip)
        observations = sample.next_observations
        weighed = self.weigh(self.actor_target, observations)
        actions = (self.act(self.actor_target, observations, weighed) + noise).clamp(-1, 1)
        q_values = self.q_values(self.critic_target, observations, actions, weighed)
        discounts = self.gamma if sample.discounts is None else sample.discounts
        value = q_values.amin(dim=1, keepdim=True)
        return sample.rewards + (1 - sample.dones) * discounts * value

    def critic_loss(
        self, sample: ReplayBufferSamples, targets: Tensor, weighed: Weighed | None
    ) -> Tensor:
        """Σ_i (Q_i(s, a) − y)², the mean over the minibatch, a scalar."""
        q_values = self.q_values(self.critic, sample.observations, sample.actions, weighed)
        return q_values.shape[1] * F.mse_loss(q_values, targets.expand_as(q_values))

    def actor_loss(self, sample: ReplayBufferSamples, weighed: Weighed | None) -> Tensor:
        """−Q_1(s, π(s)), the mean over the minibatch, a scalar."""
        actions = self.act(self.actor, sample.observations, weighed)
        return -self.first_q_values(sample.observations, actions, weighed).mean()

    def weigh(self, actor: Any, observations: Any) -> Weighed | None:
        """The weights of each orbit; plain networks have none."""
        return None

    def act(self, actor: Any, observations: Any, weighed: Weighed | None) -> Tensor:
        """π(s), ``[batch, actions]``."""
        actions: Tensor = actor(observations)
        return actions

    def q_values(
        self, critic: Any, observations: Any, actions: Tensor, weighed: Weighed | None
    ) -> Tensor:
        """Q_i(s, a), ``[batch, critics]``."""
        return torch.cat(critic(observations, actions), dim=1)

    def first_q_values(self, observations: Any, actions: Tensor, weighed: Weighed | None) -> Tensor:
        """Q_1(s, a), ``[batch, 1]``."""
        values: Tensor = self.critic.q1_forward(observations, actions)
        return values

    @property
    def trains_as_stock(self) -> bool:
        """Whether SB3's own code may train."""
        return not overrides(self, TwinDelayed, HOOKS)

    def _update_targets(self) -> None:
        polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
        polyak_update(self.actor.parameters(), self.actor_target.parameters(), self.tau)
        polyak_update(self.critic_batch_norm_stats, self.critic_batch_norm_stats_target, 1.0)
        polyak_update(self.actor_batch_norm_stats, self.actor_batch_norm_stats_target, 1.0)


class SharingTwinDelayed(TwinDelayed):
    """`TwinDelayed` whose actor and critics run once on one orbit, and share its weights."""

    @property
    def trains_as_stock(self) -> bool:
        """See `TwinDelayed`."""
        policy: Any = self.policy
        return super().trains_as_stock and policy.symmetry.group.order == 1

    def weigh(self, actor: Any, observations: Any) -> Weighed | None:
        """See `TwinDelayed`."""
        weighed: Weighed = actor.weigh(observations)
        return weighed

    def act(self, actor: Any, observations: Any, weighed: Weighed | None) -> Tensor:
        """See `TwinDelayed`."""
        actions: Tensor = actor(observations, weighed)
        return actions

    def q_values(
        self, critic: Any, observations: Any, actions: Tensor, weighed: Weighed | None
    ) -> Tensor:
        """See `TwinDelayed`."""
        return critic_values(critic, observations, actions, weighed)

    def first_q_values(self, observations: Any, actions: Tensor, weighed: Weighed | None) -> Tensor:
        """See `TwinDelayed`."""
        if weighed is not None and weighed.is_plain:
            return critic_values(self.critic, observations, actions, weighed)[:, :1]
        weights = None if weighed is None else weighed.weights
        values: Tensor = self.critic.q1_forward(observations, actions, weights)
        return values


class EquivariantTD3(EquivariantAlgorithm, SharingTwinDelayed):
    """TD3 with a policy that has the symmetry of the task exactly.

    Training is SB3's own up to rounding; only actor and critics differ, see
    `EquivariantTD3Policy`. With the trivial group it is SB3's own bit for bit.

    Args:
        args: see `EquivariantAlgorithm`, which raises what it says.
        kwargs: see there, and everything that `TD3` takes.

    Example:
        >>> mirror = {"mirror": ([1, -1, -1], [-1])}
        >>> model = EquivariantTD3("MlpPolicy", "Pendulum-v1", "equizero", symmetry=mirror)
        >>> model.symmetry.group.names
        ('e', 'mirror')
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": EquivariantTD3Policy,
        "CnnPolicy": EquivariantTD3CnnPolicy,
        "MultiInputPolicy": EquivariantTD3MultiInputPolicy,
    }
    equivariant_policy = EquivariantTD3Policy


class EquivariantDDPG(EquivariantAlgorithm, DDPG, SharingTwinDelayed):
    """DDPG, which in SB3 is TD3 with one critic, no delay and no noise in its targets.

    Args:
        args: see `EquivariantAlgorithm`, which raises what it says.
        kwargs: see there, and everything that `DDPG` takes.

    Example:
        >>> mirror = {"mirror": ([1, -1, -1], [-1])}
        >>> model = EquivariantDDPG("MlpPolicy", "Pendulum-v1", "canonical", symmetry=mirror)
        >>> model.policy.critic_kwargs["n_critics"]
        1
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = EquivariantTD3.policy_aliases
    equivariant_policy = EquivariantTD3Policy
