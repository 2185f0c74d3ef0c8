"""The game 2048: gymnasium_2048/envs/twenty_forty_eight.py (`pip install "equirl[twenty48]"`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from equirl.envs.registry import register_symmetry

Board = npt.NDArray[Any]

BOARD_MAPS: dict[str, tuple[Callable[[Board], Board], list[int]]] = {
    "r": (np.rot90, [3, 0, 1, 2]),
    "s": (np.fliplr, [0, 3, 2, 1]),
}
"""Generators of the dihedral group of order 8: rotation by 90 degrees counter-clockwise, mirror."""


class MovedDraws:
    """The random numbers of a board that was moved, from the same generator.

    A new tile falls on the k-th empty cell in reading order. Here the cells are read in the order
    that they had before the board was moved, so the same k means the same cell; k is uniform, so
    its distribution stays as it is.

    Args:
        env: the unwrapped environment.
        generator: its random generator.
        order: ``[size, size]``, the place of each cell in that order.
    """

    def __init__(self, env: Any, generator: Any, order: Board) -> None:
        self.env, self.generator, self.order = env, generator, order

    def choice(self, count: int) -> int:
        """Which empty cell, in reading order, gets the new tile."""
        empty = self.order[self.env.board == 0]
        return int(np.argsort(empty)[self.generator.choice(count)])

    def random(self) -> float:
        """Decides between a 2 and a 4."""
        return float(self.generator.random())


def move_twenty48(board_map: Callable[[Board], Board], env: Any) -> None:
    """The state is the board of exponents; the random draws move along."""
    env.board = board_map(env.board).copy()
    draws = env.np_random
    if not isinstance(draws, MovedDraws):
        draws = MovedDraws(env, draws, np.arange(env.board.size).reshape(env.board.shape))
    env.np_random = MovedDraws(env, draws.generator, board_map(draws.order))


# Observation [row, column, exponent], one-hot; actions 0 up, 1 right, 2 down, 3 left.
register_symmetry(
    "gymnasium_2048/TwentyFortyEight-v0",
    BOARD_MAPS,
    state_maps={name: partial(move_twenty48, move) for name, (move, _) in BOARD_MAPS.items()},
)
