"""The Stable-Baselines3 side: policies, the DQN subclass, replay, transfer, callbacks."""

from equirl.agents.callbacks import EquivarianceCallback
from equirl.agents.device_replay import (
    DeviceDictReplayBuffer,
    DeviceNStepReplayBuffer,
    DeviceReplayBuffer,
)
from equirl.agents.double_dqn import DoubleDQN
from equirl.agents.dqn import EquivariantDQN
from equirl.agents.evaluation_callback import EvaluationCallback
from equirl.agents.features import SmallCnn
from equirl.agents.mirror_loss import MirrorLossDQN
from equirl.agents.native_policies import (
    NativeEquivariantCnnPolicy,
    NativeEquivariantPolicy,
    NativeEquivariantQNetwork,
)
from equirl.agents.policies import (
    EquivariantCnnPolicy,
    EquivariantDQNPolicy,
    EquivariantMultiInputPolicy,
    EquivariantQNetwork,
)
from equirl.agents.replay import (
    OrbitDictReplayBuffer,
    OrbitNStepReplayBuffer,
    OrbitReplayBuffer,
)
from equirl.agents.transfer import Transferred, transfer_agent
from equirl.agents.vec_normalize import SymmetricVecNormalize

__all__ = [
    "DeviceDictReplayBuffer",
    "DeviceNStepReplayBuffer",
    "DeviceReplayBuffer",
    "DoubleDQN",
    "EquivarianceCallback",
    "EquivariantCnnPolicy",
    "EquivariantDQN",
    "EquivariantDQNPolicy",
    "EquivariantMultiInputPolicy",
    "EquivariantQNetwork",
    "EvaluationCallback",
    "MirrorLossDQN",
    "NativeEquivariantCnnPolicy",
    "NativeEquivariantPolicy",
    "NativeEquivariantQNetwork",
    "OrbitDictReplayBuffer",
    "OrbitNStepReplayBuffer",
    "OrbitReplayBuffer",
    "SmallCnn",
    "SymmetricVecNormalize",
    "Transferred",
    "transfer_agent",
]
