"""`MirrorLossSAC` and `MirrorLossTD3`: plain agents with a penalty on their asymmetry."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from stable_baselines3 import SAC
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, ReplayBufferSamples
from torch import Tensor

from equirl.agents.baselines.mirror_loss import MIRROR_WEIGHT
from equirl.agents.policy_spaces import for_policy
from equirl.agents.sac.sac import SoftActorCritic
from equirl.agents.td3.td3 import TwinDelayed
from equirl.agents.vec_normalize import check_normalization
from equirl.envs import symmetry_of
from equirl.envs.registry import Declaration
from equirl.saved_symmetry import from_json, to_json
from equirl.symmetry import Symmetry


class MirrorLossOffPolicy(OffPolicyAlgorithm):
    """An actor-critic algorithm with stock networks, whose losses are those of SB3 plus

        c · mean |π(gs) − gπ(s)|²  (actor),    c · mean (Q_i(gs, ga) − Q_i(s, a))²  (critics),

    each state s of the minibatch with a random g ≠ e, π the (squashed) mean action: the mirror loss
    of Yu, Turk & Liu 2018 (arXiv 1801.08093), with a term for the critics. The symmetry is learned,
    and so approximate. With the trivial group, or c = 0, it is the SB3 class, bit for bit.

    A saved agent is a plain one: SB3's own class reads it, equirl or not.

    Args:
        policy: as the SB3 class takes it.
        env: the environment, or its id.
        symmetry: a `Symmetry` or generators; None finds the environment's own (`symmetry_of`).
        mirror_weight: c.
        kwargs: everything else that the SB3 class takes, which checks the names.

    Raises:
        SymmetryError: the environment's symmetry is not known or does not fit.
    """

    actor: Any
    critic: Any

    def __init__(
        self,
        policy: str | type[BasePolicy],
        env: GymEnv | str,
        *,
        symmetry: Symmetry | Declaration | None = None,
        mirror_weight: float = MIRROR_WEIGHT,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        arguments: dict[str, Any] = {"_init_setup_model": False, **kwargs}
        super().__init__(policy, env, **arguments)
        self.mirror_weight = mirror_weight
        if not _init_setup_model:  # being loaded: mirror_symmetry follows
            return
        assert self.env is not None
        self.mirror_symmetry = to_json(symmetry_of(self.env, symmetry))
        self._setup_model()

    def _setup_model(self) -> None:
        symmetry = from_json(self.mirror_symmetry)
        check_normalization(self.env, symmetry)
        super()._setup_model()
        self.symmetry = for_policy(symmetry, self.observation_space)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """See `BaseAlgorithm`.

        Raises:
            SymmetryError: the environment normalises observations by plain `VecNormalize`.
        """
        check_normalization(env, from_json(self.mirror_symmetry))
        super().set_env(env, force_reset)

    def _excluded_save_params(self) -> list[str]:
        # Its pickle would need equirl; mirror_symmetry says the same in plain data.
        return [*super()._excluded_save_params(), "symmetry"]

    @property
    def trains_as_stock(self) -> bool:
        """Whether SB3's own code trains."""
        return self.mirror_weight <= 0 or self.symmetry.group.order == 1

    def critic_loss(self, sample: ReplayBufferSamples, *arguments: Any) -> Tensor:
        """The critics' loss, and their mirror loss."""
        loss: Tensor = super().critic_loss(sample, *arguments)  # type: ignore[misc]
        g, moved = self._moved(sample)
        actions = self.symmetry.scaled_actions.move_each(g, sample.actions)
        here = torch.cat(self.critic(sample.observations, sample.actions), dim=1)
        there = torch.cat(self.critic(moved, actions), dim=1)
        return loss + self.mirror_weight * F.mse_loss(there, here)

    def actor_loss(self, sample: ReplayBufferSamples, *arguments: Any) -> Tensor:
        """The actor's loss, and its mirror loss."""
        loss: Tensor = super().actor_loss(sample, *arguments)  # type: ignore[misc]
        g, moved = self._moved(sample)
        there = self.symmetry.scaled_actions.pull_back_each(g, self.mean_actions(moved))
        return loss + self.mirror_weight * F.mse_loss(there, self.mean_actions(sample.observations))

    def mean_actions(self, observations: Any) -> Tensor:
        """π(s), ``[batch, actions]`` in -1 … 1."""
        raise NotImplementedError

    def _moved(self, sample: ReplayBufferSamples) -> tuple[Tensor, Any]:
        # From the global state (NPY002), which SB3 seeds and from which its buffers draw as well.
        order, size = self.symmetry.group.order, len(sample.actions)
        elements = np.random.randint(1, order, size=size)  # noqa: NPY002
        g = torch.from_numpy(elements).to(sample.actions.device)
        return g, self.symmetry.observations.move_each(g, sample.observations)


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
