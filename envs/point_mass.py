"""A point mass on a plane: continuous control that is exactly symmetric under the square's D4."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from equirl.envs.parameters import fraction

Vector = NDArray[np.float32]


def turn(vectors: NDArray[Any]) -> NDArray[Any]:
    """Turn vectors of the plane ``[2 n]``, one after the other, by 90 degrees."""
    x, y = vectors[0::2], vectors[1::2]
    return np.stack([-y, x], axis=1).ravel()


def flip(vectors: NDArray[Any]) -> NDArray[Any]:
    """Mirror vectors of the plane ``[2 n]``, one after the other: x changes sign."""
    signs = np.tile(np.array([-1, 1], dtype=vectors.dtype), len(vectors) // 2)
    flipped: NDArray[Any] = vectors * signs
    return flipped


class PointMass(gym.Env[Vector, Vector]):
    """A point mass is pushed to the middle of a plane and is to rest there.

    An observation is position and velocity, ``[4]``; an action is the force, ``[2]`` in [-1, 1].
    The reward is minus the distance from the middle and a little of the force, whatever their
    direction. Where the mass starts is symmetric as well.

    Args:
        damping: part of the velocity that is lost in one step, in [0, 1].
        render_mode: None or ``"rgb_array"``.

    Attributes:
        position, velocity: of the mass, ``[2]``, float64.

    Raises:
        ValueError: damping is not in [0, 1].

    Example:
        >>> env = PointMass()
        >>> observation, _ = env.reset(seed=0)
        >>> observation.shape
        (4,)
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012  # as Gymnasium's

    def __init__(self, damping: float = 0.05, render_mode: str | None = None) -> None:
        self.damping, self.render_mode = fraction("damping", damping), render_mode
        self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.position, self.velocity = np.zeros(2), np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Vector, dict[str, Any]]:
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-2, 2, size=2)
        self.velocity = self.np_random.uniform(-0.5, 0.5, size=2)
        return self._observation(), {}

    def step(self, action: Vector) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        force = np.clip(np.asarray(action, dtype=np.float64), -1, 1)
        self.velocity = (1 - self.damping) * self.velocity + 0.1 * force
        self.position = self.position + 0.1 * self.velocity
        distance = float(np.sqrt(self.position[0] ** 2 + self.position[1] ** 2))
        reward = -distance - 0.05 * float(force[0] ** 2 + force[1] ** 2)
        return self._observation(), reward, False, False, {}

    def render(self) -> NDArray[np.uint8] | None:  # None by default
        """The plane from above, the middle black and the mass red."""
        if self.render_mode is None:
            return None
        picture = np.full((128, 128, 3), 255, dtype=np.uint8)
        picture[62:66, 62:66] = 0
        column, row = np.clip(64 + 20 * self.position * [1, -1], 2, 125).astype(int)
        picture[row - 2 : row + 3, column - 2 : column + 3] = (200, 0, 0)
        return picture

    def _observation(self) -> Vector:
        return np.concatenate([self.position, self.velocity]).astype(np.float32)
