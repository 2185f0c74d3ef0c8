"""Quantile-regression DQN: `EquivariantQRDQN`, which finds the symmetry itself."""

from __future__ import annotations

from typing import ClassVar

from sb3_contrib import QRDQN
from stable_baselines3.common.policies import BasePolicy

from equirl.agents.equivariant_algorithm import EquivariantAlgorithm
from equirl.agents.qrdqn.policies import (
    EquivariantQRDQNCnnPolicy,
    EquivariantQRDQNMultiInputPolicy,
    EquivariantQRDQNPolicy,
)


class EquivariantQRDQN(EquivariantAlgorithm, QRDQN):
    """QR-DQN (arXiv 1710.10044) with a policy that has the symmetry of the task exactly.

    Training is sb3-contrib's own code; only the quantile network and its target differ, see
    `EquivariantQRDQNPolicy`. With the trivial group it is sb3-contrib's own bit for bit.

    Args:
        args: see `EquivariantAlgorithm`, which raises what it says.
        kwargs: see there, and everything that `QRDQN` takes.

    Example:
        >>> model = EquivariantQRDQN("MlpPolicy", "CartPole-v1", "equizero", buffer_size=1000)
        >>> model.symmetry.group.names
        ('e', 'mirror')
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": EquivariantQRDQNPolicy,
        "CnnPolicy": EquivariantQRDQNCnnPolicy,
        "MultiInputPolicy": EquivariantQRDQNMultiInputPolicy,
    }
    equivariant_policy = EquivariantQRDQNPolicy
    relaxes = False
