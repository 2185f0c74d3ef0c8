"""Soft actor-critic: the training step, and `EquivariantSAC`, which finds the symmetry itself."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from stable_baselines3 import SAC
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.utils import polyak_update
from torch import Tensor

from equirl.agents.equivariant_algorithm import EquivariantAlgorithm
from equirl.agents.gradient_steps import minimize, overrides
from equirl.agents.relaxed_loss import alpha_loss, newest_transitions, relaxes
from equirl.agents.sac.policies import (
    EquivariantSACCnnPolicy,
    EquivariantSACMultiInputPolicy,
    EquivariantSACPolicy,
)
from equirl.agents.symmetrized_actor import Weighed, critic_values

HOOKS = ("targets", "critic_loss", "actor_loss")


class SoftActorCritic(OffPolicyAlgorithm):
    """The training step of SAC, arXiv 1812.05905, with hooks; stands before SAC, or TQC.

    Override `targets`, `critic_loss` or `actor_loss`. Where nothing is overridden and no symmetry
    is there to share, the class that follows trains by its own code.
    """

    policy: Any
    use_sde: bool
    actor: Any
    critic: Any
    critic_target: Any
    ent_coef_optimizer: Any
    log_ent_coef: Any
    ent_coef_tensor: Any
    batch_norm_stats: Any
    batch_norm_stats_target: Any
    target_entropy: Any
    target_update_interval: int

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """See `SAC`."""
        if self.trains_as_stock:
            super().train(gradient_steps, batch_size)
            return
        assert self.replay_buffer is not None
        self.policy.set_training_mode(True)
        optimizers = [self.actor.optimizer, self.critic.optimizer, self.ent_coef_optimizer]
        self._update_learning_rate([each for each in optimizers if each is not None])
        logged: list[dict[str, Tensor]] = []
        for step in range(gradient_steps):
            sample = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            if self.use_sde:
                self.actor.reset_noise()
            weighed = self.weigh(sample.observations)  # w_g(s), shared by actor and critics
            actions, log_prob = self.act(sample.observations, weighed)  # a ~ π(s), log π(a | s)
            alpha, losses = self._entropy_coefficient(log_prob)
            targets = self.targets(sample, alpha)  # y = r + γⁿ (min_i Q⁻_i(s', a') − α log π(a'))
            critic_loss = self.critic_loss(sample, targets, weighed)  # Σ_i ½ (Q_i(s, a) − y)²
            if relaxes(weighed):
                critic_loss = critic_loss + self.critic_loss(sample, targets, weighed.plain)
            losses["critic_loss"] = minimize(self.critic.optimizer, critic_loss)
            actor_loss = self.actor_loss(sample, actions, log_prob, alpha, weighed)
            if relaxes(weighed):
                drawn = self.act(sample.observations, weighed.plain)
                actor_loss = actor_loss + self.actor_loss(sample, *drawn, alpha, weighed.plain)
                newest = newest_transitions(self, batch_size)
                actor_loss = actor_loss + alpha_loss(self, newest, self.targets(newest, alpha))
            losses["actor_loss"] = minimize(self.actor.optimizer, actor_loss)  # α log π − min_i Q_i
            if step % self.target_update_interval == 0:
                self._update_target()
            logged.append(losses)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name in logged[0] if logged else ():
            mean = torch.stack([losses[name] for losses in logged]).mean()
            self.logger.record(f"train/{name}", float(mean))

    @torch.no_grad()
    def targets(self, sample: ReplayBufferSamples, alpha: Tensor) -> Tensor:
        """y = r + γⁿ (min_i Q⁻_i(s', a') − α log π(a' | s')) with a' ~ π(s'), ``[batch, 1]``.

        Args:
            sample: a minibatch.
            alpha: the entropy coefficient α.
        """
        observations = sample.next_observations
        weighed = self.weigh(observations)
        actions, log_prob = self.act(observations, weighed)
        q_values = self.q_values(self.critic_target, observations, actions, weighed)
        value = q_values.amin(dim=1, keepdim=True) - alpha * log_prob
        discounts = self.gamma if sample.discounts is None else sample.discounts
        return sample.rewards + (1 - sample.dones) * discounts * value

    def critic_loss(
        self, sample: ReplayBufferSamples, targets: Tensor, weighed: Weighed | None
    ) -> Tensor:
        """Σ_i ½ (Q_i(s, a) − y)², the mean over the minibatch, a scalar."""
        q_values = self.q_values(self.critic, sample.observations, sample.actions, weighed)
        return 0.5 * q_values.shape[1] * F.mse_loss(q_values, targets.expand_as(q_values))

    def actor_loss(
        self,
        sample: ReplayBufferSamples,
        actions: Tensor,
        log_prob: Tensor,
        alpha: Tensor,
        weighed: Weighed | None,
    ) -> Tensor:
        """α log π(a | s) − min_i Q_i(s, a), the mean over the minibatch, a scalar.

        Args:
            sample: a minibatch.
            actions: a ~ π(s), with a graph, ``[batch, actions]``.
            log_prob: log π(a | s), ``[batch, 1]``.
            alpha: the entropy coefficient α.
            weighed: what `weigh` gave for s.
        """
        q_values = self.q_values(self.critic, sample.observations, actions, weighed)
        return (alpha * log_prob - q_values.amin(dim=1, keepdim=True)).mean()

    def weigh(self, observations: Any) -> Weighed | None:
        """The weights of each orbit; plain networks have none."""
        return None

    def act(self, observations: Any, weighed: Weighed | None) -> tuple[Tensor, Tensor]:
        """a ~ π(s), ``[batch, actions]``, and log π(a | s), ``[batch, 1]``."""
        actions, log_prob = self.actor.action_log_prob(observations)
        return actions, log_prob.reshape(-1, 1)

    def q_values(
        self, critic: Any, observations: Any, actions: Tensor, weighed: Weighed | None
    ) -> Tensor:
        """Q_i(s, a), ``[batch, critics]``."""
        return torch.cat(critic(observations, actions), dim=1)

    @property
    def trains_as_stock(self) -> bool:
        """Whether the class that follows may train by its own code."""
        return not overrides(self, SoftActorCritic, HOOKS)

    def _entropy_coefficient(self, log_prob: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """α, before one step towards the target entropy where it is learned; and what to log."""
        if self.ent_coef_optimizer is None:
            return self.ent_coef_tensor, {"ent_coef": self.ent_coef_tensor}
        alpha = self.log_ent_coef.detach().exp()
        loss = -(self.log_ent_coef * (log_prob.detach() + self.target_entropy)).mean()
        return alpha, {
            "ent_coef": alpha[0],
            "ent_coef_loss": minimize(self.ent_coef_optimizer, loss),
        }

    def _update_target(self) -> None:
        polyak_update(self.critic.parameters(), self.critic_target.parameters(), self.tau)
        polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)


class SharingSoftActorCritic(SoftActorCritic):
    """`SoftActorCritic` whose actor and critics run once on one orbit, and share its weights."""

    @property
    def trains_as_stock(self) -> bool:
        """See `SoftActorCritic`."""
        return super().trains_as_stock and self.policy.symmetry.group.order == 1

    def weigh(self, observations: Any) -> Weighed | None:
        """See `SoftActorCritic`."""
        weighed: Weighed = self.actor.weigh(observations)
        return weighed

    def act(self, observations: Any, weighed: Weighed | None) -> tuple[Tensor, Tensor]:
        """See `SoftActorCritic`."""
        actions, log_prob = self.actor.action_log_prob(observations, weighed)
        return actions, log_prob.reshape(-1, 1)

    def q_values(
        self, critic: Any, observations: Any, actions: Tensor, weighed: Weighed | None
    ) -> Tensor:
        """See `SoftActorCritic`."""
        return critic_values(critic, observations, actions, weighed)


class EquivariantSAC(EquivariantAlgorithm, SharingSoftActorCritic, SAC):
    """Soft actor-critic with a policy that has the symmetry of the task exactly.

    Training is SB3's own up to rounding; only actor and critics differ, see
    `EquivariantSACPolicy`. With the trivial group it is SB3's own bit for bit.

    Args:
        args: see `EquivariantAlgorithm`, which raises what it says.
        kwargs: see there, and everything that `SAC` takes.

    Raises:
        SymmetryError: the environment's symmetry is not known or does not fit.
        MethodError: the method is not known, or an option of it is not one.
        AgentError: gSDE.

    Example:
        >>> mirror = {"mirror": ([1, -1, -1], [-1])}
        >>> model = EquivariantSAC("MlpPolicy", "Pendulum-v1", "equizero", symmetry=mirror)
        >>> model.symmetry.group.names
        ('e', 'mirror')
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": EquivariantSACPolicy,
        "CnnPolicy": EquivariantSACCnnPolicy,
        "MultiInputPolicy": EquivariantSACMultiInputPolicy,
    }
    equivariant_policy = EquivariantSACPolicy
