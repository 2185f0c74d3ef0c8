"""Deep Q-learning with an equivariant Q-function."""

from equirl.agents.dqn.dqn import DoubleDQN, EquivariantDQN
from equirl.agents.dqn.policies import (
    EquivariantCnnPolicy,
    EquivariantDQNPolicy,
    EquivariantMultiInputPolicy,
    EquivariantQNetwork,
)

__all__ = [
    "DoubleDQN",
    "EquivariantCnnPolicy",
    "EquivariantDQN",
    "EquivariantDQNPolicy",
    "EquivariantMultiInputPolicy",
    "EquivariantQNetwork",
]
