"""The Stable-Baselines3 side: policies, the DQN subclass, replay, transfer, callbacks."""

from importlib import import_module
from typing import Any

from equirl.agents.actor_critic.a2c import EquivariantA2C
from equirl.agents.actor_critic.policies import (
    EquivariantActorCriticCnnPolicy,
    EquivariantActorCriticPolicy,
    EquivariantMultiInputActorCriticPolicy,
)
from equirl.agents.actor_critic.ppo import EquivariantPPO
from equirl.agents.baselines.mirror_loss_dqn import MirrorLossDQN
from equirl.agents.baselines.mirror_loss_off_policy import MirrorLossSAC, MirrorLossTD3
from equirl.agents.baselines.mirror_loss_on_policy import MirrorLossA2C, MirrorLossPPO
from equirl.agents.dqn import (
    DoubleDQN,
    EquivariantCnnPolicy,
    EquivariantDQN,
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
from equirl.agents.sac.policies import (
    EquivariantSACCnnPolicy,
    EquivariantSACMultiInputPolicy,
    EquivariantSACPolicy,
)
from equirl.agents.sac.sac import EquivariantSAC
from equirl.agents.saving.from_pretrained import from_pretrained
from equirl.agents.td3.policies import (
    EquivariantTD3CnnPolicy,
    EquivariantTD3MultiInputPolicy,
    EquivariantTD3Policy,
)
from equirl.agents.td3.td3 import EquivariantDDPG, EquivariantTD3
from equirl.agents.training.callbacks import EquivarianceCallback
from equirl.agents.training.evaluation_callback import EvaluationCallback
from equirl.agents.transfer import Transferred, transfer_agent
from equirl.agents.vec_normalize import SymmetricVecNormalize

CONTRIB = {
    "EquivariantMaskablePPO": "actor_critic.maskable_ppo",
    "EquivariantQRDQN": "qrdqn.qrdqn",
    "EquivariantQRDQNCnnPolicy": "qrdqn.policies",
    "EquivariantQRDQNMultiInputPolicy": "qrdqn.policies",
    "EquivariantQRDQNPolicy": "qrdqn.policies",
    "EquivariantTRPO": "actor_critic.trpo",
    "EquivariantTQC": "tqc.tqc",
    "EquivariantTQCCnnPolicy": "tqc.policies",
    "EquivariantTQCMultiInputPolicy": "tqc.policies",
    "EquivariantTQCPolicy": "tqc.policies",
}
"""What needs sb3-contrib, by name, and its module; imported when it is asked for."""

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
    "EquivariantDDPG",
    "EquivariantDQN",
    "EquivariantDQNPolicy",
    "EquivariantMaskablePPO",
    "EquivariantMultiInputActorCriticPolicy",
    "EquivariantMultiInputPolicy",
    "EquivariantPPO",
    "EquivariantQNetwork",
    "EquivariantQRDQN",
    "EquivariantQRDQNCnnPolicy",
    "EquivariantQRDQNMultiInputPolicy",
    "EquivariantQRDQNPolicy",
    "EquivariantSAC",
    "EquivariantSACCnnPolicy",
    "EquivariantSACMultiInputPolicy",
    "EquivariantSACPolicy",
    "EquivariantTD3",
    "EquivariantTD3CnnPolicy",
    "EquivariantTD3MultiInputPolicy",
    "EquivariantTD3Policy",
    "EquivariantTQC",
    "EquivariantTQCCnnPolicy",
    "EquivariantTQCMultiInputPolicy",
    "EquivariantTQCPolicy",
    "EquivariantTRPO",
    "EvaluationCallback",
    "MirrorLossA2C",
    "MirrorLossDQN",
    "MirrorLossPPO",
    "MirrorLossSAC",
    "MirrorLossTD3",
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


def __getattr__(name: str) -> Any:
    if name not in CONTRIB:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"equirl.agents.{CONTRIB[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "sb3_contrib":
            raise
        raise ImportError(
            f'{name} needs sb3-contrib: pip install "equirl[contrib]"', name="sb3_contrib"
        ) from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
