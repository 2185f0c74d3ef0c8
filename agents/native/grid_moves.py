"""Which rotation or reflection of the pixel grid each group element is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from equirl.actions import GroupAction, SignedPermutations
from equirl.errors import SymmetryError


@dataclass(frozen=True)
class GridMove:
    """One of the eight symmetries of the square, for images ``[..., height, width]``.

    Args:
        turns: quarter turns, after the reflection.
        flips: whether columns are first reversed.
    """

    turns: int
    flips: bool

    def __call__(self, images: Tensor) -> Tensor:
        """The images moved."""
        if self.flips:
            images = images.flip(-1)
        return torch.rot90(images, self.turns, (-2, -1)) if self.turns else images


MOVES = [GridMove(turns, flips) for flips in (False, True) for turns in range(4)]


def grid_moves(observations: GroupAction) -> list[GridMove]:
    """What every group element does to the pixels of an image ``[channels, height, width]``.

    Channels may be exchanged as well, and signs or levels changed.

    Raises:
        SymmetryError: an element is not a rotation or reflection of the grid.
    """
    (leaf,), (maps,) = observations.leaves, observations.maps
    _, height, width = leaf.shape
    candidates = [move for move in MOVES if height == width or move.turns % 2 == 0]
    pixels = torch.arange(height * width, device="cpu").view(height, width)
    sources = {move: move(pixels).flatten().numpy() for move in candidates}
    found = []
    for g, name in enumerate(observations.group.names):
        index = maps.index[g] if isinstance(maps, SignedPermutations) else None
        move = None if index is None else _move(index, sources)
        if move is None:
            raise SymmetryError(
                f"group convolutions take rotations and reflections of the {height} × {width} "
                f"pixels, and {name} is none: use MlpPolicy, or method=equitune"
            )
        found.append(move)
    return found


def _move(
    index: npt.NDArray[np.int64], sources: dict[GridMove, npt.NDArray[np.int64]]
) -> GridMove | None:
    for move, source in sources.items():
        if (index.reshape(-1, len(source)) % len(source) == source).all():
            return move
    return None
