"""`CartPole` whose pushes to one side are weaker on a part of the track."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from equirl.envs.parameters import fraction


class BrokenCartPole(CartPoleEnv):
    """CartPole whose pushes to the right are weaker on the right part of its track.

    Args:
        share: of the track, from its right end, where they are weaker, in [0, 1].
        push: what is left of the force there, in [0, 1].
        kwargs: as Gymnasium's environment takes them.

    Raises:
        ValueError: a parameter is out of its range.
    """

    def __init__(self, share: float = 0.5, push: float = 0.1, **kwargs: Any) -> None:
        share, push = fraction("share", share), fraction("push", push)
        super().__init__(**kwargs)
        self._full, self._weak = self.force_mag, push * self.force_mag
        self._from = (1 - 2 * share) * self.x_threshold

    @property
    def is_broken(self) -> bool:
        """Whether a push to the right would be weaker now."""
        return self.state is not None and bool(self.state[0] > self._from)

    def step(self, action: Any) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        """See Gymnasium's; ``info["is_broken"]`` is said of the state before the step."""
        broken = self.is_broken
        self.force_mag = self._weak if broken and action == 1 else self._full
        parent: Any = super()  # Gymnasium leaves it untyped
        observation, reward, terminated, truncated, info = parent.step(action)
        self.force_mag = self._full
        return observation, float(reward), terminated, truncated, {**info, "is_broken": broken}
