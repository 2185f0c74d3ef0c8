"""`Window`: the points of a space on which maps are called, strictly within its bounds."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.actions import Block, Leaf, leaves_of

Array = npt.NDArray[Any]

FAR = 1e6
"""Bounds of floats beyond this count as infinite."""

WIDE = 2**20
"""Whole numbers are probed within this distance of the one next to 0."""

NEAR = 64
"""Two whole numbers that are told apart differ by less than this; a byte wraps around at 256."""

SCALES = (0.1, 1.0, 10.0, 100.0, 1e4) * 3
"""How far from the bound or from 0 entries without bounds lie in random points."""

ALL = 512
"""A space of whole numbers with no more points than this is tried completely."""


class Window:
    """Where the maps on a space are probed: strictly within the bounds that it declares.

    All arrays have one number for each flat entry, leaf after leaf: ``[entries]``.

    Args:
        space: the space, of observations or of actions.
        what: the points of it are, for messages.
    """

    def __init__(self, space: spaces.Space[Any], what: str = "observation") -> None:
        self.leaves = leaves_of(space, what)
        sizes = [leaf.size for leaf in self.leaves]
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        self.leaf = np.repeat(np.arange(len(sizes)), sizes)
        self.is_float = np.repeat([leaf.is_float for leaf in self.leaves], sizes)
        bits = [8 * np.dtype(leaf.dtype).itemsize for leaf in self.leaves]
        wraps = [
            not leaf.is_float and leaf.low is None and b < 64
            for leaf, b in zip(self.leaves, bits, strict=True)
        ]
        self.modulus = np.repeat(
            [2.0**b if w else 0.0 for b, w in zip(bits, wraps, strict=True)], sizes
        )
        parts: Any = space.spaces if isinstance(space, spaces.Dict) else {None: space}
        bounds = [_declared_bounds(leaf, parts[leaf.key]) for leaf in self.leaves]
        self.low, self.high = (np.concatenate(ends) for ends in zip(*bounds, strict=True))
        self.least, self.most, self.centre, self.unit = (np.empty(len(self.leaf)) for _ in range(4))
        self._place_floats(self.is_float)
        self._place_whole_numbers(~self.is_float)
        self.fixed = self.least == self.most
        """Whole numbers of one value; floats of one value are probed around it."""

    def _place_floats(self, where: Array) -> None:
        low, high = self.low[where], self.high[where]
        low, high = np.where(low > -FAR, low, -np.inf), np.where(high < FAR, high, np.inf)
        one_value = ~(low < high)
        low, high = np.where(one_value, low - 1, low), np.where(one_value, high + 1, high)
        above, below = np.isfinite(low), np.isfinite(high)
        with np.errstate(invalid="ignore"):
            grid = _power_of_two(np.where(above & below, high - low, 16.0) / 16)
            # At 0 offsets are read off exactly; elsewhere at a number of few binary digits.
            near_edge = ~((low <= -grid) & (high >= grid))
            middle = np.rint((low + high) / 2 / grid) * grid
        beside = np.where(above, np.ceil(low) + 1, np.floor(high) - 1)
        self.centre[where] = np.where(near_edge, np.where(above & below, middle, beside), 0.0)
        distance = np.minimum(self.centre[where] - low, high - self.centre[where])
        self.unit[where] = _power_of_two(np.minimum(distance, np.where(above & below, distance, 1)))
        self.least[where], self.most[where] = low, high

    def _place_whole_numbers(self, where: Array) -> None:
        low, high = self.low[where], self.high[where]
        centre = np.clip(0.0, low, high)
        self.least[where] = np.maximum(low, centre - WIDE)
        self.most[where] = np.minimum(high, centre + WIDE)
        self.centre[where], self.unit[where] = centre, 1.0

    def entries(self, block: Block) -> Array:
        """The flat entries of a block of leaves, in its order."""
        return np.concatenate([np.arange(self.starts[j], self.starts[j + 1]) for j in block])

    def two_points(self) -> tuple[Array, Array]:
        """Two points that differ in every entry of more than one value, else in nothing special."""
        generator, n = np.random.default_rng(1), len(self.leaf)
        start = self.centre + self.unit * generator.uniform(-0.4, 0.4, n)
        other = start + self.unit * generator.uniform(0.25, 0.5, n) * generator.choice([-1, 1], n)
        # Near enough to each other that a difference which wraps around is known.
        low = np.minimum(np.maximum(self.centre - NEAR // 2, self.least), self.most)
        values = np.where(self.is_float, 1, np.minimum(self.most - low + 1, NEAR)).astype(np.int64)
        first = generator.integers(0, values)
        second = (first + generator.integers(1, np.maximum(values, 2))) % values
        return (
            np.where(self.is_float, start, low + first),
            np.where(self.is_float, other, low + second),
        )

    def random_points(self) -> list[tuple[Array, Array]]:
        """Points all over the space, each with how far from the centre its entries may lie."""
        generator, n = np.random.default_rng(0), len(self.leaf)
        with np.errstate(over="ignore"):
            total = np.prod(np.where(self.is_float, np.inf, self.most - self.least + 1))
        if total <= ALL:
            ranges = [range(int(a), int(b) + 1) for a, b in zip(self.least, self.most, strict=True)]
            return [(np.array(p, dtype=np.float64), self.unit) for p in product(*ranges)]
        whole = np.where(self.is_float, 0, np.nan_to_num([self.least, self.most])).astype(np.int64)
        above, below = np.isfinite(self.least), np.isfinite(self.most)
        low, high = np.where(above, self.least, 0), np.where(below, self.most, 0)
        points = []
        for k, scale in enumerate(SCALES):
            # Every third time near the bounds, where a map that bends does so most.
            part = generator.uniform(0.001, 0.999, n)
            part = np.where(part < 0.5, 0.002, 0.998) if k % 3 == 2 else part
            away = scale * generator.normal(size=n)
            point = np.where(above, low + np.abs(away), np.where(below, high - np.abs(away), away))
            point = np.where(above & below, low + part * (high - low), point)
            numbers = generator.integers(whole[0], whole[1] + 1)
            reach = np.where(above & below, (high - low) / 2, scale)
            points.append((np.where(self.is_float, point, numbers), reach))
        return points

    def wrapped(self, difference: Array, where: Array | slice = slice(None)) -> Array:
        """Differences of results at these entries, undoing the wrap-around of integers."""
        modulus = self.modulus[where]
        m = np.where(modulus > 0, modulus, 1.0)
        return np.where(modulus > 0, (difference + m / 2) % m - m / 2, difference)


def _declared_bounds(leaf: Leaf, space: Any) -> tuple[Array, Array]:
    """The lowest and highest point of a leaf, flat and float64."""
    if leaf.low is not None and leaf.values is not None:
        low = np.array(leaf.low, dtype=np.float64)
        return low, low + np.array(leaf.values, dtype=np.float64) - 1
    low, high = space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
    if not leaf.is_float:
        # Bounds that a cast has wrapped around, or too far off for float64, bound nothing.
        limits = np.iinfo(np.dtype(leaf.dtype))
        lost = (low > high) | (low > 2**52) | (high < -(2**52))
        low, high = np.where(lost, float(limits.min), low), np.where(lost, float(limits.max), high)
    return low, high


def _power_of_two(x: Array) -> Array:
    """The largest power of two up to each number."""
    return np.exp2(np.floor(np.log2(x)))
