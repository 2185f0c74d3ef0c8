"""From the configuration of a training to its model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from equirl.agents import (
    DeviceDictReplayBuffer,
    DeviceNStepReplayBuffer,
    DeviceReplayBuffer,
    DoubleDQN,
    EquivariantDQN,
    MirrorLossDQN,
    OrbitDictReplayBuffer,
    OrbitNStepReplayBuffer,
    OrbitReplayBuffer,
)
from equirl.agents.native.native_policies import NATIVE_POLICIES
from equirl.agents.saving.agent_format import description
from equirl.commands.composition import check_actions
from equirl.commands.environments import imported
from equirl.configs.algorithms import AlgorithmConfig
from equirl.configs.schema import TrainConfig
from equirl.errors import ConfigError
from equirl.symmetry import Symmetry

REPLAY_BUFFERS: dict[str, dict[str, type[ReplayBuffer]]] = {
    "augment": {
        "one step": OrbitReplayBuffer,
        "n steps": OrbitNStepReplayBuffer,
        "dicts": OrbitDictReplayBuffer,
    },
    "device": {
        "one step": DeviceReplayBuffer,
        "n steps": DeviceNStepReplayBuffer,
        "dicts": DeviceDictReplayBuffer,
    },
}
"""Those that are not SB3's own choice."""


def build_model(settings: TrainConfig, env: VecEnv, symmetry: Symmetry | None) -> Any:
    """The model that the configuration describes.

    Raises:
        ConfigError: the algorithm does not take the actions, or SB3 refuses a hyper-parameter.
    """
    algorithm = settings.algorithm
    check_actions(algorithm.name, env.action_space)
    is_dict = isinstance(env.observation_space, spaces.Dict)
    if is_dict != (algorithm.policy == "MultiInputPolicy"):
        raise ConfigError(
            "algorithm.policy must be MultiInputPolicy for Dict observations, and for no others, "
            f"got {algorithm.policy} for {env.observation_space}"
        )
    try:
        return BUILDERS[algorithm.name](settings, env, symmetry)
    except (ValueError, AssertionError, MemoryError) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except RuntimeError as error:  # how a network says that it cannot take such inputs
        raise ConfigError(
            f"{algorithm.policy} does not fit observations of shape "
            f"{env.observation_space.shape}: {str(error).splitlines()[0]}"
        ) from error


def _dqn(settings: TrainConfig, env: VecEnv, symmetry: Symmetry | None) -> DQN:
    method, policy = settings.method, settings.algorithm.policy
    is_dict = isinstance(env.observation_space, spaces.Dict)
    arguments = _arguments(settings) | _replay(settings, symmetry, is_dict)
    double_q = arguments.pop("double_q")
    plain = DoubleDQN if double_q else DQN
    if method.name in ("plain", "augment"):
        return plain(policy, env, **arguments)
    assert symmetry is not None
    if method.name == "mirror_loss":
        return MirrorLossDQN(
            policy,
            env,
            symmetry=symmetry,
            mirror_weight=method.mirror_weight,
            double_q=double_q,
            **arguments,
        )
    if method.name == "native":
        arguments["policy_kwargs"] |= {
            "symmetry": symmetry,
            "match_parameters": method.match_parameters,
        }
        model = plain(NATIVE_POLICIES[policy], env, **arguments)
        vars(model).update(description(symmetry))  # so that it is saved in plain data, too
        return model
    return EquivariantDQN(
        policy,
        env,
        symmetry=symmetry,
        method=method.name,
        **{option: value for option, value in vars(method).items() if option != "name"},
        compile=settings.compile,
        bf16=settings.bf16,
        double_q=double_q,
        **arguments,
    )


def _arguments(settings: TrainConfig) -> dict[str, Any]:
    """What every method's constructor takes: the hyper-parameters, by SB3's names."""
    ours = {field.name for field in fields(AlgorithmConfig)}
    arguments = {k: v for k, v in vars(settings.algorithm).items() if k not in ours}
    final_rate = arguments.pop("learning_rate_final", None)
    if final_rate is not None:
        arguments["learning_rate"] = LinearSchedule(arguments["learning_rate"], final_rate, 1.0)
    return {
        "seed": settings.seed,
        "device": settings.device,
        "policy_kwargs": _policy_kwargs(settings.algorithm),
        **arguments,
    }


def _replay(settings: TrainConfig, symmetry: Symmetry | None, is_dict: bool) -> dict[str, Any]:
    """What it takes of the replay buffer, where SB3 does not choose it."""
    dqn, augments = settings.algorithm, settings.method.name == "augment"
    if is_dict and dqn.n_steps > 1:
        raise ConfigError(f"algorithm.n_steps must be 1 for Dict observations, got {dqn.n_steps}")
    if not augments and not settings.device_replay:
        return {}
    kind = "dicts" if is_dict else "n steps" if dqn.n_steps > 1 else "one step"
    kwargs: dict[str, Any] = {"symmetry": symmetry} if augments else {}
    if dqn.n_steps > 1:
        kwargs |= {"n_steps": dqn.n_steps, "gamma": dqn.gamma}
    return {
        "replay_buffer_class": REPLAY_BUFFERS["augment" if augments else "device"][kind],
        "replay_buffer_kwargs": kwargs,
        "n_steps": 1,  # it is the buffer's
    }


def _policy_kwargs(config: AlgorithmConfig) -> dict[str, Any]:
    kwargs: dict[str, Any] = {}
    if config.net_arch is not None:
        kwargs["net_arch"] = config.net_arch
    if config.features is not None:
        kwargs["features_extractor_class"] = imported(config.features)
    return kwargs


BUILDERS: dict[str, Callable[[TrainConfig, VecEnv, Symmetry | None], Any]] = {"dqn": _dqn}
"""What makes a model of each algorithm, by the name that ``algorithm=`` takes."""
