"""The smallest space that holds every moved observation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.actions import Affines, Maps, SignedPermutations
from equirl.symmetry import Symmetry

Bounds = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]

ROUNDING = 1e-6
"""By how much of its size a number computed in float32 may miss its bound."""


def orbit_space(symmetry: Symmetry) -> spaces.Space[Any]:
    """The observation space with boxes of floats widened to hold all gs; else the very same.

    A rotation takes the corners of a box out of it; permutations and signs mostly do not.
    """
    space, action = symmetry.observation_space, symmetry.observations
    widened: dict[Any, spaces.Space[Any]] = {}
    for block, maps in zip(action.blocks, action.maps, strict=True):
        leaves = [action.leaves[j] for j in block]
        parts: Any = [
            space.spaces[str(leaf.key)] if isinstance(space, spaces.Dict) else space
            for leaf in leaves
        ]
        if not all(
            isinstance(part, spaces.Box) and leaf.is_float
            for part, leaf in zip(parts, leaves, strict=True)
        ):
            continue
        low = np.concatenate([part.low.ravel() for part in parts]).astype(np.float64)
        high = np.concatenate([part.high.ravel() for part in parts]).astype(np.float64)
        least, most = _range(maps, (low, high))
        least = np.where(
            least < low - ROUNDING * np.abs(low), least - ROUNDING * np.abs(least), low
        )
        most = np.where(most > high + ROUNDING * np.abs(high), most + ROUNDING * np.abs(most), high)
        if (least == low).all() and (most == high).all():
            continue
        ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
        for leaf, part, a, b in zip(
            leaves, parts, np.split(least, ends), np.split(most, ends), strict=True
        ):
            widened[leaf.key] = spaces.Box(
                a.reshape(part.shape).astype(part.dtype),
                b.reshape(part.shape).astype(part.dtype),
                dtype=part.dtype.type,
            )
    if not widened:
        return space
    if isinstance(space, spaces.Dict):
        return spaces.Dict([(key, widened.get(key, part)) for key, part in space.spaces.items()])
    return widened[None]


def _range(maps: Maps, bounds: Bounds) -> Bounds:
    """The least and greatest value of each entry under any of the maps."""
    low, high = bounds
    if isinstance(maps, Affines):
        ends = np.array(
            [_affine_range(A, b, bounds) for A, b in zip(maps.matrix, maps.offset, strict=True)]
        )
        return ends[:, 0].min(axis=0), ends[:, 1].max(axis=0)
    assert isinstance(maps, SignedPermutations)
    full: Any = maps.with_all_arrays()
    moved = np.concatenate([full.sign * bound[full.index] + full.offset for bound in (low, high)])
    return moved.min(axis=0), moved.max(axis=0)


def _affine_range(
    matrix: npt.NDArray[np.float64], offset: npt.NDArray[np.float64], bounds: Bounds
) -> Bounds:
    """Of A·x + b over a box that may be infinite, where Affines.range_over has 0·∞."""
    low, high = bounds
    matrix = np.where(np.abs(matrix) < 1e-12, 0, matrix)
    with np.errstate(invalid="ignore"):
        rising, falling = (
            np.where(matrix == 0, 0, matrix * np.where(matrix > 0, *ends))
            for ends in ((low, high), (high, low))
        )
    return rising.sum(axis=1) + offset, falling.sum(axis=1) + offset
