"""MinAtar's Space Invaders with a gun that jams on one side (`pip install "equirl[minatar]"`)."""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from equirl.envs.parameters import finite, fraction

_COLUMNS = 10
_WAIT, _FIRE = 0, 5

Image = npt.NDArray[np.bool_]


class BrokenSpaceInvaders(gym.Env[Image, int]):
    """Space Invaders whose gun jams over the right part of the ground, which nothing shows.

    Firing there does nothing, and costs.

    The game has a breach of its own: when two columns of aliens are equally near, the left one
    shoots. It stays, so that a share of 0 and no even start are MinAtar's game, and not quite
    symmetric.

    Observations are bool `[10, 10, 6]`, row, column and channel: cannon, alien, alien moving left,
    alien moving right, own bullet, enemy bullet. Actions are 0 wait, 1 left, 2 right and 3 fire,
    of which MinAtar repeats the last with probability `sticky_action_prob`; +1 for an alien.

    Args:
        share: of the columns, from the right, where the gun jams, in [0, 1]; as near as whole
            columns allow.
        cost: what firing costs there, finite, at least 0.
        even_start: half of the games begin as the mirror image of MinAtar's start, where the cannon
            is right of the middle and aliens move left. Without that an agent that keeps to one
            side hardly meets images of what it sees, and a broken symmetry hardly matters.
        kwargs: as MinAtar's environment takes them.

    Raises:
        ValueError: a parameter is out of its range.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "array", "rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        share: float = 0.5,
        cost: float = 1.0,
        even_start: bool = True,
        **kwargs: Any,
    ) -> None:
        share, self._cost = fraction("share", share), finite("cost", cost, least=0)
        if not isinstance(even_start, bool):
            raise ValueError(f"even_start is {even_start!r}, expected True or False")
        minimal = kwargs.pop("use_minimal_action_set", True)
        if minimal is not True:
            raise ValueError(f"use_minimal_action_set is {minimal!r}, expected True, of 4 actions")
        minatar = importlib.import_module("minatar.gym")  # takes a second
        self._minatar = minatar.BaseEnv("space_invaders", use_minimal_action_set=True, **kwargs)
        self.game = self._minatar.game
        self.render_mode = self._minatar.render_mode
        self.observation_space = self._minatar.observation_space
        self.action_space = self._minatar.action_space
        self._even_start = even_start
        self._jams_from = _COLUMNS - round(_COLUMNS * share)

    @property
    def is_broken(self) -> bool:
        """Whether the cannon is where its gun jams."""
        return bool(self.game.env.pos >= self._jams_from)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Image, dict[str, Any]]:
        """See MinAtar's."""
        observation, info = self._minatar.reset(seed=seed, options=options)
        if self._even_start and self.game.random.rand() < 0.5:
            game = self.game.env
            game.pos, game.alien_dir = _COLUMNS - 1 - game.pos, -game.alien_dir
            observation = self.game.state()
            if self.render_mode == "human":
                self.render()
        return observation, {**info}

    def step(self, action: Any) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """See MinAtar's; ``info["is_broken"]`` is said of the state before the step."""
        broken, game = self.is_broken, self.game
        # as minatar.Environment.act does it, for the gun jams at a repeated action too
        if game.random.rand() < game.sticky_action_prob:
            chosen = game.last_action
        else:
            chosen = self._minatar.action_set[action]
        game.last_action = chosen
        jams = broken and chosen == _FIRE
        reward, terminated = game.env.act(_WAIT if jams else chosen)
        if self.render_mode == "human":
            self.render()
        reward = float(reward) - (self._cost if jams else 0.0)
        return game.state(), reward, bool(terminated), False, {"is_broken": broken}

    def render(self) -> Any:
        """See MinAtar's."""
        return self._minatar.render()

    def close(self) -> None:
        """See MinAtar's."""
        self._minatar.close()
