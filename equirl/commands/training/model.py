"""From the configuration of a training to its model."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from equirl.agents import (
    DeviceDictReplayBuffer,
    DeviceNStepReplayBuffer,
    DeviceReplayBuffer,
    DoubleDQN,
)
from equirl.agents.families import FAMILIES, Family, class_of
from equirl.agents.native.native_policies import NATIVE_POLICIES
from equirl.agents.saving.agent_format import description
from equirl.commands.composition import check_actions, given_keys
from equirl.commands.environments import imported
from equirl.commands.training.settings import check_algorithm
from equirl.configs.algorithms import AlgorithmConfig
from equirl.configs.schema import TrainConfig
from equirl.errors import ConfigError
from equirl.symmetry import Symmetry

NATURE_CNN_LEAST = 36
"""Pixels a side that the network of ``CnnPolicy`` needs."""

DEVICE_BUFFERS = {
    "one step": DeviceReplayBuffer,
    "n steps": DeviceNStepReplayBuffer,
    "dicts": DeviceDictReplayBuffer,
}
"""For ``device_replay=true``."""


def build_model(settings: TrainConfig, env: VecEnv, symmetry: Symmetry | None) -> Any:
    """The model that the configuration describes.

    Raises:
        ConfigError: the algorithm does not take the actions or does not have the method, or SB3
            refuses a hyper-parameter.
    """
    algorithm = settings.algorithm
    check_actions(algorithm.name, env.action_space)
    check_algorithm(algorithm.name, settings.method.name)
    is_dict = isinstance(env.observation_space, spaces.Dict)
    if is_dict and algorithm.policy == "MlpPolicy":  # the default, and no policy of SB3 for them
        algorithm = settings.algorithm = replace(algorithm, policy="MultiInputPolicy")
    if is_dict != (algorithm.policy == "MultiInputPolicy"):
        raise ConfigError(
            "algorithm.policy must be MultiInputPolicy for Dict observations, and for no others, "
            f"got {algorithm.policy} for {env.observation_space}"
        )
    try:
        return _built(settings, env, symmetry)
    except (ValueError, AssertionError, MemoryError) as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except RuntimeError as error:  # how a network says that it cannot take such inputs
        small = _too_small(env.observation_space)
        if small is not None:
            raise ConfigError(
                f"{small} is too small for SB3's NatureCNN, which takes images of 36 × 36 and "
                "more: name a features extractor, algorithm.features=module:class, or say "
                "env.wrappers=[gymnasium.wrappers:FlattenObservation]"
            ) from error
        raise ConfigError(
            f"{algorithm.policy} does not fit observations of shape "
            f"{env.observation_space.shape}: {str(error).splitlines()[0]}"
        ) from error


def _too_small(space: spaces.Space[Any]) -> str | None:
    """An image of a Dict that SB3's CNN cannot read, for messages."""
    parts = space.spaces if isinstance(space, spaces.Dict) else {}
    for key, part in parts.items():
        if is_image_space(part) and sorted(part.shape or ())[1] < NATURE_CNN_LEAST:
            return f"observation[{key!r}] of shape {part.shape}"
    return None


def flattens_images(settings: TrainConfig, space: spaces.Space[Any]) -> bool:
    """Whether images that SB3's CNN could read go through an MLP, which nobody has asked for."""
    algorithm = settings.algorithm
    return (
        algorithm.policy == "MlpPolicy"
        and "algorithm.policy" not in given_keys()
        and algorithm.features is None
        and is_image_space(space)
        and sorted(cast(Any, space.shape))[1] >= NATURE_CNN_LEAST
    )


def _built(settings: TrainConfig, env: VecEnv, symmetry: Symmetry | None) -> Any:
    family, method = FAMILIES[settings.algorithm.name], settings.method
    policy = settings.algorithm.policy
    arguments = _arguments(settings, env) | _buffer(settings, family, env, symmetry)
    stock = DoubleDQN if arguments.get("double_q") else class_of(family.stock)
    if not issubclass(stock, DoubleDQN) and method.name in ("plain", "augment", "native"):
        arguments.pop("double_q", None)
    if method.name in ("plain", "augment"):
        return stock(policy, env, **arguments)
    assert symmetry is not None
    options = {option: value for option, value in vars(method).items() if option != "name"}
    if method.name == "native":
        arguments["policy_kwargs"] |= {"symmetry": symmetry, **options}
        model = stock(NATIVE_POLICIES[policy], env, **arguments)
        vars(model).update(description(symmetry))  # so that it is saved in plain data, too
        return model
    if method.name == "mirror_loss":
        assert family.mirror_loss is not None
        mirroring = class_of(family.mirror_loss)
        return mirroring(policy, env, symmetry=symmetry, **options, **arguments)
    if settings.compile or settings.bf16:  # which only DQN has
        arguments |= {"compile": settings.compile, "bf16": settings.bf16}
    return class_of(family.equivariant)(
        policy, env, symmetry=symmetry, method=method.name, **options, **arguments
    )


def _arguments(settings: TrainConfig, env: VecEnv) -> dict[str, Any]:
    """What every method's constructor takes: the hyper-parameters, by SB3's names."""
    ours = {field.name for field in fields(AlgorithmConfig)}
    arguments = {k: v for k, v in vars(settings.algorithm).items() if k not in ours}
    for name in ("learning_rate", "clip_range"):
        final = arguments.pop(f"{name}_final", None)
        if final is not None:
            arguments[name] = LinearSchedule(arguments[name], final, 1.0)
    for name in ("ent_coef", "target_entropy"):  # "auto", or a number
        if isinstance(arguments.get(name), str) and not arguments[name].startswith("auto"):
            arguments[name] = float(arguments[name])
    std = arguments.pop("noise_std", 0.0)
    if std > 0:
        size = env.action_space.shape or (1,)
        arguments["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, std))
    policy_kwargs = _policy_kwargs(settings.algorithm)
    if "n_quantiles" in arguments:
        policy_kwargs["n_quantiles"] = arguments.pop("n_quantiles")
    return {
        "seed": settings.seed,
        "device": settings.device,
        "policy_kwargs": policy_kwargs,
        **arguments,
    }


def _buffer(
    settings: TrainConfig, family: Family, env: VecEnv, symmetry: Symmetry | None
) -> dict[str, Any]:
    """What it takes of the buffer, where SB3 does not choose it."""
    algorithm, augments = settings.algorithm, settings.method.name == "augment"
    is_dict = isinstance(env.observation_space, spaces.Dict)
    n_steps = 1 if family.is_on_policy else algorithm.n_steps
    if is_dict and n_steps > 1:
        raise ConfigError(f"algorithm.n_steps must be 1 for Dict observations, got {n_steps}")
    if not augments and not settings.device_replay:
        return {}
    kind = "dicts" if is_dict else "n steps" if n_steps > 1 else "one step"
    kwargs: dict[str, Any] = {"symmetry": symmetry} if augments else {}
    buffer = class_of(family.buffer[kind]) if augments else DEVICE_BUFFERS[kind]
    if family.is_on_policy:
        return {"rollout_buffer_class": buffer, "rollout_buffer_kwargs": kwargs}
    if n_steps > 1:
        kwargs |= {"n_steps": n_steps, "gamma": algorithm.gamma}
    return {
        "replay_buffer_class": buffer,
        "replay_buffer_kwargs": kwargs,
        "n_steps": 1,  # it is the buffer's
    }


def _policy_kwargs(config: AlgorithmConfig) -> dict[str, Any]:
    kwargs: dict[str, Any] = {}
    if config.net_arch is not None:
        kwargs["net_arch"] = config.net_arch
    if config.features is not None:
        extractor = imported(config.features)
        if not (isinstance(extractor, type) and issubclass(extractor, BaseFeaturesExtractor)):
            raise ConfigError(
                f"algorithm.features: {config.features} must be a class of features extractors "
                "(stable_baselines3.common.torch_layers.BaseFeaturesExtractor)"
            )
        kwargs["features_extractor_class"] = extractor
    return kwargs
