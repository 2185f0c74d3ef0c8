"""`EquivariantA2C`: Advantage Actor-Critic with a policy that has the symmetry exactly."""

from __future__ import annotations

from typing import ClassVar

from stable_baselines3 import A2C
from stable_baselines3.common.policies import BasePolicy

from equirl.agents.actor_critic.policies import POLICY_ALIASES, EquivariantActorCriticPolicy
from equirl.agents.actor_critic.relaxing import RelaxingOnPolicy
from equirl.agents.equivariant_algorithm import EquivariantAlgorithm


class EquivariantA2C(EquivariantAlgorithm, RelaxingOnPolicy, A2C):
    """A2C with π(ga | gs) = π(a | s) and V(gs) = V(s), see `EquivariantActorCriticPolicy`.

    Training is SB3's own; only the policy differs, and what ``method="relaxed"`` adds, see
    `RelaxingOnPolicy`.

    Args:
        args: see `EquivariantAlgorithm`, which raises what it says.
        kwargs: everything that `stable_baselines3.A2C` takes, which checks the names.

    Example:
        >>> model = EquivariantA2C("MlpPolicy", "CartPole-v1", method="equizero", device="cpu")
        >>> model.symmetry.group.names
        ('e', 'mirror')
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = POLICY_ALIASES
    equivariant_policy = EquivariantActorCriticPolicy
