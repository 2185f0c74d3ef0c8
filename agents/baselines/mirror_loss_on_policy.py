"""`MirrorLossPPO` and `MirrorLossA2C`: plain agents with a penalty on their asymmetry."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from equirl.agents.baselines.mirror_loss import MirrorLoss
from equirl.agents.equivariance_metrics import error_alone, value_error_alone
from equirl.agents.gradient_steps import WithLoss


class MirrorLossOnPolicy(MirrorLoss, OnPolicyAlgorithm):
    """An on-policy algorithm with stock networks, whose loss is that of SB3 plus

        c · mean over s of |π(gs) − gπ(s)|² + (V(gs) − V(s))²,

    each state s of the minibatch with a random g ≠ e, π the mean of the Gaussian or the logits, and
    |·|² the mean over their entries, see `MirrorLoss`, which has the arguments.
    """

    def train(self) -> None:
        """See the SB3 class, which computes the loss; the mirror loss comes with its values."""
        if not self.mirrors:
            super().train()
            return
        losses: list[Tensor] = []
        evaluate: Any = self.policy.evaluate_actions

        def evaluate_actions(obs: PyTorchObs, actions: Tensor) -> Any:
            values, *others = evaluate(obs, actions)
            loss = self.mirror_weight * self.mirror_loss(obs)
            losses.append(loss.detach())
            with_loss = WithLoss.apply(values, loss)  # type: ignore[no-untyped-call]  # torch's own
            return with_loss, *others

        vars(self.policy)["evaluate_actions"] = evaluate_actions
        try:
            super().train()
        finally:
            del vars(self.policy)["evaluate_actions"]
        self.logger.record("train/mirror_loss", float(torch.stack(losses).mean()))

    def mirror_loss(self, observations: PyTorchObs) -> Tensor:
        """mean |π(gs) − gπ(s)|² + (V(gs) − V(s))², each s with a random g ≠ e; a scalar."""
        parameters, values = plain_outputs(self.policy, observations)
        g, moved = self.moved(observations, len(values))
        moved_parameters, moved_values = plain_outputs(self.policy, moved)
        back = self._output_action.pull_back_each(g, moved_parameters)
        return F.mse_loss(back, parameters) + F.mse_loss(moved_values, values)

    def equivariance_metrics(self, observations: PyTorchObs) -> dict[str, float]:
        """What `EquivarianceCallback` records: what asymmetry there still is."""
        moves = self.symmetry.observations

        def parameters(obs: PyTorchObs) -> Tensor:
            return plain_outputs(self.policy, obs)[0]

        def values(obs: PyTorchObs) -> Tensor:
            return plain_outputs(self.policy, obs)[1]

        return {
            **error_alone(parameters, moves, self._output_action, observations),
            **value_error_alone(values, moves, observations),
        }

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


def plain_outputs(policy: Any, obs: PyTorchObs) -> tuple[Tensor, Tensor]:
    """Logits or means ``[batch, parameters]``, and V, ``[batch, 1]``, of an `ActorCriticPolicy`."""
    features = policy.extract_features(obs)
    if policy.share_features_extractor:
        of_actor, of_critic = policy.mlp_extractor(features)
    else:
        of_actor = policy.mlp_extractor.forward_actor(features[0])
        of_critic = policy.mlp_extractor.forward_critic(features[1])
    return policy.action_net(of_actor), policy.value_net(of_critic)
