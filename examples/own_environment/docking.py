"""A puck on an air table is to be brought to its middle: an environment with a symmetry of its own.

Copy this file, and replace its three parts by yours: the environment, the symmetry, the state maps.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from equirl.envs import register_symmetry


class Docking(gym.Env[np.ndarray, int]):
    """Four jets push the puck: up, right, down, left. In each step it keeps 0.7 of its velocity.

    Observation: position x, y and velocity x, y. Reward: minus the distance to the middle, in each
    step. An episode ends when the puck is near the middle, or after 100 steps.
    """

    PUSHES = 0.05 * np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-2, 2, (4,), np.float64)
        self.action_space = spaces.Discrete(4)
        self.position, self.velocity = np.zeros(2), np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.position, self.velocity = self.np_random.uniform(-1, 1, 2), np.zeros(2)
        return self._observation(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.velocity = 0.7 * self.velocity + self.PUSHES[action]
        self.position = np.clip(self.position + self.velocity, -2, 2)
        distance = float(np.linalg.norm(self.position))
        return self._observation(), -distance, distance < 0.1, False, {}

    def _observation(self) -> np.ndarray:
        return np.concatenate([self.position, self.velocity])


def turned(s: np.ndarray) -> np.ndarray:
    """A quarter turn to the right, of position and velocity: (x, y) becomes (y, -x)."""
    x, y, vx, vy = s
    return np.array([y, -x, vy, -vx])


def mirrored(s: np.ndarray) -> np.ndarray:
    """Left and right exchanged."""
    x, y, vx, vy = s
    return np.array([-x, y, -vx, vy])


# What becomes of an observation, and of each action: up, right, down, left.
SYMMETRY = {
    "r": (turned, [1, 2, 3, 0]),  # up becomes right, right becomes down, …
    "s": (mirrored, [0, 3, 2, 1]),  # left and right are exchanged
}


def turn(env: Docking) -> None:
    """Put the environment from its state s into rs, so that the check can be exact."""
    s = turned(np.concatenate([env.position, env.velocity]))
    env.position, env.velocity = s[:2], s[2:]


def mirror(env: Docking) -> None:
    """Put the environment into the mirrored state, as `turn` does."""
    s = mirrored(np.concatenate([env.position, env.velocity]))
    env.position, env.velocity = s[:2], s[2:]


gym.register("Docking-v0", Docking, max_episode_steps=100)
register_symmetry("Docking-v0", SYMMETRY, state_maps={"r": turn, "s": mirror})
