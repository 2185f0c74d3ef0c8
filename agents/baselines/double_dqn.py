"""`DoubleDQN`: SB3's DQN with the target of Double DQN, for every method alike."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from stable_baselines3 import DQN
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from equirl.symmetrize.weightings import shared_among_best


class DoubleDQN(DQN):
    """DQN that lets the online network choose the action which the target network values:

        y = r + γⁿ Q⁻(s', argmax_a Q(s', a)),

    against the over-estimation of max_a Q⁻(s', a) (van Hasselt et al. 2016, arXiv 1509.06461).

    Args:
        args: as `DQN` takes them.
        double_q: False gives `DQN` itself, bit for bit.
        kwargs: as `DQN` takes them.

    Example:
        >>> model = DoubleDQN("MlpPolicy", "CartPole-v1", learning_starts=50).learn(100)
    """

    def __init__(self, *args: Any, double_q: bool = True, **kwargs: Any) -> None:
        self.double_q = double_q
        super().__init__(*args, **kwargs)

    @property
    def trains_as_stock(self) -> bool:
        """Whether targets and loss are those of `DQN`."""
        return not self.double_q

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """See `DQN`."""
        if self.trains_as_stock:
            super().train(gradient_steps, batch_size)
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        assert self.replay_buffer is not None
        losses = []
        for _ in range(gradient_steps):
            sample = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            loss = self.loss(sample, self.targets(sample))
            losses.append(loss.detach())
            self.policy.optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if losses:
            self.logger.record("train/loss", float(torch.stack(losses).mean()))

    @torch.no_grad()
    def targets(self, sample: ReplayBufferSamples) -> Tensor:
        """What Q(s, a) is drawn towards, ``[batch, 1]``."""
        discounts = self.gamma if sample.discounts is None else sample.discounts
        following = self.q_net_target(sample.next_observations)
        choosing = self.q_net(sample.next_observations) if self.double_q else following
        return sample.rewards + (1 - sample.dones) * discounts * value_of_best(choosing, following)

    def loss(self, sample: ReplayBufferSamples, targets: Tensor) -> Tensor:
        """The Huber loss of the temporal-difference error."""
        q_values = self.q_net(sample.observations).gather(1, sample.actions.long())
        return F.smooth_l1_loss(q_values, targets)


def value_of_best(choosing: Tensor, valuing: Tensor) -> Tensor:
    """What one Q-function holds of the action that another thinks best.

    Where that one has several best actions, as in a state that a symmetry fixes, it is their mean:
    any choice between them would break the symmetry.

    Args:
        choosing: ``[batch, actions]``.
        valuing: ``[batch, actions]``.

    Returns:
        ``[batch, 1]``.
    """
    shares = shared_among_best(choosing.t(), choosing.abs().amax(dim=1))
    return (shares.t() * valuing).sum(dim=1, keepdim=True)
