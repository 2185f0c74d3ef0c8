"""Snake, exactly symmetric under the eight symmetries of the square."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from gymnasium import spaces

from equirl.envs.boards.board_rendering import (
    MARGIN,
    PIXELS,
    RENDER_MODES,
    Cell,
    Distances,
    Image,
    Layers,
    Points,
    RenderedBoard,
    empty_board,
    paint,
    paint_cell,
    plane,
    segment,
    tapered_path,
)
from equirl.envs.parameters import finite

_MOVES: tuple[Cell, ...] = ((-1, 0), (0, 1), (1, 0), (0, -1))
_START_LENGTH = 3


class Snake(RenderedBoard):
    """A snake grows by one cell for each fruit it eats and must bite neither wall nor itself.

    An observation is a channel-last image `[size, size, 3]` of type `uint8`: head, body and fruit.
    Head and fruit are 255 where present. The body is graded by order: of m segments behind the
    head, the k-th from the tail is ⌊255 k / m⌋, so that the neck is 255, no two are equal, and a
    fainter segment leaves its cell sooner. The observation thus tells the whole state but `hunger`,
    which decides truncation only.

    The actions are 0 up (row - 1), 1 right (column + 1), 2 down (row + 1) and 3 left (column - 1).
    The action that points back at the neck keeps the heading instead. The tail moves out of its
    cell as the head moves in, so the head may follow it there. A snake starts straight, of length
    3, every place and heading being equally likely; the fruit is in a random free cell.

    Eating gives +1, dying `-death_cost` and terminates with the observation left as it was, any
    other step `-step_cost`. Filling the board terminates too, and is what `info["is_success"]`
    says; `info["fruit"]` counts the fruit eaten. `patience * size**2` steps without fruit truncate
    the episode; as this bounds every episode, `equirl/Snake-v0` has no time limit besides, which
    would keep a good snake from filling a large board.

    Dynamics, reward, termination and the initial-state distribution are exactly symmetric under
    `grid_world.GRID_WORLD_GENERATORS`.

    Args:
        size: rows and columns of the board, 4 to 16 (SB3 reads sizes below 4 as channel-first, and
            255 grades tell apart the segments of at most 256 cells).
        death_cost: what dying costs, finite, at least 0.
        step_cost: what a step that neither eats nor dies costs, finite, at least 0.
        patience: steps without fruit that truncate an episode, as a whole multiple of the number
            of cells, at least 1. Following a cycle through all cells never takes more than one.
        render_mode: `None`, `"rgb_array"` or `"human"` (needs pygame).

    Attributes:
        snake: its cells, head first.
        fruit: the fruit's cell, `None` once the snake fills the board.
        hunger: steps since the last fruit.
        cell_order: the order in which a draw of the fruit numbers the cells, row by row after
            `reset`. A symmetry that moves the state moves this too, and then the same random number
            picks the moved cell.

    Raises:
        ValueError: a parameter is out of its range.

    Example:
        >>> env = Snake(size=4)
        >>> observation = env.set_state(snake=[(1, 2), (1, 1), (1, 0)], fruit=(0, 2))
        >>> observation[1]
        array([[  0, 127,   0],
               [  0, 255,   0],
               [255,   0,   0],
               [  0,   0,   0]], dtype=uint8)
        >>> env.step(0)[1:]
        (1.0, False, False, {'fruit': 1, 'is_success': False})
        >>> env.snake
        [(0, 2), (1, 2), (1, 1), (1, 0)]
        >>> env.step(0)[1:]
        (-1.0, True, False, {'fruit': 1, 'is_success': False})
    """

    def __init__(
        self,
        size: int = 6,
        death_cost: float = 1.0,
        step_cost: float = 0.0,
        patience: int = 2,
        render_mode: str | None = None,
    ) -> None:
        for name, value, legal, expected in (
            ("size", size, _is_whole(size) and 4 <= size <= 16, "an integer from 4 to 16"),
            ("patience", patience, _is_whole(patience) and patience >= 1, "an integer, at least 1"),
            ("render_mode", render_mode, render_mode in RENDER_MODES, f"one of {RENDER_MODES}"),
        ):
            if not legal:
                raise ValueError(f"{name} is {value!r}, expected {expected}")
        self.size = int(size)
        self.death_cost = finite("death_cost", death_cost, least=0)
        self.step_cost = finite("step_cost", step_cost, least=0)
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 255, (self.size, self.size, 3), np.uint8)
        self.action_space = spaces.Discrete(len(_MOVES))
        self._hunger_limit = int(patience) * self.size**2
        self.cell_order = self._cells()
        self.set_state([(0, 2), (0, 1), (0, 0)], (self.size - 1, self.size - 1))

    def set_state(self, snake: Sequence[Cell], fruit: Cell | None, hunger: int = 0) -> Image:
        """Put the environment in a given state, `cell_order` left alone; return its observation.

        Args:
            snake: rows and columns of its cells, head first, each next to the one before.
            fruit: row and column of the fruit; `None` if and only if the snake fills the board.
            hunger: steps since the last fruit.

        Raises:
            ValueError: the snake is shorter than 3, leaves the board, is torn or meets itself, the
                fruit is not in a free cell, or the hunger is not a whole number. The state is
                then left as it was.
        """
        cells = set(self._cells())
        body = [tuple(cell) for cell in snake]
        whole = cells.issuperset(body) and len(set(body)) == len(body) >= _START_LENGTH
        if not whole or any(abs(a - c) + abs(b - d) != 1 for (a, b), (c, d) in pairwise(body)):
            raise ValueError(
                f"snake is {snake}, expected {_START_LENGTH} or more distinct cells of a board of "
                f"{(self.size, self.size)}, each next to the one before"
            )
        free: set[Cell | None] = {*(cells - set(body))} or {None}
        if (fruit if fruit is None else tuple(fruit)) not in free:
            raise ValueError(f"fruit is {fruit}, expected a free cell, or None on a full board")
        if not (_is_whole(hunger) and hunger >= 0):
            raise ValueError(f"hunger is {hunger!r}, expected an integer of at least 0")
        self.snake = [(int(row), int(column)) for row, column in body]
        self.fruit = None if fruit is None else (int(fruit[0]), int(fruit[1]))
        self.hunger = int(hunger)
        return self._observe()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Image, dict[str, Any]]:
        """Draw snake and fruit afresh; `options` is not used."""
        super().reset(seed=seed)
        free_ends = self.size - _START_LENGTH + 1
        row, column, reverse, upright = self.np_random.integers((self.size, free_ends, 2, 2))
        snake = [(int(row), int(column) + k) for k in range(_START_LENGTH)]
        snake = snake[::-1] if reverse else snake
        self.snake = [(b, a) for a, b in snake] if upright else snake
        self.cell_order = self._cells()
        self.fruit = self._draw_fruit()
        self.hunger = 0
        if self.render_mode == "human":
            self.render()
        return self._observe(), self._info()

    def step(self, action: np.int64 | int) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """Move the head one cell; the body follows, the tail staying behind when it eats.

        Raises:
            ValueError: `action` is not one of 0, 1, 2, 3.
        """
        if not self.action_space.contains(action):
            raise ValueError(f"action is {action!r}, expected 0 up, 1 right, 2 down or 3 left")
        head, neck, *_ = self.snake
        target = (head[0] + _MOVES[action][0], head[1] + _MOVES[action][1])
        if target == neck:
            target = (2 * head[0] - neck[0], 2 * head[1] - neck[1])
        eats = target == self.fruit
        inside = 0 <= target[0] < self.size and 0 <= target[1] < self.size
        dies = not inside or target in self.snake[:-1]
        self.hunger = 0 if eats else self.hunger + 1
        if not dies:
            self.snake = [target, *(self.snake if eats else self.snake[:-1])]
        if eats:
            self.fruit = self._draw_fruit()
        if self.render_mode == "human":
            self.render()
        # Subtracting from zero, for a cost of 0 is not a reward of -0.0.
        reward = 1.0 if eats else 0.0 - (self.death_cost if dies else self.step_cost)
        terminated = dies or self.fruit is None
        truncated = not terminated and self.hunger >= self._hunger_limit
        return self._observe(), reward, terminated, truncated, self._info()

    def draw(self) -> Image:
        """Return a picture `[height, width, 3]` of the board."""
        picture, board = empty_board(self.size)
        checks = np.indices((self.size, self.size)).sum(0).repeat(PIXELS, 0).repeat(PIXELS, 1) % 2
        board[:] = np.where(checks[..., None], (194, 222, 158), (205, 231, 171))
        if self.fruit is not None:
            paint_cell(board, self.fruit, _APPLE)
        _paint_snake(picture, self.snake)
        return np.rint(picture).astype(np.uint8)

    def _cells(self) -> list[Cell]:
        return [(row, column) for row in range(self.size) for column in range(self.size)]

    def _draw_fruit(self) -> Cell | None:
        taken = set(self.snake)
        free = [cell for cell in self.cell_order if cell not in taken]
        return free[self.np_random.integers(len(free))] if free else None

    def _observe(self) -> Image:
        observation = np.zeros((self.size, self.size, 3), np.uint8)
        head, *body = self.snake
        observation[(*head, 0)] = 255
        rows, columns = np.array(body).T
        observation[rows, columns, 1] = 255 * np.arange(len(body), 0, -1) // len(body)
        if self.fruit is not None:
            observation[(*self.fruit, 2)] = 255
        return observation

    def _info(self) -> dict[str, Any]:
        return {"fruit": len(self.snake) - _START_LENGTH, "is_success": self.fruit is None}


def _is_whole(value: Any) -> bool:
    return hasattr(value, "__index__")


_Z = plane(PIXELS)
_STEM = segment(_Z, -0.5 - 6j, 2 - 16j)[0] - 1.7
_LEAF_Z = (_Z - 9 + 14j) * np.exp(0.35j)
_LEAF = np.maximum(np.abs(_LEAF_Z - 8j), np.abs(_LEAF_Z + 8j)) - 11
_FLESH = np.minimum(np.abs(_Z - 5 - 3j), np.abs(_Z + 5 - 3j)) - 11.5
_APPLE: Layers = (
    (np.abs(_Z - 7j) - 15, 9, 0.3, (60, 84, 40)),
    (_FLESH, 1, 1, (186, 32, 38)),
    (_FLESH + 1.8, 2.5, 1, (229, 57, 53)),
    (np.abs(_Z + 7 + 1j) - 3.5, 6, 0.55, (255, 255, 255)),
    (_STEM, 1, 1, (110, 72, 45)),
    (_LEAF, 1, 1, (76, 150, 58)),
)


def _paint_snake(picture: Distances, snake: Sequence[Cell]) -> None:
    """Paint a snake that tapers and fades towards its tail, with eyes that look ahead."""
    cells = np.array(snake) + 0.5
    places = MARGIN * (1 + 1j) + (cells[:, 1] + 1j * cells[:, 0]) * PIXELS
    points, order = _centreline(places)
    radii = np.interp(len(snake) - 1 - order, (0, 3), (6, 16.5))
    trunk, along = tapered_path(len(picture), points, radii)
    z = plane(len(picture)) + len(picture) / 2 * (1 + 1j)
    head, ahead = places[0], (places[0] - places[1]) / PIXELS
    body = np.minimum(trunk, segment(z, head, head + 3 * ahead)[0] - 18.5)
    fade = (np.interp(along, np.arange(len(points)), order) / max(len(snake) - 1, 8))[..., None]
    scales = (1 - fade) * (58, 120, 214) + fade * (124, 178, 240)
    paint(
        picture,
        (
            (body - 1, 9, 0.3, (50, 74, 44)),
            (body, 1, 1, 0.72 * scales),
            (body + 2, 2, 1, scales),
            (body + 11, 12, 0.22, (255, 255, 255)),
        ),
    )
    for eye in (head + (3 + 8.5j) * ahead, head + (3 - 8.5j) * ahead):
        pupil = eye + 2.4 * ahead
        paint(
            picture,
            (
                (np.abs(z - eye) - 6.5, 1, 1, (255, 255, 255)),
                (np.abs(z - pupil) - 3.4, 1, 1, (28, 34, 52)),
                (np.abs(z - pupil + 1 + 1j) - 1, 1, 1, (255, 255, 255)),
            ),
        )


def _centreline(places: Points) -> tuple[Points, Distances]:
    """Return points on a line from head to tail that rounds the corners, and their cells' order."""
    middles, t = (places[:-1] + places[1:]) / 2, np.arange(4) / 4
    bends = places[1:-1, None]
    # Bézier curves from where the line enters a cell to where it leaves it.
    curves = (1 - t) ** 2 * middles[:-1, None] + 2 * t * (1 - t) * bends + t**2 * middles[1:, None]
    points = np.concatenate([places[:1], curves.ravel(), middles[-1:], places[-1:]])
    last = len(places) - 1
    return points, np.concatenate([[0], np.arange(0.5, last - 0.5, 0.25), [last - 0.5, last]])
