"""Refusing maps under which integers would leave their range and wrap around silently."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.actions.affines import Affines
from equirl.actions.layout import Leaf
from equirl.actions.maps import Maps
from equirl.actions.signed_permutations import SignedPermutations
from equirl.declaring.probes import Block, Probe
from equirl.errors import SymmetryError
from equirl.groups import FiniteGroup

Bounds = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def check_keeps_box(probe: Probe, maps: Maps, block: Block, space: spaces.Space[Any]) -> None:
    """A declared signed permutation of integers must map their box onto itself.

    Raises:
        SymmetryError: an entry would leave its bounds.
    """
    bounds = _integer_bounds(space, probe.leaves, block)
    if bounds is None or not isinstance(maps, SignedPermutations):
        return
    low, high = bounds
    least, most = _range(maps, bounds)
    outside = (least < low) | (most > high)
    if outside.any():
        entry = int(np.argmax(outside))
        raise SymmetryError(
            f"observation map {probe.name!r} leaves the space: flat entry {entry} would range over "
            f"{least[entry]:g} … {most[entry]:g}, the space has {low[entry]:g} … {high[entry]:g}"
        )


def check_fits_dtype(
    group: FiniteGroup,
    maps: Maps,
    block: Block,
    space: spaces.Space[Any],
    leaves: tuple[Leaf, ...],
) -> None:
    """A map may leave the box, as hexagonal coordinates do, but not the dtype's range.

    Raises:
        SymmetryError: an entry would leave what its dtype can hold.
    """
    bounds = _integer_bounds(space, leaves, block)
    if bounds is None or not isinstance(maps, Affines | SignedPermutations):
        return
    dtype = np.dtype(leaves[block[0]].dtype)
    # Signed integers of 4 or 8 bytes have room for any map, and their boxes are often unbounded.
    if dtype.kind == "i" and dtype.itemsize >= 4:
        return
    for g, name in enumerate(group.names):
        least, most = _range(maps.take(g), bounds)
        outside = (least < np.iinfo(dtype).min) | (most > np.iinfo(dtype).max)
        if outside.any():
            entry = int(np.argmax(outside))
            raise SymmetryError(
                f"element {name!r} lets flat entry {entry} range over {least[entry]:g} … "
                f"{most[entry]:g}, which {dtype} cannot hold: declare narrower bounds or a wider "
                "dtype"
            )


def _range(maps: Affines | SignedPermutations, bounds: Bounds) -> Bounds:
    """The least and the most that the first map makes of each entry."""
    least, most = maps.range_over(*bounds)
    return least[0] + 0.0, most[0] + 0.0  # so that messages say 0 for -0


def _integer_bounds(
    space: spaces.Space[Any], leaves: tuple[Leaf, ...], block: Block
) -> Bounds | None:
    """The lowest and highest point of a block's boxes, None where it is not made of integers."""
    parts: Any = space.spaces if isinstance(space, spaces.Dict) else {None: space}
    boxes = [parts[leaves[j].key] for j in block]
    if not all(isinstance(b, spaces.Box) and np.issubdtype(b.dtype, np.integer) for b in boxes):
        return None
    low = np.concatenate([box.low.ravel() for box in boxes]).astype(np.float64)
    return low, np.concatenate([box.high.ravel() for box in boxes]).astype(np.float64)
