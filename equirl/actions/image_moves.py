"""What can be done to images as a group element, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from equirl.errors import SymmetryError
from equirl.shown import shown

Move = str | Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
"""A name of `MOVES`, or a function that exchanges the entries of an array."""

MOVES: dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "rot90": lambda images: np.rot90(images, axes=(-2, -1)),
    "rot180": lambda images: images[..., ::-1, ::-1],
    "fliplr": lambda images: images[..., ::-1],
    "flipud": lambda images: images[..., ::-1, :],
    "transpose": lambda images: images.swapaxes(-2, -1),
}


def moved_pixels(name: str, move: Move, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """``[*shape]``: for each entry of the moved image, which entry it was.

    Raises:
        SymmetryError: no such move, or it does not exchange the entries of such images.
    """
    if isinstance(move, str) and move not in MOVES:
        raise SymmetryError(f"{name!r}: a move is one of {', '.join(MOVES)}, got {shown(move)}")
    function = MOVES[move] if isinstance(move, str) else move
    entries = np.arange(int(np.prod(shape))).reshape(shape)
    moved = np.asarray(function(entries))
    if moved.shape != shape or not np.array_equal(np.sort(moved, axis=None), entries.ravel()):
        raise SymmetryError(
            f"{name!r} must exchange the entries of arrays of shape {shape}, what comes out has "
            f"shape {moved.shape}"
        )
    return moved
