"""`MirrorLossDQN`: plain DQN with a penalty on the asymmetry of its Q-function."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs, ReplayBufferSamples
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor

from equirl.agents.dqn import DoubleDQN
from equirl.agents.policy_spaces import for_policy
from equirl.agents.vec_normalize import check_normalization
from equirl.envs import Declaration, symmetry_of
from equirl.saved_symmetry import from_json, to_json
from equirl.symmetry import Symmetry

MIRROR_WEIGHT = 1.0


class MirrorLossDQN(DoubleDQN):
    """DQN with stock networks and the loss

        L = L_TD + c · mean over s, a of (Q(gs, ga) − Q(s, a))²,

    each state s of the minibatch with a random g ≠ e: the mirror loss of Yu, Turk & Liu 2018 (arXiv
    1801.08093) and Abdolhosseini et al. 2019 (Motion, Interaction and Games), on Q-values. The
    symmetry is learned, and so approximate. With the trivial group, or c = 0, this is DQN, bit for
    bit.

    A saved agent is a plain one: `stable_baselines3.DQN.load` reads it, equirl or not.

    Args:
        policy: as `DQN` takes it.
        env: the environment, or its id.
        symmetry: a `Symmetry` or generators; None finds the environment's own (`symmetry_of`).
        mirror_weight: c.
        double_q: see `DoubleDQN`.
        dqn_kwargs: everything else that `stable_baselines3.DQN` takes, which checks the names.

    Raises:
        SymmetryError: the environment's symmetry is not known or does not fit.

    Example:
        >>> model = MirrorLossDQN("MlpPolicy", "CartPole-v1", learning_starts=50).learn(100)
    """

    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: GymEnv | str,
        *,
        symmetry: Symmetry | Declaration | None = None,
        mirror_weight: float = MIRROR_WEIGHT,
        double_q: bool = False,
        _init_setup_model: bool = True,
        **dqn_kwargs: Any,
    ) -> None:
        super().__init__(policy, env, double_q=double_q, _init_setup_model=False, **dqn_kwargs)
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
        """See `DQN`.

        Raises:
            SymmetryError: the environment normalises observations by plain `VecNormalize`.
        """
        check_normalization(env, from_json(self.mirror_symmetry))
        super().set_env(env, force_reset)

    def _excluded_save_params(self) -> list[str]:
        # Its pickle would need equirl; mirror_symmetry says the same in plain data.
        return [*super()._excluded_save_params(), "symmetry"]

    @property
    def _mirrors(self) -> bool:
        return self.mirror_weight > 0 and self.symmetry.group.order > 1

    def loss(self, sample: ReplayBufferSamples, targets: Tensor) -> Tensor:
        """The Huber loss of the temporal-difference error, and the mirror loss."""
        if not self._mirrors:
            return super().loss(sample, targets)
        q_values = self.q_net(sample.observations)
        td_loss = F.smooth_l1_loss(q_values.gather(1, sample.actions.long()), targets)
        return td_loss + self.mirror_weight * self._asymmetry(sample.observations, q_values)

    def _asymmetry(self, observations: PyTorchObs, q_values: Tensor) -> Tensor:
        # From the global state (NPY002): SB3 seeds it, and its buffers draw from it.
        elements = np.random.randint(1, self.symmetry.group.order, size=len(q_values))  # noqa: NPY002
        g = torch.from_numpy(elements).to(q_values.device)
        moved = self.q_net(self.symmetry.observations.move_each(g, observations))
        return F.mse_loss(self.symmetry.q_values.pull_back_each(g, moved), q_values)
