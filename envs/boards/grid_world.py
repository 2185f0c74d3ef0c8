"""A room to walk in, exactly symmetric under the eight symmetries of the square."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from equirl.envs.boards.board_rendering import (
    PIXELS,
    RENDER_MODES,
    Cell,
    Distances,
    Image,
    Layers,
    Points,
    RenderedBoard,
    empty_board,
    paint_cell,
    plane,
    rounded_square,
)
from equirl.envs.parameters import finite, is_number

ImageMap = Callable[[NDArray[Any]], NDArray[Any]]

_MOVES: tuple[Cell, ...] = ((-1, 0), (0, 1), (1, 0), (0, -1))
# The goal of a new episode has row and column below this number.
_GOAL_EXTENT: dict[str, Callable[[int], int]] = {"any": lambda n: n, "quarter": lambda n: n // 2}


def rotate_90(observation: NDArray[Any]) -> NDArray[Any]:
    """Rotate one observation `[n, n, channels]` by 90 degrees counter-clockwise."""
    return np.ascontiguousarray(np.rot90(observation))


def mirror_left_right(observation: NDArray[Any]) -> NDArray[Any]:
    """Mirror one observation `[n, n, channels]`, swapping left and right."""
    return np.ascontiguousarray(np.fliplr(observation))


GRID_WORLD_GENERATORS: dict[str, tuple[ImageMap, list[int]]] = {
    "r": (rotate_90, [3, 0, 1, 2]),
    "s": (mirror_left_right, [0, 3, 2, 1]),
}
"""Generators of the dihedral group of order 8: the map on one observation, and the permutation
of the actions, whose entry `a` is the action that `a` becomes."""


class GridWorld(RenderedBoard):
    """An agent walks to a goal in a square room, around walls that each episode draws afresh.

    An observation is a channel-last image `[size, size, 3]` of type `uint8`: walls, agent and
    goal, 255 where present and 0 elsewhere. The actions are 0 up (row - 1), 1 right (column + 1),
    2 down (row + 1) and 3 left (column - 1); a move into a wall or out of the room leaves the
    agent where it is. Reaching the goal gives +1 and terminates, every other step gives
    `-step_cost`. `info["is_success"]` says whether the agent stands on the goal.

    Dynamics, reward and termination are exactly symmetric under `GRID_WORLD_GENERATORS`, and so is
    the initial-state distribution with `goal_region="any"`; `"quarter"` tests generalisation.

    Args:
        size: rows and columns of the room, at least 2 (SB3 reads sizes below 4 as channel-first).
        walls: fraction of the cells that are walls, in [0, 0.5); the goal stays reachable.
        goal_region: where new episodes put the goal: `"any"` free cell, or the top-left
            `"quarter"` (row and column below `size // 2`). The agent starts anywhere else.
        step_cost: what each step that does not reach the goal costs, finite, at least 0.
        render_mode: `None`, `"rgb_array"` or `"human"` (needs pygame).

    Attributes:
        agent, goal: row and column of each; opposite corners until the first `reset`.
        walls: boolean array `[size, size]`, true where there is a wall.

    Raises:
        ValueError: a parameter is out of its range.

    Example:
        >>> env = GridWorld(size=3)
        >>> observation = env.set_state(agent=(2, 0), goal=(0, 0))
        >>> observation[2, 0]
        array([  0, 255,   0], dtype=uint8)
        >>> env.step(0)[1:]
        (-0.01, False, False, {'is_success': False})
        >>> env.step(0)[1:]
        (1.0, True, False, {'is_success': True})
    """

    def __init__(
        self,
        size: int = 7,
        walls: float = 0.0,
        goal_region: str = "any",
        step_cost: float = 0.01,
        render_mode: str | None = None,
    ) -> None:
        for name, value, legal, expected in (
            ("size", size, hasattr(size, "__index__") and size >= 2, "an integer of at least 2"),
            ("walls", walls, is_number(walls) and 0 <= walls < 0.5, "a fraction in [0, 0.5)"),
            (
                "goal_region",
                goal_region,
                goal_region in tuple(_GOAL_EXTENT),
                "'any' or 'quarter'",
            ),
            (
                "render_mode",
                render_mode,
                render_mode in RENDER_MODES,
                "None, 'rgb_array' or 'human'",
            ),
        ):
            if not legal:
                raise ValueError(f"{name} is {value!r}, expected {expected}")
        self.size = int(size)
        self.step_cost = finite("step_cost", step_cost, least=0)
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 255, (self.size, self.size, 3), np.uint8)
        self.action_space = spaces.Discrete(len(_MOVES))
        self._wall_count = round(walls * self.size**2)
        self._goal_extent = _GOAL_EXTENT[goal_region](self.size)
        self.set_state((0, 0), (self.size - 1, self.size - 1))

    def set_state(self, agent: Cell, goal: Cell, walls: ArrayLike | None = None) -> Image:
        """Put the environment in a given state and return its observation.

        Args:
            agent: row and column of the agent.
            goal: row and column of the goal, in any `goal_region` and reachable or not.
            walls: array `[size, size]`, true where there is a wall; `None` for no walls.

        Raises:
            ValueError: the walls have another shape, agent or goal is outside the room or in a
                wall, or both are in the same cell. The state is then left as it was.
        """
        shape = (self.size, self.size)
        tiles = np.zeros(shape, np.bool_) if walls is None else np.array(walls, np.bool_)
        if tiles.shape != shape:
            raise ValueError(f"walls has shape {tiles.shape}, expected {shape}")
        for name, cell in (("agent", agent), ("goal", goal)):
            if not is_free(cell, tiles):
                raise ValueError(f"{name} is {cell}, expected a free cell in a room of {shape}")
        if tuple(agent) == tuple(goal):
            raise ValueError(f"agent is {agent}, which is the goal, expected another cell")
        self.agent, self.goal = (int(agent[0]), int(agent[1])), (int(goal[0]), int(goal[1]))
        self.walls = tiles
        return self._observe()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Image, dict[str, Any]]:
        """Draw walls, goal and agent afresh; `options` is not used."""
        super().reset(seed=seed)
        reached: list[Cell] = []
        while len(reached) < 2:  # the goal was drawn in a wall, or walled in
            walls = np.zeros((self.size, self.size), np.bool_)
            walls.flat[self.np_random.choice(walls.size, self._wall_count, replace=False)] = True
            goal = tuple(self.np_random.integers(self._goal_extent, size=2).tolist())
            reached = reachable(walls, goal)
        self.set_state(reached[self.np_random.integers(1, len(reached))], goal, walls)
        if self.render_mode == "human":
            self.render()
        return self._observe(), {"is_success": False}

    def step(self, action: np.int64 | int) -> tuple[Image, float, bool, bool, dict[str, Any]]:
        """Move the agent one cell, or leave it where a wall or the border stops it.

        Raises:
            ValueError: `action` is not one of 0, 1, 2, 3.
        """
        if not self.action_space.contains(action):
            raise ValueError(f"action is {action!r}, expected 0 up, 1 right, 2 down or 3 left")
        rows, columns = _MOVES[action]
        target = (self.agent[0] + rows, self.agent[1] + columns)
        if is_free(target, self.walls):
            self.agent = target
        success = self.agent == self.goal
        if self.render_mode == "human":
            self.render()
        reward = 1.0 if success else -self.step_cost
        return self._observe(), reward, success, False, {"is_success": success}

    def draw(self) -> Image:
        """Return a picture `[height, width, 3]` of the room, the goal's star above the agent."""
        picture, room = empty_board(self.size)
        for line in range(PIXELS, len(room), PIXELS):
            room[line - 1 : line + 1] = room[:, line - 1 : line + 1] = (236, 236, 234)
        for row, column in np.argwhere(self.walls).tolist():
            paint_cell(room, (row, column), _WALL)
        paint_cell(room, self.agent, _AGENT)
        paint_cell(room, self.goal, _GOAL)
        return np.rint(picture).astype(np.uint8)

    def _observe(self) -> Image:
        observation = np.zeros((self.size, self.size, 3), np.uint8)
        observation[self.walls, 0] = 255
        observation[(*self.agent, 1)] = 255
        observation[(*self.goal, 2)] = 255
        return observation


def is_free(cell: Cell, walls: NDArray[np.bool_]) -> bool:
    inside = [hasattr(x, "__index__") and 0 <= x < len(walls) for x in cell] == [True, True]
    return inside and not walls[tuple(cell)]


def reachable(walls: NDArray[np.bool_], start: Cell) -> list[Cell]:
    """List the cells that a walk from `start` can reach, itself first; none if it is a wall."""
    unseen = set(map(tuple, np.argwhere(~walls).tolist()))
    reached, frontier = [], [start]
    while frontier:
        cell = frontier.pop()
        if cell in unseen:
            unseen.remove(cell)
            reached.append(cell)
            frontier += [(cell[0] + rows, cell[1] + columns) for rows, columns in _MOVES]
    return reached


def _star(z: Points, radius: float, waist: float) -> Distances:
    """Distance to a five-pointed star: fold the plane onto half a point, then to one segment."""
    sector = np.pi / 5
    angle = np.abs((np.angle(1j * z) + sector) % (2 * sector) - sector)
    offset = np.abs(z) * np.exp(1j * angle) - radius
    edge = waist * np.exp(1j * sector) - radius
    along = np.clip((offset / edge).real, 0, 1)
    return np.asarray(np.abs(offset - along * edge) * np.sign((edge / offset).imag))


_Z = plane(PIXELS)
_WALL: Layers = (
    (rounded_square(_Z - 2.5j, 20, 8), 6, 0.3, (40, 48, 66)),
    (rounded_square(_Z, 22, 7), 1, 1, (74, 85, 108)),
    (rounded_square(_Z + 2j, 20, 6), 1, 1, (98, 111, 137)),
)
_AGENT: Layers = (
    (np.abs(_Z - 3j) - 17, 7, 0.3, (40, 48, 66)),
    (np.abs(_Z) - 17.5, 1, 1, (37, 99, 190)),
    (np.abs(_Z) - 15, 2, 1, (66, 133, 226)),
    (np.abs(_Z + 5 + 5j) - 5, 7, 0.45, (255, 255, 255)),
)
_GOAL: Layers = (
    (np.abs(_Z) - 15, 14, 0.35, (255, 205, 90)),
    (_star(_Z, 13, 6.2) - 2.5, 1, 1, (222, 142, 24)),
    (_star(_Z, 12, 5.6) - 0.6, 1, 1, (255, 200, 61)),
)
