"""Without a symmetry, training is bit for bit that of plain DQN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN

from equirl import Symmetry
from equirl.agents import EquivariantDQN, OrbitReplayBuffer
from equirl.envs import SymmetryWrapper
from shared.rarely import rarely
from shared.small_agents import METHODS, cartpole


class Pixel(gym.Env[np.ndarray, np.int64]):
    """A bright pixel walks left or right on a dim random background, rewarded for going right."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
        self.action_space = spaces.Discrete(2)

    def _observe(self) -> np.ndarray:
        image = self.np_random.integers(0, 32, (36, 36, 1), np.uint8)
        image[18, self._column] = 255
        return image

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._column = int(self.np_random.integers(6, 30))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._column += 2 * int(action) - 1
        over = not 2 <= self._column < 34
        return self._observe(), float(self._column - 18) / 18, over, False, {}


def trained(
    method: str, policy: str, make_env: Callable[[], gym.Env[Any, Any]]
) -> dict[str, torch.Tensor]:
    """The parameters after 400 steps; for all methods but plain, with the trivial group."""
    kwargs: dict[str, Any] = {
        "buffer_size": 2000,
        "learning_rate": 1e-3,
        "target_update_interval": 150,
        "seed": 3,
        "device": "cpu",
    }
    if policy == "CnnPolicy":
        # Mostly random actions and few updates: what counts is the same on every path.
        kwargs |= {"train_freq": 50, "batch_size": 16, "exploration_final_eps": 0.8}
        kwargs["policy_kwargs"] = {"features_extractor_kwargs": {"features_dim": 32}}
    env = make_env()
    if method == "plain":
        model = DQN(policy, env, **kwargs)
    elif method == "augment":
        replay = {"symmetry": Symmetry.trivial(env.observation_space, env.action_space)}
        model = DQN(
            policy,
            env,
            replay_buffer_class=OrbitReplayBuffer,
            replay_buffer_kwargs=replay,
            **kwargs,
        )
    else:
        model = EquivariantDQN(policy, SymmetryWrapper(env, {}), method, **kwargs)
    model.learn(400)
    return {**model.policy.state_dict(), "stored": torch.from_numpy(model.replay_buffer.rewards)}


@pytest.fixture(scope="module")
def plain_mlp() -> dict[str, torch.Tensor]:
    return trained("plain", "MlpPolicy", cartpole)


@pytest.fixture(scope="module")
def plain_cnn() -> dict[str, torch.Tensor]:
    return trained("plain", "CnnPolicy", Pixel)


def assert_same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(actual) == list(expected)
    for key, value in expected.items():
        assert torch.equal(actual[key], value), key


@pytest.mark.parametrize("method", [*METHODS, "augment"])
def test_with_the_trivial_group_training_is_bit_for_bit_that_of_stock_mlp_dqn(
    method: str, plain_mlp: dict[str, torch.Tensor]
) -> None:
    assert_same(trained(method, "MlpPolicy", cartpole), plain_mlp)


@pytest.mark.parametrize("method", rarely([*METHODS, "augment"], *METHODS[1:]))
def test_with_the_trivial_group_training_is_bit_for_bit_that_of_stock_cnn_dqn(
    method: str, plain_cnn: dict[str, torch.Tensor]
) -> None:
    assert_same(trained(method, "CnnPolicy", Pixel), plain_cnn)


@pytest.mark.parametrize("method", METHODS)
def test_with_a_real_symmetry_training_differs_from_stock_dqn(
    method: str, plain_mlp: dict[str, torch.Tensor]
) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), method, seed=3, device="cpu", buffer_size=2000)
    model.learn(300)
    key = "q_net.q_net.0.weight"
    assert not torch.equal(model.policy.state_dict()[key], plain_mlp[key])
