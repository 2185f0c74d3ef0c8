"""`EquivariantPPO`: Proximal Policy Optimization with a policy that has the symmetry exactly."""

from __future__ import annotations

from typing import ClassVar

from stable_baselines3 import PPO
from stable_baselines3.common.policies import BasePolicy

from equirl.agents.actor_critic.policies import POLICY_ALIASES, EquivariantActorCriticPolicy
from equirl.agents.actor_critic.relaxing import RelaxingOnPolicy
from equirl.agents.equivariant_algorithm import EquivariantAlgorithm


class EquivariantPPO(EquivariantAlgorithm, RelaxingOnPolicy, PPO):
    """PPO with π(ga | gs) = π(a | s) and V(gs) = V(s), see `EquivariantActorCriticPolicy`.

    Training is SB3's own; only the policy differs, and what ``method="relaxed"`` adds, see
    `RelaxingOnPolicy`.

    Args:
        args: see `EquivariantAlgorithm`, which raises what it says.
        kwargs: everything that `stable_baselines3.PPO` takes, which checks the names.

    Example:
        >>> model = EquivariantPPO("MlpPolicy", "CartPole-v1", method="equizero", device="cpu")
        >>> model.symmetry.group.names
        ('e', 'mirror')
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = POLICY_ALIASES
    equivariant_policy = EquivariantActorCriticPolicy
