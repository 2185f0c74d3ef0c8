"""`EquivariantMaskablePPO`: PPO that is told which actions are allowed: ``equirl[contrib]``."""

from __future__ import annotations

from typing import ClassVar

from sb3_contrib import MaskablePPO
from stable_baselines3.common.policies import BasePolicy

from equirl.agents.actor_critic.maskable import (
    EquivariantMaskableActorCriticCnnPolicy,
    EquivariantMaskableActorCriticPolicy,
    EquivariantMaskableMultiInputActorCriticPolicy,
)
from equirl.agents.actor_critic.relaxing import RelaxingOnPolicy
from equirl.agents.equivariant_algorithm import EquivariantAlgorithm


class EquivariantMaskablePPO(EquivariantAlgorithm, RelaxingOnPolicy, MaskablePPO):
    """MaskablePPO with π(ga | gs, gm) = π(a | s, m), see `EquivariantMaskableActorCriticPolicy`.

    Training is sb3-contrib's own; only the policy differs, and what ``method="relaxed"`` adds, see
    `RelaxingOnPolicy`.

    Args:
        args: see `EquivariantAlgorithm`, which raises what it says.
        kwargs: everything that `sb3_contrib.MaskablePPO` takes, which checks the names.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": EquivariantMaskableActorCriticPolicy,
        "CnnPolicy": EquivariantMaskableActorCriticCnnPolicy,
        "MultiInputPolicy": EquivariantMaskableMultiInputActorCriticPolicy,
    }

    equivariant_policy = EquivariantMaskableActorCriticPolicy
