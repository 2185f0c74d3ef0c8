"""The Stable-Baselines3 side: policies, the DQN subclass, replay, transfer, callbacks."""

from equirl.agents.dqn import EquivariantDQN
from equirl.agents.policies import (
    EquivariantCnnPolicy,
    EquivariantDQNPolicy,
    EquivariantMultiInputPolicy,
    EquivariantQNetwork,
)
from equirl.agents.replay import OrbitDictReplayBuffer, OrbitReplayBuffer

__all__ = [
    "EquivariantCnnPolicy",
    "EquivariantDQN",
    "EquivariantDQNPolicy",
    "EquivariantMultiInputPolicy",
    "EquivariantQNetwork",
    "OrbitDictReplayBuffer",
    "OrbitReplayBuffer",
]
