"""MiniGrid: minigrid/minigrid_env.py (`pip install "equirl[minigrid]"`).

Actions are turn left, turn right, forward, pick up, drop, toggle, done; the first three only in
Dynamic-Obstacles. Two views are served:

- egocentric, minigrid's ``ImgObsWrapper`` (7, 7, 3), with or without ``OneHotPartialObsWrapper``
  (7, 7, 20): entry [column, row] with the agent at the bottom in the middle, so a mirror of the
  world reverses the columns. Doors store no direction, so no channel changes;
- `FullView` (width, height, 22), the whole grid and four planes for the direction of the agent.
  minigrid's own ``FullyObsWrapper`` writes the direction into the channel where a door's state
  stands: renaming its values depends on another channel, which no map of single entries does.

Registered are tasks whose rules speak of neither left nor right nor of stored coordinates, and
whose observation needs no mission text. Most of them start in a corner, or have the goal in one:
that is the initial state only. But the egocentric view does not show the whole state, so there an
agent could use such a habit; the best of all agents without memory need not have the symmetry
unless the grids are drawn symmetrically too, as in Empty-Random and FourRooms.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from equirl.envs.registry import register_symmetry
from equirl.errors import SymmetryError
from equirl.symmetry import Generators

Image = npt.NDArray[np.uint8]
Cell = tuple[int, int]

# minigrid/core/constants.py: the object types that a grid can hold (neither unseen nor empty nor
# agent), the colours, the states of a door, and right, down, left, up.
OBJECT_TYPES = np.array([2, 3, 4, 5, 6, 7, 8, 9], dtype=np.uint8)
COLORS = np.arange(6, dtype=np.uint8)
DOOR_STATES = np.arange(3, dtype=np.uint8)
DOOR = 4
DIRECTIONS = slice(17, 21)
CHANNELS = 22


class FullView(gym.ObservationWrapper[Image, Any, Any], RecordConstructorArgs):
    """The whole grid as planes of zeros and ones, ``uint8 [column, row, channel]``.

    Channels 0 … 7 are wall, floor, door, key, ball, box, goal and lava, 8 … 13 the colour of what
    is there, 14 … 16 whether a door is open, closed or locked, 17 … 20 the agent facing right,
    down, left or up, and 21 whether it carries something: that is then shown in its cell.

    Args:
        env: a MiniGrid environment.

    Example:
        >>> env = FullView(gym.make("MiniGrid-Empty-5x5-v0"))  # doctest: +SKIP
        >>> env.observation_space.shape  # doctest: +SKIP
        (5, 5, 22)
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        shape = (self.get_wrapper_attr("width"), self.get_wrapper_attr("height"), CHANNELS)
        self.observation_space = spaces.Box(0, 1, shape, np.uint8)

    def observation(self, observation: Any) -> Image:
        """The grid itself; the environment's own observation is not needed."""
        env: Any = self.unwrapped
        column, row = env.agent_pos
        cells = env.grid.encode()
        if env.carrying is not None:
            cells[column, row] = env.carrying.encode()
        kind, color, state = (cells[..., i, None] for i in range(3))
        planes = np.zeros((*cells.shape[:2], CHANNELS), dtype=np.uint8)
        there = np.isin(kind, OBJECT_TYPES)
        planes[..., :8] = kind == OBJECT_TYPES
        planes[..., 8:14] = (color == COLORS) & there
        planes[..., 14:17] = (state == DOOR_STATES) & (kind == DOOR)
        planes[column, row, DIRECTIONS.start + env.agent_dir] = 1
        planes[column, row, 21] = env.carrying is not None
        return planes


def move_full_view(
    image_map: Callable[[Image], Image], directions: list[int]
) -> Callable[[Image], Image]:
    """The map of a `FullView` that moves cells so, and the agent's direction d to directions[d]."""

    def move(image: Image) -> Image:
        moved = image_map(image).copy()
        channels = np.arange(CHANNELS)
        channels[DIRECTIONS] = DIRECTIONS.start + np.argsort(directions)
        return moved[..., channels]

    return move


def mirror_view(image: Image) -> Image:
    """Reverse the columns: swaps left and right on screen."""
    return image[::-1]


def flip_view(image: Image) -> Image:
    """Reverse the rows: swaps up and down on screen."""
    return image[:, ::-1]


def turn_view(image: Image) -> Image:
    """Turn by 90 degrees, clockwise on screen: what is at (x, y) goes to (height − 1 − y, x)."""
    return np.rot90(image)


# By name: map of the cells, direction that each of right, down, left, up becomes, whether left
# and right turns change places.
WORLD_MAPS: dict[str, tuple[Callable[[Image], Image], list[int], bool]] = {
    "turn": (turn_view, [1, 2, 3, 0], False),
    "mirror": (mirror_view, [2, 1, 0, 3], True),
    "flip": (flip_view, [0, 3, 2, 1], True),
}


def minigrid_generators(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> Generators:
    """The mirror of the egocentric view, or all symmetries of the grid in `FullView`.

    Raises:
        SymmetryError: the observations are neither.
    """
    shape = observation_space.shape or ()
    turns_stay = np.arange(spaces.utils.flatdim(action_space))
    turns_swap = np.array([1, 0, *turns_stay[2:]])
    if shape in ((7, 7, 3), (7, 7, 20)):
        return {"mirror": (mirror_view, turns_swap)}
    if len(shape) == 3 and shape[2] == CHANNELS:
        names = ("turn", "mirror") if shape[0] == shape[1] else ("mirror", "flip")
        return {
            name: (move_full_view(image_map, directions), turns_swap if swaps else turns_stay)
            for name, (image_map, directions, swaps) in WORLD_MAPS.items()
            if name in names
        }
    raise SymmetryError(
        f"the symmetry of MiniGrid is known for what comes out of minigrid.wrappers.ImgObsWrapper "
        f"(7, 7, 3) and of equirl.envs.known_symmetries.minigrid.FullView, not for "
        f"{observation_space}: wrap the environment in one of them"
    )


def move_world(name: str) -> Callable[[Any], None]:
    """Move grid and agent. A turned rectangle would not fit, so that `turn` needs a square."""
    cell_map, directions, _ = WORLD_MAPS[name]

    def move(env: Any) -> None:
        width, height = env.grid.width, env.grid.height
        # Number the cells, move the numbers, and read off who stands where.
        numbers = cell_map(np.arange(width * height).reshape(height, width).T)
        to = {int(number): (int(x), int(y)) for (x, y), number in np.ndenumerate(numbers)}

        def moved(cell: Any) -> Cell:
            return to[int(cell[1]) * width + int(cell[0])]

        objects = [env.grid.grid[number] for number in numbers.T.ravel()]
        env.grid.grid = objects
        for index, thing in enumerate(objects):
            if thing is not None and thing.cur_pos is not None:
                thing.cur_pos = np.array((index % width, index // width))
        env.agent_pos = moved(env.agent_pos)
        env.agent_dir = directions[env.agent_dir]

    return move


STATE_MAPS: Mapping[str, Callable[[Any], None]] = {name: move_world(name) for name in WORLD_MAPS}

TASKS = (
    *(f"Empty-{size}" for size in ("5x5", "6x6", "8x8", "16x16", "Random-5x5", "Random-6x6")),
    *(f"DoorKey-{size}" for size in ("5x5", "6x6", "8x8", "16x16")),
    *(f"{kind}Crossing{size}" for kind in ("Lava", "Simple") for size in ("S9N1", "S9N2", "S9N3")),
    *(f"{kind}CrossingS11N5" for kind in ("Lava", "Simple")),
    *(f"LavaGap{size}" for size in ("S5", "S6", "S7")),
    *(f"MultiRoom-{size}" for size in ("N2-S4", "N6")),
    *(f"RedBlueDoors-{size}" for size in ("6x6", "8x8")),
    *("FourRooms", "DistShift1", "DistShift2", "Unlock"),
)

for task in (*(f"{name}-v0" for name in TASKS), "MultiRoom-N4-S5-v1"):
    register_symmetry(
        f"MiniGrid-{task}",
        minigrid_generators,
        state_maps=STATE_MAPS,
        through=(
            FullView,
            "minigrid.wrappers:ImgObsWrapper",
            "minigrid.wrappers:OneHotPartialObsWrapper",
        ),
    )
