"""Environments that show random observations of any space, and Q-values of such observations."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from torch import Tensor


class Sampled(gym.Env[Any, np.int64]):
    """Shows random observations of a space; an episode takes eight steps."""

    def __init__(self, observation_space: spaces.Space[Any], actions: int = 2) -> None:
        self.observation_space = observation_space
        self.action_space = spaces.Discrete(actions)
        self._left = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._left = 8
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._left -= 1
        return self.observation_space.sample(), float(action), self._left == 0, False, {}


def raw_observations(space: spaces.Space[Any], count: int = 6) -> Any:
    """``[count, *shape]``, as environments give them."""
    space.seed(1)
    samples: list[Any] = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
    return np.stack(samples)


def q_values(model: DQN, observations: Any) -> Tensor:
    """``[count, actions]``, of observations as environments give them."""
    tensors, _ = model.policy.obs_to_tensor(observations)
    with torch.no_grad():
        values: Tensor = model.q_net(tensors)
    return values.cpu()
