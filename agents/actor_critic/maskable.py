"""`EquivariantMaskableActorCriticPolicy`, for sb3-contrib's `MaskablePPO`: ``equirl[contrib]``."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from sb3_contrib.common.maskable.distributions import MaskableDistribution
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from equirl.actions import GroupAction, output_actions
from equirl.agents.actor_critic.symmetrized_actor_critic import SymmetrizedActorCritic
from equirl.agents.features import ForDicts, ForImages


class EquivariantMaskableActorCriticPolicy(SymmetrizedActorCritic, MaskableActorCriticPolicy):
    """`MaskableActorCriticPolicy` with an equivariant actor and an invariant critic.

    A mask m says which actions are allowed at s; it is laid over the symmetrized logits at s. At gs
    the allowed actions are those of gm, and π(ga | gs, gm) = π(a | s, m).

    Args:
        args: what `MaskableActorCriticPolicy` takes.
        kwargs: ``symmetry``, the method and its options, see `SymmetrizationArguments`, and
            everything else `MaskableActorCriticPolicy` takes.

    Raises:
        SymmetryError: the symmetry does not fit the observations or actions.
        MethodError: the method is not known or cannot be used here.

    Example:
        >>> import gymnasium as gym
        >>> from sb3_contrib import MaskablePPO
        >>> from equirl.envs import SymmetryWrapper
        >>> env = SymmetryWrapper(gym.make("CartPole-v1"))
        >>> kwargs = dict(symmetry=env.symmetry)
        >>> model = MaskablePPO(
        ...     EquivariantMaskableActorCriticPolicy, env, policy_kwargs=kwargs, device="cpu"
        ... )
    """

    def forward(
        self, obs: Tensor, deterministic: bool = False, action_masks: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, ``[batch, *shape]``, V_G(s), ``[batch, 1]``, and log π_G(a | s), ``[batch]``."""
        parameters, values = self.parameters_and_values(obs)
        distribution = self._masked(parameters, action_masks)
        actions = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(actions)
        shape: Any = self.action_space.shape
        return actions.reshape((-1, *shape)), values, log_prob

    def evaluate_actions(
        self, obs: Tensor, actions: Tensor, action_masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """V_G(s), ``[batch, 1]``, log π_G(a | s), ``[batch]``, and the entropy, ``[batch]``."""
        parameters, values = self.parameters_and_values(obs)
        return values, *self.evaluate_parameters(parameters, actions, action_masks)

    def evaluate_parameters(
        self, parameters: Tensor, actions: Tensor, action_masks: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """log π(a | s) and the entropy, each ``[batch]``, of these parameters of π."""
        distribution = self._masked(parameters, action_masks)
        return distribution.log_prob(actions), distribution.entropy()

    def get_distribution(
        self, obs: PyTorchObs, action_masks: np.ndarray | None = None
    ) -> MaskableDistribution:
        """π_G(· | s)."""
        return self._masked(self.parameters_and_values(obs)[0], action_masks)

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """V_G(s), ``[batch, 1]``."""
        return self.parameters_and_values(obs)[1]

    def _masked(self, parameters: Tensor, action_masks: Any) -> MaskableDistribution:
        made: Any = self._distribution(parameters)
        distribution: MaskableDistribution = made
        if action_masks is not None:
            distribution.apply_masking(action_masks)
        return distribution

    def output_action(self) -> GroupAction:
        """See `SymmetrizedActorCritic`."""
        if not isinstance(self.action_space, spaces.MultiBinary):
            return super().output_action()
        # Two logits for each bit, so that either value can be masked.
        bits = spaces.MultiDiscrete([2] * int(np.prod(self.action_space.shape)))
        return output_actions(self.symmetry.actions, bits)["action_logits"]


class EquivariantMaskableActorCriticCnnPolicy(ForImages, EquivariantMaskableActorCriticPolicy):
    """`EquivariantMaskableActorCriticPolicy` for images: NatureCNN unless told otherwise."""


class EquivariantMaskableMultiInputActorCriticPolicy(
    ForDicts, EquivariantMaskableActorCriticPolicy
):
    """`EquivariantMaskableActorCriticPolicy` for dict observations."""
