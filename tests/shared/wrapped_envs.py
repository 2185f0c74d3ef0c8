"""Environments to wrap, and what they show."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from equirl.envs import (
    SymmetryWrapper,
)

Env = gym.Env[Any, Any]


def cartpole() -> Env:
    return gym.make("CartPole-v1")


def gridworld() -> Env:
    return gym.make("equirl/GridWorld-v0", size=4, walls=0.2)


GRID = SymmetryWrapper(gridworld()).symmetry


class Line(gym.Env[Any, np.int64]):
    """An observation of a dict space; actions left and right."""

    observation_space = spaces.Dict(place=spaces.Discrete(5), speed=spaces.Box(-1, 1, (1,)))
    action_space = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(5))
        return self._observe(0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        speed = 2 * int(action) - 1
        self.place = min(max(self.place + speed, 0), 4)
        return self._observe(speed), 0.0, False, False, {}

    def _observe(self, speed: int) -> dict[str, Any]:
        return {"place": np.int64(self.place), "speed": np.array([speed], np.float32)}


LINE_MIRROR = {"mirror": ({"place": lambda place: 4 - place, "speed": np.negative}, [1, 0])}


def states(env: Env, actions: list[int], seed: int = 0) -> list[Any]:
    observation, _ = env.reset(seed=seed)
    seen = [observation]
    for action in actions:
        observation, _, terminated, _, _ = env.step(action)
        seen.append(observation)
        if terminated:
            break
    return seen
