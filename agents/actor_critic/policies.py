"""Actor-critic policies whose distribution of actions is equivariant and whose value is invariant.

π(ga | gs) = π(a | s) and V(gs) = V(s), for stock `PPO`, `A2C` and sb3-contrib's `TRPO`, and for
`EquivariantPPO` and `EquivariantA2C`.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution, StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from equirl.actions import GroupAction
from equirl.agents.actor_critic.symmetrized_actor_critic import SymmetrizedActorCritic
from equirl.agents.features import ForDicts, ForImages
from equirl.agents.gradient_steps import overrides
from equirl.agents.shortcuts.drawing import drawn_of_few, evaluated
from equirl.errors import MethodError

DRAWING = ("_distribution", "symmetric_log_std")
"""What actions are drawn, and their probabilities computed, by."""


class EquivariantActorCriticPolicy(SymmetrizedActorCritic, ActorCriticPolicy):
    """`ActorCriticPolicy` with an equivariant actor and an invariant critic.

    Args:
        args: what `ActorCriticPolicy` takes: spaces, schedule of learning rates.
        use_sde: gSDE; refused unless the group is trivial, but see ``evaluate_only``.
        evaluate_only: for an agent that was trained with gSDE: its deterministic actions are the
            symmetrized ones, and it is not trained on.
        kwargs: ``symmetry``, the method and its options, see `SymmetrizationArguments`, and
            everything else `ActorCriticPolicy` takes (net_arch, activation_fn, …).

    Raises:
        SymmetryError: the symmetry does not fit the observations or actions.
        MethodError: the method is not known or cannot be used here, or gSDE is asked for.

    Example:
        >>> import gymnasium as gym
        >>> from stable_baselines3 import PPO
        >>> from equirl.envs import SymmetryWrapper
        >>> env = SymmetryWrapper(gym.make("CartPole-v1"))
        >>> kwargs = dict(symmetry=env.symmetry, method="equizero")
        >>> model = PPO(EquivariantActorCriticPolicy, env, policy_kwargs=kwargs, device="cpu")
    """

    def __init__(
        self, *args: Any, use_sde: bool = False, evaluate_only: bool = False, **kwargs: Any
    ) -> None:
        self.evaluate_only = evaluate_only
        super().__init__(*args, use_sde=use_sde, **kwargs)
        if use_sde and not evaluate_only and not self._is_parent:
            _refuse_sde()

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, ``[batch, *shape]``, V_G(s), ``[batch, 1]``, and log π_G(a | s), ``[batch]``."""
        if self._is_parent:
            return super().forward(obs, deterministic)
        parameters, values = self.parameters_and_values(obs)
        shape: Any = self.action_space.shape
        if not overrides(self, EquivariantActorCriticPolicy, DRAWING):
            few = drawn_of_few(self, parameters, deterministic)
            if few is not None:
                return few[0].reshape((-1, *shape)), values, few[1]
        distribution = self._distribution(parameters)
        actions = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(actions)
        return actions.reshape((-1, *shape)), values, log_prob

    def evaluate_actions(
        self, obs: PyTorchObs, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """V_G(s), ``[batch, 1]``, log π_G(a | s), ``[batch]``, and the entropy, ``[batch]``."""
        if self._is_parent:
            return super().evaluate_actions(obs, actions)
        parameters, values = self.parameters_and_values(obs)
        return values, *self.evaluate_parameters(parameters, actions)

    def evaluate_parameters(
        self, parameters: Tensor, actions: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """log π(a | s) and the entropy, each ``[batch]``, of these parameters of π."""
        if not overrides(self, EquivariantActorCriticPolicy, DRAWING):
            found = evaluated(self, parameters, actions)
            if found is not None:
                return found
        distribution = self._distribution(parameters)
        return distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        """π_G(· | s)."""
        if self._is_parent:
            return super().get_distribution(obs)
        return self._distribution(self.parameters_and_values(obs)[0])

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """V_G(s), ``[batch, 1]``."""
        if self._is_parent:
            return super().predict_values(obs)
        return self.parameters_and_values(obs)[1]

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        if not self.use_sde or self._is_parent:
            return super()._predict(observation, deterministic)
        if not deterministic:
            _refuse_sde()
        mean = self.parameters_and_values(observation)[0]
        return torch.tanh(mean) if self.squash_output else mean

    def _distribution(self, parameters: Tensor) -> Distribution:
        if isinstance(self.action_dist, StateDependentNoiseDistribution):
            _refuse_sde()
        return super()._distribution(parameters)

    def output_action(self) -> GroupAction:
        """See `SymmetrizedActorCritic`."""
        if isinstance(self.action_space, spaces.Box) and self.squash_output:
            return self.symmetry.scaled_actions  # what is squashed to -1 … 1 later
        return super().output_action()

    def reset_noise(self, n_envs: int = 1) -> None:
        """See `ActorCriticPolicy`, which calls it before it trains with gSDE.

        Raises:
            MethodError: the group is not trivial.
        """
        if not self._is_parent:
            _refuse_sde()
        super().reset_noise(n_envs)

    @property
    def _is_parent(self) -> bool:
        """Whether there is no symmetry, so that `ActorCriticPolicy` itself computes all."""
        return bool(self.symmetrized.order == 1)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "evaluate_only": self.evaluate_only}

    def __dir__(self) -> list[str]:
        # torch.jit.trace takes hold of everything that is listed here.
        names: list[str] = super().__dir__()  # type: ignore[no-untyped-call]  # torch's own
        return [name for name in names if name != "lstm_actor"]

    @property
    def lstm_actor(self) -> NoReturn:
        """What `RecurrentPPO` asks for.

        Raises:
            MethodError: always.
        """
        raise MethodError(
            "RecurrentPPO is not made equivariant: the state of its LSTM would have to be moved by "
            "the group as well; stack frames instead (VecFrameStack) and use EquivariantPPO"
        )


class EquivariantActorCriticCnnPolicy(ForImages, EquivariantActorCriticPolicy):
    """`EquivariantActorCriticPolicy` for images: NatureCNN unless told otherwise."""


class EquivariantMultiInputActorCriticPolicy(ForDicts, EquivariantActorCriticPolicy):
    """`EquivariantActorCriticPolicy` for dict observations."""


POLICY_ALIASES: dict[str, type[BasePolicy]] = {
    "MlpPolicy": EquivariantActorCriticPolicy,
    "CnnPolicy": EquivariantActorCriticCnnPolicy,
    "MultiInputPolicy": EquivariantMultiInputActorCriticPolicy,
}
"""Of PPO, A2C and TRPO."""


def _refuse_sde() -> NoReturn:
    raise MethodError(
        "gSDE (use_sde=True) draws its noise from features of s that the group does not move, and "
        "so breaks the symmetry: train without it; agents trained with it are evaluated and "
        "transferred with deterministic actions"
    )
