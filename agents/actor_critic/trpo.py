"""`EquivariantTRPO`: Trust Region Policy Optimization, equivariant: ``equirl[contrib]``."""

from __future__ import annotations

from typing import ClassVar

from sb3_contrib import TRPO
from stable_baselines3.common.policies import BasePolicy

from equirl.agents.actor_critic.policies import (
    EquivariantActorCriticCnnPolicy,
    EquivariantActorCriticPolicy,
    EquivariantMultiInputActorCriticPolicy,
)
from equirl.agents.equivariant_algorithm import EquivariantAlgorithm


class EquivariantTRPO(EquivariantAlgorithm, TRPO):
    """TRPO with π(ga | gs) = π(a | s) and V(gs) = V(s), see `EquivariantActorCriticPolicy`.

    Training is sb3-contrib's own; only the policy differs.

    Args:
        policy: see `EquivariantAlgorithm`, as ``env``, ``method``, ``symmetry`` and its options.
        kwargs: everything that `sb3_contrib.TRPO` takes, which checks the names.

    Raises:
        SymmetryError: the environment's symmetry is not known or does not fit.
        MethodError: the method or an option of it cannot be used, or gSDE is asked for.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": EquivariantActorCriticPolicy,
        "CnnPolicy": EquivariantActorCriticCnnPolicy,
        "MultiInputPolicy": EquivariantMultiInputActorCriticPolicy,
    }

    equivariant_policy = EquivariantActorCriticPolicy
    relaxes = False
