"""`EquivariantTRPO`: Trust Region Policy Optimization, equivariant: ``equirl[contrib]``."""

from __future__ import annotations

from typing import ClassVar

from sb3_contrib import TRPO
from stable_baselines3.common.policies import BasePolicy

from equirl.agents.actor_critic.policies import POLICY_ALIASES, EquivariantActorCriticPolicy
from equirl.agents.equivariant_algorithm import EquivariantAlgorithm


class EquivariantTRPO(EquivariantAlgorithm, TRPO):
    """TRPO with π(ga | gs) = π(a | s) and V(gs) = V(s), see `EquivariantActorCriticPolicy`.

    Training is sb3-contrib's own; only the policy differs.

    Args:
        args: see `EquivariantAlgorithm`, which raises what it says.
        kwargs: everything that `sb3_contrib.TRPO` takes, which checks the names.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = POLICY_ALIASES
    equivariant_policy = EquivariantActorCriticPolicy
    relaxes = False
