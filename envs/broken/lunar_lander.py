"""`LunarLander` with a wind, or with crossed engines, on one side (`equirl[box2d]`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.box2d.lunar_lander import SCALE, VIEWPORT_W, LunarLander

from equirl.envs.parameters import finite, fraction


class BrokenLunarLander(LunarLander):
    """LunarLander that looks symmetric and is not, over the right part of the landscape.

    ``"wind"``: a steady wind to the right blows there on a lander in the air. Gymnasium's own
    (``enable_wind``) blows either way and leaves the mirror as it is.
    ``"engines"``: there the two side engines are crossed, each fires for the other.

    Args:
        broken_by: ``"wind"`` or ``"engines"``.
        share: of the width of the landscape, from its right end, that is broken, in [0, 1].
        wind: its force, finite; 10 is less than the main engine's 13, and gravity pulls with
            about 48.
        kwargs: as Gymnasium's environment takes them.

    Raises:
        ValueError: a parameter is out of its range.
    """

    def __init__(
        self, broken_by: str = "wind", share: float = 0.5, wind: float = 10.0, **kwargs: Any
    ) -> None:
        if broken_by not in ("wind", "engines"):
            raise ValueError(f"broken_by is {broken_by!r}, expected 'wind' or 'engines'")
        self.broken_by = broken_by
        self.broken_from = (1 - fraction("share", share)) * VIEWPORT_W / SCALE
        self._wind = finite("wind", wind)
        super().__init__(**kwargs)

    @property
    def is_broken(self) -> bool:
        """Whether the wind blows (never on the ground) or engines are crossed where it is."""
        if self.lander is None:
            return False
        if self.broken_by == "wind" and any(leg.ground_contact for leg in self.legs):
            return False
        return bool(self.lander.position.x > self.broken_from)

    def step(self, action: Any) -> tuple[np.ndarray[Any, Any], float, bool, bool, dict[str, Any]]:
        """See Gymnasium's; ``info["is_broken"]`` is said of the state before the step."""
        broken = self.is_broken
        if broken and self.broken_by == "engines":
            if self.continuous:
                action = np.asarray(action) * (1.0, -1.0)
            elif self.action_space.contains(action):
                action = -action % 4
        elif broken and self.lander is not None:
            self.lander.ApplyForceToCenter((self._wind, 0.0), True)
        parent: Any = super()  # Gymnasium leaves it untyped
        observation, reward, terminated, truncated, info = parent.step(action)
        info["is_broken"] = broken
        return observation, float(reward), terminated, truncated, info
