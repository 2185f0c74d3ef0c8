"""`MirrorLossPPO` and `MirrorLossA2C`: plain agents with a penalty on their asymmetry."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, PyTorchObs
from torch import Tensor

from equirl.agents.baselines.mirror_loss import MIRROR_WEIGHT
from equirl.agents.policy_spaces import for_policy
from equirl.agents.vec_normalize import check_normalization
from equirl.envs import symmetry_of
from equirl.envs.registry import Declaration
from equirl.saved_symmetry import from_json, to_json
from equirl.symmetry import Symmetry


class MirrorLossOnPolicy(OnPolicyAlgorithm):
    """An on-policy algorithm with stock networks, whose loss is that of SB3 plus

        c · mean over s of |π(gs) − gπ(s)|² + (V(gs) − V(s))²,

    each state s of the minibatch with a random g ≠ e, π the mean of the Gaussian or the logits, and
    |·|² the mean over their entries: the mirror loss of Yu, Turk & Liu 2018 (arXiv 1801.08093),
    with a term for the critic. The symmetry is learned, and so approximate. With the trivial group,
    or c = 0, it is the SB3 class, bit for bit.

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

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        *,
        symmetry: Symmetry | Declaration | None = None,
        mirror_weight: float = MIRROR_WEIGHT,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(policy, env, _init_setup_model=False, **kwargs)
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

    def train(self) -> None:
        """See the SB3 class, which computes the loss; the mirror loss comes with its values."""
        if self.mirror_weight <= 0 or self.symmetry.group.order == 1:
            super().train()
            return
        losses: list[Tensor] = []
        evaluate: Any = self.policy.evaluate_actions

        def evaluate_actions(obs: PyTorchObs, actions: Tensor) -> Any:
            values, *others = evaluate(obs, actions)
            loss = self.mirror_weight * self.mirror_loss(obs)
            losses.append(loss.detach())
            return WithLoss.apply(values, loss), *others  # type: ignore[no-untyped-call]

        vars(self.policy)["evaluate_actions"] = evaluate_actions
        try:
            super().train()
        finally:
            del vars(self.policy)["evaluate_actions"]
        self.logger.record("train/mirror_loss", float(torch.stack(losses).mean()))

    def mirror_loss(self, observations: PyTorchObs) -> Tensor:
        """mean |π(gs) − gπ(s)|² + (V(gs) − V(s))², each s with a random g ≠ e; a scalar."""
        parameters, values = plain_outputs(self.policy, observations)
        # From the global state (NPY002), which SB3 seeds and from which its buffers draw as well.
        elements = np.random.randint(1, self.symmetry.group.order, size=len(values))  # noqa: NPY002
        g = torch.from_numpy(elements).to(values.device)
        moved = self.symmetry.observations.move_each(g, observations)
        moved_parameters, moved_values = plain_outputs(self.policy, moved)
        back = self._output_action.pull_back_each(g, moved_parameters)
        return F.mse_loss(back, parameters) + F.mse_loss(moved_values, values)

    @property
    def _output_action(self) -> Any:
        if not isinstance(self.action_space, spaces.Box):
            return self.symmetry.action_logits
        squashed = self.policy.squash_output
        return self.symmetry.scaled_actions if squashed else self.symmetry.action_means


class MirrorLossPPO(MirrorLossOnPolicy, PPO):
    """PPO with stock networks and the loss of `MirrorLossOnPolicy`, which has the arguments.

    Example:
        >>> model = MirrorLossPPO("MlpPolicy", "CartPole-v1", n_steps=64, device="cpu").learn(64)
    """


class MirrorLossA2C(MirrorLossOnPolicy, A2C):
    """A2C with stock networks and the loss of `MirrorLossOnPolicy`, which has the arguments.

    Example:
        >>> model = MirrorLossA2C("MlpPolicy", "CartPole-v1", device="cpu").learn(64)
    """


class WithLoss(torch.autograd.Function):
    """x, and a scalar loss that is added to whatever loss is computed from x.

    The gradient of x passes as it comes; that of the loss is 1. So a term is added where code that
    is not ours sums the loss up.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Tensor) -> Tensor:
        """``x``."""
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, Tensor]:
        """The slope of x, and 1."""
        (slope,) = slopes
        return slope, torch.ones((), dtype=slope.dtype, device=slope.device)


def plain_outputs(policy: Any, obs: PyTorchObs) -> tuple[Tensor, Tensor]:
    """Logits or means ``[batch, parameters]``, and V, ``[batch, 1]``, of an `ActorCriticPolicy`."""
    features = policy.extract_features(obs)
    if policy.share_features_extractor:
        of_actor, of_critic = policy.mlp_extractor(features)
    else:
        of_actor = policy.mlp_extractor.forward_actor(features[0])
        of_critic = policy.mlp_extractor.forward_critic(features[1])
    return policy.action_net(of_actor), policy.value_net(of_critic)
