"""A point mass on a plane, pushed by three thrusters: turns by thirds are its symmetry."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

ANGLES = 2 * np.pi / 3 * np.arange(3)
DIRECTIONS = np.stack([np.cos(ANGLES), np.sin(ANGLES)])
"""Of the thrusters, ``[2, 3]``."""

COS, SIN = -0.5, np.sqrt(0.75)
ON_STATES = np.kron(np.eye(2), np.array([[COS, -SIN], [SIN, COS]]))
ON_ACTIONS = np.roll(np.eye(3), 1, axis=0)

MIRROR = np.zeros((7, 7))
MIRROR[range(7), [0, 1, 2, 3, 4, 6, 5]] = [1, -1, 1, -1, 1, 1, 1]


class Thrusters(gym.Env[Any, Any]):
    """Position and velocity are seen, each thruster gives a push between 0 and 1.

    Args:
        discrete: one of them pushes, at full strength.
        wind: along x, which no turn leaves alone.
    """

    def __init__(self, discrete: bool = False, wind: float = 0.0) -> None:
        self.discrete, self.wind = discrete, wind
        self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float64)
        self.action_space: Any = spaces.Discrete(3) if discrete else spaces.Box(0, 1, (3,))
        turn = np.zeros((7, 7))
        turn[:4, :4], turn[4:, 4:] = ON_STATES, ON_ACTIONS
        self.generators = [] if wind else [turn, MIRROR]
        """As matrices on (s, a)."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=4)
        return self.state.copy(), {}

    def step(self, action: Any) -> Any:
        pushes = np.eye(3)[action] if self.discrete else np.asarray(action, dtype=np.float64)
        force = DIRECTIONS @ pushes + [self.wind, 0.0]
        noise = 0.02 * self.np_random.normal(size=2)
        velocity = 0.95 * self.state[2:] + 0.2 * force + noise
        self.state = np.concatenate([0.98 * self.state[:2] + 0.1 * velocity, velocity])
        return self.state.copy(), -float(np.square(self.state[:2]).sum()), False, False, {}
