"""The Stable-Baselines3 side: policies, the DQN subclass, replay, transfer, callbacks."""

from equirl.agents.actor_critic.a2c import EquivariantA2C
from equirl.agents.actor_critic.policies import (
    EquivariantActorCriticCnnPolicy,
    EquivariantActorCriticPolicy,
    EquivariantMultiInputActorCriticPolicy,
)
from equirl.agents.actor_critic.ppo import EquivariantPPO
from equirl.agents.baselines.mirror_loss import MirrorLossDQN
from equirl.agents.baselines.mirror_loss_on_policy import MirrorLossA2C, MirrorLossPPO
from equirl.agents.dqn.dqn import DoubleDQN, EquivariantDQN
from equirl.agents.dqn.policies import (
    EquivariantCnnPolicy,
    EquivariantDQNPolicy,
    EquivariantMultiInputPolicy,
    EquivariantQNetwork,
)
from equirl.agents.features import SmallCnn
from equirl.agents.native.native_policies import (
    NativeEquivariantCnnPolicy,
    NativeEquivariantPolicy,
    NativeEquivariantQNetwork,
)
from equirl.agents.replay.device_replay import (
    DeviceDictReplayBuffer,
    DeviceNStepReplayBuffer,
    DeviceReplayBuffer,
)
from equirl.agents.replay.orbit_replay import (
    OrbitDictReplayBuffer,
    OrbitNStepReplayBuffer,
    OrbitReplayBuffer,
)
from equirl.agents.replay.orbit_rollout import OrbitDictRolloutBuffer, OrbitRolloutBuffer
from equirl.agents.saving.from_pretrained import from_pretrained
from equirl.agents.training.callbacks import EquivarianceCallback
from equirl.agents.training.evaluation_callback import EvaluationCallback
from equirl.agents.transfer import Transferred, transfer_agent
from equirl.agents.vec_normalize import SymmetricVecNormalize

__all__ = [
    "DeviceDictReplayBuffer",
    "DeviceNStepReplayBuffer",
    "DeviceReplayBuffer",
    "DoubleDQN",
    "EquivarianceCallback",
    "EquivariantA2C",
    "EquivariantActorCriticCnnPolicy",
    "EquivariantActorCriticPolicy",
    "EquivariantCnnPolicy",
    "EquivariantDQN",
    "EquivariantDQNPolicy",
    "EquivariantMultiInputActorCriticPolicy",
    "EquivariantMultiInputPolicy",
    "EquivariantPPO",
    "EquivariantQNetwork",
    "EvaluationCallback",
    "MirrorLossA2C",
    "MirrorLossDQN",
    "MirrorLossPPO",
    "NativeEquivariantCnnPolicy",
    "NativeEquivariantPolicy",
    "NativeEquivariantQNetwork",
    "OrbitDictReplayBuffer",
    "OrbitDictRolloutBuffer",
    "OrbitNStepReplayBuffer",
    "OrbitReplayBuffer",
    "OrbitRolloutBuffer",
    "SmallCnn",
    "SymmetricVecNormalize",
    "Transferred",
    "from_pretrained",
    "transfer_agent",
]
