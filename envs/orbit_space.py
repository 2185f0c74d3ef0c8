"""The smallest space that holds every moved observation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.actions.affines import Affines
from equirl.actions.maps import Maps
from equirl.actions.signed_permutations import SignedPermutations
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
            space[leaf.key] if isinstance(space, spaces.Dict) else space for leaf in leaves
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
    ranges = []
    for g in range(maps.count):
        one = maps.take(g)
        if isinstance(one, SignedPermutations):
            full = one.with_all_arrays()
            assert full.sign is not None
            assert full.offset is not None
            ends = [full.sign * bound[full.index] + full.offset for bound in bounds]
            ranges.append((np.minimum(*ends), np.maximum(*ends)))
        elif isinstance(one, Affines):
            ranges.append(tuple(_sum(one, bounds, sign) for sign in (-1, 1)))
    least, most = (
        np.concatenate([np.atleast_2d(part) for part in side]) for side in zip(*ranges, strict=True)
    )
    return least.min(axis=0), most.max(axis=0)


def _sum(one: Affines, bounds: Bounds, sign: int) -> npt.NDArray[np.float64]:
    """Of A·x + b the least (sign −1) or greatest (sign 1) value over the box."""
    matrix = np.where(np.abs(one.matrix) < 1e-12, 0, one.matrix).reshape(-1, one.entries)
    low, high = bounds
    ends = np.where(sign * matrix > 0, high, low)
    with np.errstate(invalid="ignore"):
        terms = np.where(matrix == 0, 0, matrix * ends)
    total: npt.NDArray[np.float64] = terms.sum(axis=-1) + one.offset.reshape(-1)
    return total
