"""`Snake` with one corner where fruit is poisoned."""

from __future__ import annotations

from typing import Any

import numpy as np

from equirl.envs.boards.board_rendering import Image
from equirl.envs.boards.snake import Snake
from equirl.envs.parameters import finite, fraction


class BrokenSnake(Snake):
    """Snake on a board whose top left corner spoils what grows there, which nothing shows.

    Eating there costs `poison` and does not let the snake grow; in every step in which it is not
    eaten, spoilt fruit vanishes with probability 1 / size, and fruit appears in a free cell.

    Args:
        share: of the cells that are poisoned, in [0, 1]; the corner is a square, as near as whole
            cells allow. 0 is `Snake`.
        poison: what eating there costs, finite, at least 0.
        kwargs: as `Snake` takes them.

    Raises:
        ValueError: a parameter is out of its range.
    """

    def __init__(self, share: float = 0.25, poison: float = 1.0, **kwargs: Any) -> None:
        share, self._poison = fraction("share", share), finite("poison", poison, least=0)
        super().__init__(**kwargs)
        self._side = round(self.size * share**0.5)

    @property
    def is_broken(self) -> bool:
        """Whether the fruit is spoilt."""
        return self.fruit is not None and max(self.fruit) < self._side

    def step(self, action: np.int64 | int) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """See `Snake`; ``info["is_broken"]`` is said of the state before the step."""
        broken, before = self.is_broken, list(self.snake)
        observation, reward, terminated, truncated, info = super().step(action)
        info["is_broken"] = broken
        if broken and len(self.snake) > len(before):
            self.snake = self.snake[:-1]
            reward = -self._poison
            info["fruit"] -= 1
            terminated = info["is_success"] = False
            if self.fruit is None:
                self.fruit = before[-1]
            observation = self._observe()
        elif broken and not terminated and self.np_random.random() < 1 / self.size:
            self.fruit = self._draw_fruit()
            observation = self._observe()
        return observation, reward, terminated, truncated, info
