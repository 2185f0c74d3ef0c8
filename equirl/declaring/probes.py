"""`Probe`: calling an observation map on chosen points, to learn what it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.actions.group_actions import Block as Block
from equirl.actions.layout import Leaf, as_leaves, from_leaves, leaves_of
from equirl.declaring.observation_maps import ObservationMap, as_function
from equirl.errors import SymmetryError
from equirl.shown import reason

Array = npt.NDArray[Any]


class Probe:
    """An observation map that can be called on flat points, with everything it returns checked.

    Args:
        name: the generator's name, for messages.
        function: the map as `Symmetry.from_generators` takes it.
        space: the observation space it acts on.
    """

    def __init__(self, name: str, function: ObservationMap, space: spaces.Space[Any]) -> None:
        self.name = name
        self.leaves = leaves_of(space)
        self._function = as_function(name, function, self.leaves)

    def __call__(self, points: list[Array]) -> list[Array]:
        """Flat leaves in, flat leaves out; floats as float64, integers as int64."""
        given = [
            # Floats are probed in double precision, so that cos(2π/3) keeps all its digits.
            p.astype(np.float64 if leaf.is_float else leaf.dtype).reshape(leaf.shape)
            for p, leaf in zip(points, self.leaves, strict=True)
        ]
        given = [g if leaf.shape else g[()] for g, leaf in zip(given, self.leaves, strict=True)]
        try:
            with np.errstate(all="ignore"):  # integers may wrap; infinities are refused below
                moved = self._function(from_leaves(given, self.leaves))
        except Exception as error:
            raise SymmetryError(
                f"observation map {self.name!r} failed on one observation: {reason(error)}"
            ) from error
        arrays = as_leaves(moved, self.leaves)
        return [self._checked(a, leaf) for a, leaf in zip(arrays, self.leaves, strict=True)]

    def _checked(self, array: Any, leaf: Leaf) -> Array:
        try:
            result = np.asarray(array)
        except Exception as error:  # nested lists of unequal lengths, or a class of its own
            raise SymmetryError(
                f"observation map {self.name!r} returns no array: {reason(error)}"
            ) from error
        if result.shape != leaf.shape:
            raise SymmetryError(
                f"observation map {self.name!r} turns {leaf} of shape {leaf.shape} into shape "
                f"{result.shape}: it must keep the shape"
            )
        if result.dtype.kind not in "biuf":
            raise SymmetryError(
                f"observation map {self.name!r} returns {result.dtype}, not real numbers"
            )
        if not np.isfinite(result).all():
            raise SymmetryError(f"observation map {self.name!r} returns values that are not finite")
        if leaf.is_float:
            return result.astype(np.float64).ravel()
        if (result != np.rint(result)).any():
            raise SymmetryError(f"observation map {self.name!r} returns fractions for {leaf.dtype}")
        return result.astype(np.int64).astype(leaf.dtype).astype(np.int64).ravel()

    def on_block(self, block: Block, flat: Array) -> Array:
        """The block's part of the result where the block holds ``flat`` and all else is at base."""
        point, start = self.base_point(), 0
        for j in block:
            size = self.leaves[j].size
            point[j] = flat[start : start + size]
            start += size
        moved = self(point)
        return np.concatenate([moved[j] for j in block])

    def random_point(self, generator: np.random.Generator, scale: float = 1.0) -> list[Array]:
        """A point with entries all over the range of each leaf; floats as wide as ``scale``."""
        point: list[Array] = []
        for leaf in self.leaves:
            if leaf.low is not None and leaf.values is not None:
                point.append(np.array(leaf.low) + generator.integers(0, np.array(leaf.values)))
            elif leaf.is_float:
                point.append(generator.normal(scale=scale, size=leaf.size))
            else:
                least, most = np.iinfo(leaf.dtype).min, np.iinfo(leaf.dtype).max
                bound = min(most, 2**15 - 1) + 1
                point.append(generator.integers(max(least, -bound), bound, size=leaf.size))
        return point

    def base_point(self) -> list[Array]:
        """The point of all zeros, or of the lowest values."""
        return [
            np.array(leaf.low, dtype=np.int64)
            if leaf.low is not None
            else np.zeros(leaf.size, dtype=np.float64 if leaf.is_float else np.int64)
            for leaf in self.leaves
        ]


def blocks_of(probes: list[Probe]) -> list[Block]:
    """Groups of leaves that some generator lets depend on each other.

    Raises:
        SymmetryError: leaves of different kinds (a Discrete and a Box, say) are exchanged.
    """
    leaves = probes[0].leaves
    block = list(range(len(leaves)))
    for probe in probes:
        start = probe.random_point(np.random.default_rng(1))
        unmoved = probe(start)
        for j in range(len(leaves)) if len(leaves) > 1 else ():
            for seed in range(2, 6):  # several, since a leaf of few values may repeat itself
                other = probe.random_point(np.random.default_rng(seed))
                moved = probe([*start[:j], other[j], *start[j + 1 :]])
                for i, (before, after) in enumerate(zip(unmoved, moved, strict=True)):
                    if not np.array_equal(before, after) and block[i] != block[j]:
                        if leaves[i].kind != leaves[j].kind:
                            raise SymmetryError(
                                f"observation map {probe.name!r} lets {leaves[i]} "
                                f"({leaves[i].kind}) depend on {leaves[j]} ({leaves[j].kind}): "
                                "only parts of one kind can be exchanged"
                            )
                        block = [block[i] if b == block[j] else b for b in block]
    return [tuple(j for j in range(len(leaves)) if block[j] == b) for b in dict.fromkeys(block)]
