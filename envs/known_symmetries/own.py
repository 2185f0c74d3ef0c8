"""The environments of this package: two square boards seen as images, and a plane."""

from collections.abc import Callable
from functools import partial
from typing import Any

from equirl.envs.boards.board_rendering import Cell
from equirl.envs.boards.grid_world import GRID_WORLD_GENERATORS, ImageMap
from equirl.envs.point_mass import flip, turn
from equirl.envs.registry import register_symmetry

CellMap = Callable[[int, Cell], Cell]
"""Where the cell of a board of this size goes."""


def rotate_cell_90(size: int, cell: Cell) -> Cell:
    """Rotate a cell of a square board by 90 degrees counter-clockwise."""
    row, column = cell
    return size - 1 - column, row


def mirror_cell_left_right(size: int, cell: Cell) -> Cell:
    """Mirror a cell of a square board, swapping left and right."""
    row, column = cell
    return row, size - 1 - column


def move_grid_world(image_map: ImageMap, cell_map: CellMap, env: Any) -> None:
    """GridWorld's state is agent, goal and walls."""
    move = partial(cell_map, env.size)
    env.set_state(move(env.agent), move(env.goal), image_map(env.walls))


def move_snake(cell_map: CellMap, env: Any) -> None:
    """Snake's state is snake, fruit, hunger and the order in which a draw numbers the cells."""
    move = partial(cell_map, env.size)
    fruit = None if env.fruit is None else move(env.fruit)
    env.set_state([move(cell) for cell in env.snake], fruit, env.hunger)
    env.cell_order = [move(cell) for cell in env.cell_order]


_CELL_MAPS: dict[str, CellMap] = {"r": rotate_cell_90, "s": mirror_cell_left_right}

GRID_WORLD_STATE_MAPS = {
    name: partial(move_grid_world, GRID_WORLD_GENERATORS[name][0], cell_map)
    for name, cell_map in _CELL_MAPS.items()
}
SNAKE_STATE_MAPS = {name: partial(move_snake, cell_map) for name, cell_map in _CELL_MAPS.items()}

# Both show the board as an image and move in the same four directions.
register_symmetry("equirl/GridWorld-v0", GRID_WORLD_GENERATORS, GRID_WORLD_STATE_MAPS)
register_symmetry("equirl/Snake-v0", GRID_WORLD_GENERATORS, SNAKE_STATE_MAPS)


def move_point_mass(vector_map: Callable[[Any], Any], env: Any) -> None:
    """PointMass's state is position and velocity."""
    env.position, env.velocity = vector_map(env.position), vector_map(env.velocity)


register_symmetry(
    "equirl/PointMass-v0",
    {"r": (turn, turn), "s": (flip, flip)},
    state_maps={"r": partial(move_point_mass, turn), "s": partial(move_point_mass, flip)},
)
