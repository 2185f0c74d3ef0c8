"""`MirrorLossDQN`: plain DQN with a penalty on the asymmetry of its Q-function."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from equirl.agents.baselines.mirror_loss import MirrorLoss
from equirl.agents.dqn import DoubleDQN
from equirl.agents.equivariance_metrics import error_alone


class MirrorLossDQN(MirrorLoss, DoubleDQN):
    """DQN with stock networks and the loss

        L = L_TD + c · mean over s, a of (Q(gs, ga) − Q(s, a))²,

    each state s of the minibatch with a random g ≠ e, see `MirrorLoss`.

    Args:
        args: see `MirrorLoss`.
        double_q: see `DoubleDQN`.
        kwargs: see `MirrorLoss`.

    Raises:
        SymmetryError: the environment's symmetry is not known or does not fit.

    Example:
        >>> model = MirrorLossDQN("MlpPolicy", "CartPole-v1", learning_starts=50).learn(100)
    """

    def __init__(self, *args: Any, double_q: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, double_q=double_q, **kwargs)

    def equivariance_metrics(self, observations: Any) -> dict[str, float]:
        """What `EquivarianceCallback` records: what asymmetry there still is."""
        symmetry = self.symmetry
        return error_alone(self.q_net, symmetry.observations, symmetry.q_values, observations)

    def loss(self, sample: ReplayBufferSamples, targets: Tensor) -> Tensor:
        """The Huber loss of the temporal-difference error, and the mirror loss."""
        if not self.mirrors:
            return super().loss(sample, targets)
        q_values = self.q_net(sample.observations)
        td_loss = F.smooth_l1_loss(q_values.gather(1, sample.actions.long()), targets)
        g, moved = self.moved(sample.observations, len(q_values))
        back = self.symmetry.q_values.pull_back_each(g, self.q_net(moved))
        return td_loss + self.mirror_weight * F.mse_loss(back, q_values)
