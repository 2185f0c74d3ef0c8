"""Deep Q-learning: the training step, and `EquivariantDQN`, which finds the symmetry itself."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from equirl.agents.dqn.policies import (
    EquivariantCnnPolicy,
    EquivariantDQNPolicy,
    EquivariantMultiInputPolicy,
    EquivariantQNetwork,
)
from equirl.agents.equivariant_algorithm import EquivariantAlgorithm
from equirl.agents.native.native_policies import NativeEquivariantPolicy
from equirl.agents.relaxed_loss import relaxed_loss
from equirl.agents.shortcuts.arithmetic import FasterArithmetic
from equirl.agents.shortcuts.training import may_take_shortcuts, take_steps
from equirl.errors import AgentError, MethodError
from equirl.symmetrize import RelaxedWeighting, shared_among_best


class DoubleDQN(DQN):
    """SB3's DQN with the target of Double DQN, and with hooks: override `targets` or `loss`.

    The online network chooses the action that the target network values, against the
    over-estimation of max_a Q⁻(s', a) (van Hasselt et al. 2016, arXiv 1509.06461).

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

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """See `DQN`."""
        if self.trains_as_stock:
            super().train(gradient_steps, batch_size)
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses = self._take_steps(gradient_steps, batch_size)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if losses:
            self.logger.record("train/loss", float(torch.stack(losses).mean()))

    def _take_steps(self, count: int, batch_size: int) -> list[Tensor]:
        """``count`` training steps, each on a minibatch of its own; their losses."""
        assert self.replay_buffer is not None
        losses = []
        for _ in range(count):
            sample = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            targets = self.targets(sample)  # y = r + γⁿ max_a Q⁻(s', a)
            loss = self.loss(sample, targets)  # L(θ) = mean of Huber(Q(s, a) − y)
            self.policy.optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()  # θ ← θ − α · Adam(∇L(θ))
            losses.append(loss.detach())
        return losses

    @torch.no_grad()
    def targets(self, sample: ReplayBufferSamples) -> Tensor:
        """y = r + γⁿ max_a Q⁻(s', a), or with ``double_q`` r + γⁿ Q⁻(s', argmax_a Q(s', a)).

        Args:
            sample: a minibatch, or several of them one after the other.

        Returns:
            What Q(s, a) is drawn towards, ``[batch, 1]``.
        """
        discounts = self.gamma if sample.discounts is None else sample.discounts
        following = self.q_net_target(sample.next_observations)
        if self.double_q:
            value = value_of_best(self.q_net(sample.next_observations), following)
        else:
            value = following.amax(dim=1, keepdim=True)
        return sample.rewards + (1 - sample.dones) * discounts * value.to(sample.rewards.dtype)

    def loss(self, sample: ReplayBufferSamples, targets: Tensor) -> Tensor:
        """The Huber loss of the temporal-difference error Q(s, a) − y, a scalar."""
        q_values = self.q_net(sample.observations).gather(1, sample.actions.long())
        return F.smooth_l1_loss(q_values.to(targets.dtype), targets)

    @property
    def trains_as_stock(self) -> bool:
        """Whether targets and loss are those of `DQN`, whose own code then trains."""
        return not self.double_q and self.has_standard_loss

    @property
    def has_standard_loss(self) -> bool:
        """Whether `targets` and `loss` are those of this module, not overridden."""
        ours = (DoubleDQN, EquivariantDQN)
        return all(
            getattr(type(self), name) in [getattr(each, name) for each in ours]
            and isinstance(vars(self).get(name, None), (FasterArithmetic, type(None)))
            for name in ("targets", "loss")
        )

    def _setup_model(self) -> None:
        of_buffer = self.replay_buffer_kwargs
        if self.replay_buffer_class is NStepReplayBuffer and (
            of_buffer.get("n_steps"),
            of_buffer.get("gamma"),
        ) == (self.n_steps, self.gamma):
            # As SB3 chose it before saving. Given a class it would warn that n_steps is ignored.
            self.replay_buffer_class = None
        super()._setup_model()


def value_of_best(choosing: Tensor, valuing: Tensor) -> Tensor:
    """What one Q-function holds of the action that another thinks best, ``[batch, 1]``.

    Where that one has several best actions, as in a state that a symmetry fixes, it is their mean:
    any choice between them would break the symmetry.

    Args:
        choosing: ``[batch, actions]``.
        valuing: ``[batch, actions]``.
    """
    shares = shared_among_best(choosing.t(), choosing.abs().amax(dim=1))
    return (shares.t() * valuing).sum(dim=1, keepdim=True)


class EquivariantDQN(EquivariantAlgorithm, DoubleDQN):
    """Deep Q-learning with a Q-function that has the symmetry of the task exactly.

    Training is SB3's own up to rounding; only the Q-network and its target differ, see
    `EquivariantDQNPolicy`. With the trivial group it is SB3's own bit for bit.

    Args:
        policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, or a policy class.
        env: the environment, or its id.
        method: how the orbit is weighed; this, ``symmetry`` and the options of the method as
            `EquivariantAlgorithm` takes them.
        compile: training steps through `torch.compile`, with CUDA graphs on a GPU. The first ones
            take some seconds to a minute; on a CPU it needs a C++ compiler.
        bf16: the networks in training in bfloat16 (`torch.autocast`), for large ones on a GPU.
        double_q: the target of `DoubleDQN`.
        kwargs: everything else that `stable_baselines3.DQN` takes, which checks the names.

    Example:
        >>> model = EquivariantDQN("MlpPolicy", "CartPole-v1", method="equizero", buffer_size=1000)
        >>> model.symmetry.group.names
        ('e', 'mirror')
    """

    q_net: EquivariantQNetwork
    q_net_target: EquivariantQNetwork

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": EquivariantDQNPolicy,
        "CnnPolicy": EquivariantCnnPolicy,
        "MultiInputPolicy": EquivariantMultiInputPolicy,
    }

    equivariant_policy = EquivariantDQNPolicy

    def __init__(
        self,
        *args: Any,
        compile: bool = False,
        bf16: bool = False,
        double_q: bool = False,
        **kwargs: Any,
    ) -> None:
        self.compile = compile
        self.bf16 = bf16
        super().__init__(*args, double_q=double_q, **kwargs)

    @property
    def trains_as_stock(self) -> bool:
        """See `DoubleDQN`."""
        return super().trains_as_stock and self.symmetry.group.order == 1

    def loss(self, sample: ReplayBufferSamples, targets: Tensor) -> Tensor:
        """That of `DoubleDQN`; of ``method="relaxed"`` see `relaxed_loss`."""
        if isinstance(self.q_net.symmetrized.weighting, RelaxedWeighting):
            return relaxed_loss(self, sample, targets)
        return super().loss(sample, targets)

    def _take_steps(self, count: int, batch_size: int) -> list[Tensor]:
        if may_take_shortcuts(self):
            return take_steps(self, count, batch_size)
        return super()._take_steps(count, batch_size)

    def _create_aliases(self) -> None:
        super()._create_aliases()
        if (self.compile or self.bf16) and self.symmetry.group.order > 1:
            if isinstance(self.q_net.symmetrized.weighting, RelaxedWeighting):
                raise MethodError("compile and bf16 are not for method=relaxed: leave them out")
            for name in ("targets", "loss"):
                vars(self)[name] = FasterArithmetic(self, name)

    def _excluded_save_params(self) -> list[str]:
        made = [name for name, own in vars(self).items() if isinstance(own, FasterArithmetic)]
        return [*super()._excluded_save_params(), *made]

    def _setup_model(self) -> None:
        if issubclass(self.policy_class, NativeEquivariantPolicy):
            raise AgentError(
                f"{self.policy_class.__name__} is equivariant by its own layers: train it with DQN"
            )
        super()._setup_model()
