"""Where a symmetry fails, or is let go of, by the cell of a board that observations show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from equirl.verification.statistics.encoding import BoolArray, FloatArray

LARGEST = 16
"""Rows and columns of a board; larger arrays are pictures."""

MOST_VALUES = 6
"""That mark a cell in one plane of a board."""

LEAST_SEEN = 5
"""Steps, or a cell says nothing."""

STANDS_OUT = 5.0
"""Standard deviations by which cells differ more than they do by chance, or tell nothing."""


@dataclass(frozen=True)
class Board:
    """How plainly a symmetry fails, by the cell that something is in.

    Args:
        what: which entries mark the cell, such as ``"s[:, :, 1] = 255"``.
        shares: the breach on average when the cell is marked, ``[rows, columns]``; NaN where that
            was hardly ever seen.
    """

    what: str
    shares: FloatArray


def shows_board(space: spaces.Space[Any]) -> bool:
    """Whether observations are planes of at most `LARGEST` × `LARGEST` cells."""
    if not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3):
        return False
    axis = _axis_of_planes(space.shape)
    cells = space.shape if axis is None else np.delete(space.shape, axis - 1)
    return max(cells) <= LARGEST and min(cells) >= 2


def board_of(
    space: spaces.Space[Any], observations: Any, breach: FloatArray, weights: FloatArray
) -> Board | None:
    """The board whose cells tell best where the breach is, if beyond chance; see `boards_of`."""
    boards = boards_of(space, observations, breach, weights)
    return boards[0] if boards else None


def boards_of(
    space: spaces.Space[Any],
    observations: Any,
    breach: FloatArray,
    weights: FloatArray,
    stands_out: float = STANDS_OUT,
) -> list[Board]:
    """The boards whose cells tell where the breach is, best first; none where there is no board.

    Every plane of the observations and every value in it but the commonest is tried: where the
    agent is, where the goal is, where a piece of either colour lies.

    Args:
        space: of observations.
        observations: a batch of N.
        breach: ``[N]``.
        weights: ``[N]``.
        stands_out: standard deviations by which cells must differ more than they do by chance.
    """
    if not shows_board(space):
        return []
    batch = np.asarray(observations)
    boards = []
    for plane, name in _planes(batch, _axis_of_planes(batch.shape[1:])):
        values, counts = np.unique(plane, return_counts=True)
        if len(values) > MOST_VALUES:
            continue
        for value in np.delete(values, int(np.argmax(counts))):
            marked = (plane == value).reshape(len(plane), -1)
            shares, lead = _by_cell(marked, breach, weights)
            if lead > stands_out:
                board = Board(f"{name} = {value:g}", shares.reshape(plane.shape[1:]))
                boards.append((lead, board))
    return [board for _, board in sorted(boards, key=lambda found: -found[0])]


def _axis_of_planes(shape: tuple[int, ...]) -> int | None:
    """The first or the last axis: what leaves a square, else the shorter; None of one plane."""
    if len(shape) == 2:
        return None
    first, middle, last = shape
    if (middle == last) != (first == middle):
        return 1 if middle == last else 3
    return 1 if first < last else 3


def _planes(batch: Any, axis: int | None) -> list[tuple[Any, str]]:
    if axis is None:
        return [(batch, "s[:, :]")]
    planes = np.moveaxis(batch, axis, 1)
    name = "s[{}, :, :]" if axis == 1 else "s[:, :, {}]"
    return [(planes[:, j], name.format(j)) for j in range(planes.shape[1])]


def _by_cell(
    marked: BoolArray, breach: FloatArray, weights: FloatArray
) -> tuple[FloatArray, float]:
    """The mean breach by cell, and by how much more than by chance cells differ from the rest."""
    total = np.maximum(weights @ marked, 1e-12)
    means = (weights * breach) @ marked / total
    rest = np.maximum(weights.sum() - total, 1e-12)
    others = ((weights * breach).sum() - means * total) / rest
    spread = np.average(np.square(breach - np.average(breach, weights=weights)), weights=weights)
    count = marked.sum(axis=0)
    error = np.sqrt(spread / np.maximum(count, 1) + spread / np.maximum(len(marked) - count, 1))
    seen = (count >= LEAST_SEEN) & (total > 1e-9)
    squares = np.square(means - others) / np.maximum(np.square(error), 1e-12)
    cells = int(seen.sum())
    lead = (squares[seen].sum() - cells) / np.sqrt(2 * max(cells, 1)) if spread > 0 else 0.0
    return np.where(seen, means, np.nan), float(lead)
