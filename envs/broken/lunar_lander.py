"""`LunarLander` with a wind that blows one way, on one side (`pip install "equirl[box2d]"`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.box2d.lunar_lander import SCALE, VIEWPORT_W, LunarLander


class BrokenLunarLander(LunarLander):
    """LunarLander with a steady wind to the right over the right part of the landscape.

    Gymnasium's own wind (``enable_wind``) blows either way and leaves the mirror as it is.

    Args:
        share: of the width of the landscape, from its right end, where it blows, in [0, 1].
        wind: its force; 10 is less than the main engine's 13, and gravity pulls with about 48.
        kwargs: as Gymnasium's environment takes them.

    Raises:
        ValueError: the share is not in [0, 1].
    """

    def __init__(self, share: float = 0.5, wind: float = 10.0, **kwargs: Any) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share!r}, expected a fraction in [0, 1]")
        self._from = (1 - share) * VIEWPORT_W / SCALE
        self._wind = float(wind)
        super().__init__(**kwargs)

    @property
    def is_broken(self) -> bool:
        """Whether the wind blows where the lander is: never on the ground."""
        if self.lander is None or any(leg.ground_contact for leg in self.legs):
            return False
        return bool(self.lander.position.x > self._from)

    def step(self, action: Any) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        """See Gymnasium's; ``info["is_broken"]`` is said of the state before the step."""
        broken = self.is_broken
        if broken and self.lander is not None:
            self.lander.ApplyForceToCenter((self._wind, 0.0), True)
        parent: Any = super()  # Gymnasium leaves it untyped
        observation, reward, terminated, truncated, info = parent.step(action)
        info["is_broken"] = broken
        return observation, float(reward), terminated, truncated, info
