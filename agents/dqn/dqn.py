"""Deep Q-learning: the training step, and `EquivariantDQN`, which finds the symmetry itself."""

from __future__ import annotations

from io import BufferedIOBase
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, ReplayBufferSamples
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor

from equirl.agents.dqn.policies import (
    EquivariantCnnPolicy,
    EquivariantDQNPolicy,
    EquivariantMultiInputPolicy,
    EquivariantQNetwork,
)
from equirl.agents.native.native_policies import NativeEquivariantPolicy
from equirl.agents.saving.agent_format import check_saved_format, description
from equirl.agents.saving.saved_agent import SYMMETRIZATION, read_agent
from equirl.agents.shortcuts.arithmetic import FasterArithmetic
from equirl.agents.shortcuts.training import may_take_shortcuts, take_steps
from equirl.agents.symmetrized_network import spelled_policy_kwargs
from equirl.agents.vec_normalize import check_normalization
from equirl.envs import Declaration, symmetry_of
from equirl.errors import AgentError
from equirl.symmetrize import Method, shared_among_best
from equirl.symmetry import Symmetry

SelfEquivariantDQN = TypeVar("SelfEquivariantDQN", bound="EquivariantDQN")


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
        """Whether `targets` and `loss` are those of this class, not overridden."""
        return all(
            getattr(type(self), name) is getattr(DoubleDQN, name)
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


class EquivariantDQN(DoubleDQN):
    """Deep Q-learning with a Q-function that has the symmetry of the task exactly.

    Training is SB3's own up to rounding; only the Q-network and its target differ, see
    `EquivariantDQNPolicy`. With the trivial group it is SB3's own bit for bit.

    Args:
        policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, or a policy class.
        env: the environment, or its id.
        method: ``"equitune"``, ``"lambda"``, ``"equizero"`` or ``"canonical"``, or a `Method`; an
            option that it does not heed is refused.
        symmetry: a `Symmetry` or generators; None finds the environment's own (`symmetry_of`).
        gradient: for `equizero` and `canonical`, ``"selected"`` or ``"straight_through"``.
        init: where `lambda` starts, ``"equitune"`` or ``"equizero"``.
        canonical_score: ``"lexicographic"`` or ``"learned"``.
        orbit_samples: for `equitune`: this many random elements of the orbit in the loss, not
            all: it costs less and adds noise; targets and actions see the whole orbit.
        compile: training steps through `torch.compile`, with CUDA graphs on a GPU. The first ones
            take some seconds to a minute; on a CPU it needs a C++ compiler.
        bf16: the networks in training in bfloat16 (`torch.autocast`), for large ones on a GPU.
        double_q: the target of `DoubleDQN`.
        shortcuts: whether to train and act by the quicker code of `equirl.agents.shortcuts` where
            it gives the same numbers up to rounding; never where a hook is overridden.
        policy_kwargs: as for `DQN`; a ``symmetry`` or ``method`` in it counts before the above.
        dqn_kwargs: everything else that `stable_baselines3.DQN` takes, which checks the names.

    Raises:
        SymmetryError: the environment's symmetry is not known or does not fit.
        MethodError: the method is not known, or an option of it is not one.

    Example:
        >>> model = EquivariantDQN("MlpPolicy", "CartPole-v1", method="equizero", buffer_size=1000)
        >>> model.symmetry.group.names
        ('e', 'mirror')
    """

    q_net: EquivariantQNetwork
    q_net_target: EquivariantQNetwork
    shortcuts: bool = True

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": EquivariantDQNPolicy,
        "CnnPolicy": EquivariantCnnPolicy,
        "MultiInputPolicy": EquivariantMultiInputPolicy,
    }

    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: GymEnv | str,
        method: str | Method = "equitune",
        *,
        symmetry: Symmetry | Declaration | None = None,
        gradient: str | None = None,
        init: str | None = None,
        canonical_score: str | None = None,
        orbit_samples: int | None = None,
        compile: bool = False,
        bf16: bool = False,
        double_q: bool = False,
        shortcuts: bool = True,
        policy_kwargs: dict[str, Any] | None = None,
        _init_setup_model: bool = True,
        **dqn_kwargs: Any,
    ) -> None:
        super().__init__(
            policy,
            env,
            double_q=double_q,
            policy_kwargs=policy_kwargs,
            _init_setup_model=False,
            **dqn_kwargs,
        )
        self.compile = compile
        self.bf16 = bf16
        self.shortcuts = shortcuts
        if not _init_setup_model:  # being loaded: policy_kwargs follow
            return
        if self.env is None:
            raise AgentError(
                f"an {type(self).__name__} is built for an environment, got None: give one, or its "
                "id (load and predict go without)"
            )
        self.policy_kwargs = spelled_policy_kwargs(
            method,
            self.policy_kwargs,
            gradient=gradient,
            init=init,
            canonical_score=canonical_score,
            orbit_samples=orbit_samples,
        )
        if "symmetry" not in self.policy_kwargs:
            self.policy_kwargs["symmetry"] = symmetry_of(self.env, symmetry)
        self._setup_model()

    @property
    def symmetry(self) -> Symmetry:
        """The symmetry of the Q-function, as declared on the environment."""
        symmetry: Symmetry = self.q_net.symmetry_args["symmetry"]
        return symmetry

    @property
    def trains_as_stock(self) -> bool:
        """See `DoubleDQN`."""
        return super().trains_as_stock and self.symmetry.group.order == 1

    def _take_steps(self, count: int, batch_size: int) -> list[Tensor]:
        if may_take_shortcuts(self):
            return take_steps(self, count, batch_size)
        return super()._take_steps(count, batch_size)

    def _create_aliases(self) -> None:
        super()._create_aliases()
        self.q_net.shortcuts = self.q_net_target.shortcuts = self.shortcuts
        if (self.compile or self.bf16) and self.symmetry.group.order > 1:
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
        if not issubclass(self.policy_class, EquivariantDQNPolicy):
            raise AgentError(
                f"{self.policy_class.__name__} is a plain policy: EquivariantDQN.from_pretrained("
                "path, env, method=…) makes a saved plain agent equivariant"
            )
        for name in SYMMETRIZATION:
            if name in vars(self):  # where SB3's load puts its keywords
                raise AgentError(
                    f"load keeps the {name} in the file: EquivariantDQN.from_pretrained(path, env, "
                    f"{name}=…) builds an agent with another"
                )
        check_normalization(self.env, self.policy_kwargs.get("symmetry"))
        super()._setup_model()
        vars(self).update(description(self.symmetry))

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """See `DQN`.

        Raises:
            SymmetryError: the environment normalises observations by plain `VecNormalize`.
        """
        check_normalization(env, self.policy_kwargs.get("symmetry"))
        super().set_env(env, force_reset)

    @classmethod
    def load(
        cls: type[SelfEquivariantDQN], path: str | Path | BufferedIOBase, *args: Any, **kwargs: Any
    ) -> SelfEquivariantDQN:
        """See `DQN`, which unpickles parts of the file; needs no environment.

        Raises:
            AgentError: a later version of equirl saved the agent.
        """
        check_saved_format(path)
        return super().load(path, *args, **kwargs)

    @classmethod
    def from_pretrained(
        cls: type[SelfEquivariantDQN],
        path: str | Path,
        env: GymEnv | str,
        method: str | Method = "equitune",
        **kwargs: Any,
    ) -> SelfEquivariantDQN:
        """A plain SB3 DQN agent made equivariant; its weights stay as they are.

        Reads agents of every SB3 version. The network's architecture comes from the weights, the
        hyper-parameters (for training on) from the file, and ``kwargs`` count before both.

        Args:
            path: the agent's ``.zip``.
            env: the environment it was trained for, with a symmetry.
            method: see the class.
            kwargs: everything the class takes.

        Raises:
            AgentError: the file is missing, damaged, not a plain DQN agent, made for other
                spaces, or uses a class of its own, which must then be given in ``policy_kwargs``:
                nothing in the file is ever unpickled.
            SymmetryError: the environment's symmetry is not known.
        """
        agent = read_agent(path)
        if agent.is_native:
            raise AgentError(f"{path} is equivariant by its layers already: give a plain agent")
        return agent.build(cls, env, method=method, **kwargs)
