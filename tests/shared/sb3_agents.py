"""Agents for what SB3's own tests ask of an algorithm: stock DQN with our policies, and our DQN."""

from __future__ import annotations

import copy
import io
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from equirl.agents import EquivariantDQN
from shared.policy_tasks import dict_env
from shared.stock_twins import image_env, square_env

TASKS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "vector": ("MlpPolicy", square_env, {"net_arch": [8]}),
    "image": ("CnnPolicy", image_env, {"features_extractor_kwargs": {"features_dim": 8}}),
    "dict": ("MultiInputPolicy", dict_env, {"features_extractor_kwargs": {"cnn_output_dim": 8}}),
}
"""Alias of the policy, environment with the symmetries of the square, small networks."""

each_task = pytest.mark.parametrize("task", TASKS)
each_algorithm = pytest.mark.parametrize("algorithm", [DQN, EquivariantDQN])


def agent(
    algorithm: type[DQN],
    task: str = "vector",
    method: str = "lambda",
    *,
    env: Any = None,
    policy_kwargs: dict[str, Any] | None = None,
    **kwargs: Any,
) -> DQN:
    """An untrained one of few parameters."""
    alias, make_env, small = TASKS[task]
    own = {"symmetry": make_env().symmetry, "method": method} if algorithm is DQN else {}
    options: dict[str, Any] = {
        "buffer_size": 100,
        "learning_starts": 8,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "target_update_interval": 10,
        "seed": 0,
        "device": "cpu",
        **({"method": method} if algorithm is not DQN else {}),
        **kwargs,
    }
    policy = EquivariantDQN.policy_aliases[alias] if algorithm is DQN else alias
    return algorithm(
        policy,
        make_env() if env is None else env,
        policy_kwargs={**own, **small, **(policy_kwargs or {})},
        **options,
    )


def trained(algorithm: type[DQN], task: str = "vector", **kwargs: Any) -> DQN:
    """With a target network of its own, and an optimiser that remembers something."""
    return agent(algorithm, task, **kwargs).learn(24)


def saved(model: DQN, **kwargs: Any) -> io.BytesIO:
    """Its file, at the beginning."""
    file = io.BytesIO()
    model.save(file, **kwargs)
    file.seek(0)
    return file


def observations(model: DQN, count: int = 5) -> Any:
    """``[count, *shape]``, always the same ones."""
    space = copy.deepcopy(model.observation_space)
    space.seed(1)
    samples: list[Any] = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
    return np.stack(samples)


def q_values(model: DQN) -> Tensor:
    """``[5, actions]`` of `observations`, as the greedy policy sees them."""
    model.policy.set_training_mode(False)
    with torch.no_grad():
        values: Tensor = model.q_net(model.policy.obs_to_tensor(observations(model))[0])
    return values.cpu()


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(actual) == list(expected)
    for key, value in expected.items():
        assert torch.equal(actual[key], value), key


def moments(model: DQN) -> dict[str, Tensor]:
    """What the optimiser remembers."""
    state = model.policy.optimizer.state_dict()["state"]
    return {f"{p}.{name}": value for p, own in state.items() for name, value in own.items()}


def assert_is_the_same_agent(actual: DQN, expected: DQN) -> None:
    """Equal parameters, also of the target network and the optimiser, and both train on alike."""
    assert_equal(actual.policy.state_dict(), expected.policy.state_dict())
    assert_equal(moments(actual), moments(expected))
    assert torch.equal(q_values(actual), q_values(expected))
    assert_trains_on(actual, expected)


def assert_trains_on(actual: DQN, expected: DQN) -> None:
    """Each moves its own parameters, and both to the same ones; the targets follow their own."""
    before = {key: value.clone() for key, value in expected.policy.state_dict().items()}
    buffer = expected.replay_buffer
    assert buffer is not None
    assert buffer.size() > 0
    for model in (actual, expected):
        model.replay_buffer = copy.deepcopy(buffer)
        model._setup_learn(10**6, reset_num_timesteps=False)
        assert_same_layers(model)
    for model, other in ((actual, expected), (expected, actual)):
        untouched = {key: value.clone() for key, value in other.policy.state_dict().items()}
        np.random.seed(3)  # noqa: NPY002  # the state SB3's buffers draw from
        torch.manual_seed(3)
        model.train(3, 8)
        model.target_update_interval = 1
        model._on_step()
        assert_equal(other.policy.state_dict(), untouched)
    after = expected.policy.state_dict()
    assert_equal(actual.policy.state_dict(), after)
    assert_equal(moments(actual), moments(expected))
    for network in ("q_net", "q_net_target"):
        assert any(
            not torch.equal(value, before[key])
            for key, value in after.items()
            if key.startswith(f"{network}.")
        )


def assert_same_layers(model: DQN) -> None:
    assert model.q_net is model.policy.q_net
    assert model.q_net_target is model.policy.q_net_target
    optimised = [p for group in model.policy.optimizer.param_groups for p in group["params"]]
    own = list(model.q_net.parameters())
    assert len(optimised) == len(own)
    assert all(p is q for p, q in zip(optimised, own, strict=True))


class Dropping(BaseFeaturesExtractor):
    """Batch normalisation and dropout: a network that says in which mode it is."""

    def __init__(self, space: spaces.Box, features_dim: int = 16, dropout: float = 0.5) -> None:
        super().__init__(space, features_dim)
        self.layers = nn.Sequential(
            nn.Linear(spaces.flatdim(space), features_dim),
            nn.BatchNorm1d(features_dim),
            nn.Dropout(dropout),
            nn.Tanh(),
        )

    def forward(self, points: Tensor) -> Tensor:
        features: Tensor = self.layers(points.flatten(1))
        return features


def cartpole() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")
