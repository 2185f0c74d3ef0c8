"""Calling an observation map on chosen points, to learn which entries its result depends on."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.actions import Block, Leaf, as_leaves, from_leaves, leaves_of
from equirl.declaring.observation_maps import ObservationMap, as_function
from equirl.errors import SymmetryError
from equirl.shown import reason

Array = npt.NDArray[Any]

MATCHING = 1e-5
"""Relative difference up to which a function counts as following its compiled form; float32
arithmetic inside the function is that coarse."""

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

NOTHING, SEVERAL = -1, -2


class Window:
    """Where the maps on a space are probed: strictly within the bounds that it declares.

    All arrays have one number for each flat entry, leaf after leaf: ``[entries]``.

    Args:
        space: the space, of observations or of actions.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.leaves = leaves_of(space)
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


class Probe:
    """A map that can be called on flat points, with everything it returns checked.

    Args:
        name: the generator's name, for messages.
        function: the map as `Symmetry.from_generators` takes it.
        window: of the space it acts on.
        what: ``"observation"`` or ``"action"``, for messages.
    """

    def __init__(
        self, name: str, function: ObservationMap, window: Window, what: str = "observation"
    ) -> None:
        self.title = f"{what} map {name!r}"
        self.window, self._what = window, what
        self._function = as_function(self.title, function, window.leaves)

    def __call__(self, point: Array) -> Array:
        """``[entries] -> [entries]``, float64."""
        leaves, given = self.window.leaves, []
        for leaf, part in zip(leaves, np.split(point, self.window.starts[1:-1]), strict=True):
            # Floats are probed in double precision, so that cos(2π/3) keeps all its digits.
            dtype = np.float64 if leaf.is_float else leaf.dtype
            array = part.astype(np.int64).astype(dtype) if not leaf.is_float else part.copy()
            given.append(array.reshape(leaf.shape) if leaf.shape else array[0])
        try:
            with np.errstate(all="ignore"):  # integers may wrap; infinities are refused below
                moved = self._function(from_leaves(given, leaves))
        except Exception as error:
            raise SymmetryError(
                f"{self.title} failed on one {self._what}: {reason(error)}"
            ) from error
        arrays = as_leaves(moved, leaves)
        return np.concatenate([self._checked(a, j) for j, a in enumerate(arrays)])

    def _checked(self, array: Any, j: int) -> Array:
        leaf = self.window.leaves[j]
        try:
            result = np.asarray(array)
        except Exception as error:  # nested lists of unequal lengths, or a class of its own
            raise SymmetryError(f"{self.title} returns no array: {reason(error)}") from error
        if result.shape != leaf.shape:
            raise SymmetryError(
                f"{self.title} turns {self.leaf_name(j)} of shape {leaf.shape} into shape "
                f"{result.shape}: it must keep the shape"
            )
        if result.dtype.kind not in "biuf":
            raise SymmetryError(f"{self.title} returns {result.dtype}, not real numbers")
        if not np.isfinite(result).all():
            raise SymmetryError(f"{self.title} returns values that are not finite")
        if leaf.is_float:
            return result.astype(np.float64).ravel()
        if (result != np.rint(result)).any():
            raise SymmetryError(f"{self.title} returns fractions for {leaf.dtype}")
        if leaf.low is None and result.dtype != leaf.dtype:  # else it has wrapped around already
            limits = np.iinfo(np.dtype(leaf.dtype))
            # Truth values become numbers: NumPy compares them with no bound of uint64.
            numbers = result.astype(np.int64) if result.dtype.kind == "b" else result
            outside = (numbers < limits.min) | (numbers > limits.max)
            if outside.any():
                raise SymmetryError(
                    f"{self.title} returns {result[outside].flat[0]:g}, which {leaf.dtype} cannot "
                    "hold"
                )
        return result.astype(np.int64).astype(np.float64).ravel()

    def leaf_name(self, j: int) -> str:
        """``the observation`` or ``observation['key']``."""
        key = self.window.leaves[j].key
        return f"the {self._what}" if key is None else f"{self._what}[{key!r}]"

    def entry_name(self, entry: int) -> str:
        """The flat entry as one would index it: ``[0, 2]`` or ``'key'[0, 2]``."""
        j = int(self.window.leaf[entry])
        leaf, inside = self.window.leaves[j], entry - int(self.window.starts[j])
        where = [int(i) for i in np.unravel_index(inside, leaf.shape)] if leaf.shape else ""
        return f"{where or '(the only one)'}" if leaf.key is None else f"{leaf.key!r}{where}"

    def differs(self, before: Array, after: Array) -> Array:
        """Which entries of two results differ by more than rounding."""
        rounding = MATCHING * (self.window.unit + np.abs(before))
        differs: Array = np.abs(after - before) > np.where(self.window.is_float, rounding, 0.0)
        return differs


def sources(probe: Probe, group: Array) -> Array:
    """Which group of entries each entry of the result depends on, NOTHING, or SEVERAL.

    Two calls for each binary digit of the groups' numbers: one changes the entries of all groups
    that have the digit, the other those of all that lack it. A result that depends on one group
    changes in exactly one of the two, and so spells its number; one that depends on two groups
    changes in both at a digit where they differ. This is certain for results that rename one
    finite entry; for affine results up to a choice of numbers that cancels out, which random
    numbers do not. Of other functions it is a guess that has to be tested.

    Args:
        group: int64 ``[entries]``, the number of each entry's group.
    """
    window = probe.window
    start, other = window.two_points()
    before = probe(start)
    found = np.zeros(len(group), dtype=np.int64)
    alone, moved = np.ones(len(group), dtype=bool), np.zeros(len(group), dtype=bool)
    count = int(group.max()) + 1
    for digit in range(max(1, (count - 1).bit_length())):
        chosen = (group >> digit) & 1 == 1
        having = probe.differs(before, probe(np.where(chosen, other, start)))
        lacking = probe.differs(before, probe(np.where(chosen, start, other)))
        found |= having.astype(np.int64) << digit
        alone &= having != lacking
        moved |= having | lacking
    return np.where(alone & (found < count), found, np.where(moved, SEVERAL, NOTHING))


def leaf_sources(probe: Probe, entry: Array) -> set[tuple[int, int]]:
    """Which leaves depend on which, as (leaf of the result, leaf it depends on).

    Args:
        entry: the entry on which each entry of the result depends, as `sources` finds it.
    """
    window = probe.window
    alone, mixed = np.flatnonzero(entry >= 0), entry == SEVERAL
    pairs = _pairs(window.leaf[alone], window.leaf[entry[alone]])
    if len(window.leaves) == 1 or not mixed.any():
        return pairs
    leaf = sources(probe, window.leaf)
    alone = np.flatnonzero(mixed & (leaf >= 0))
    pairs |= _pairs(window.leaf[alone], leaf[alone])
    start, other = window.two_points()
    before = probe(start)

    def halve(leaves: Array, wanted: Array) -> None:
        chosen = np.isin(window.leaf, leaves)
        hit = wanted & probe.differs(before, probe(np.where(chosen, other, start)))
        if not hit.any():
            return
        if len(leaves) == 1:
            pairs.update(_pairs(window.leaf[hit], np.full(hit.sum(), leaves[0])))
            return
        for half in np.array_split(leaves, 2):
            halve(half, hit)

    rest = mixed & (leaf == SEVERAL)
    if rest.any():
        for half in np.array_split(np.arange(len(window.leaves)), 2):
            halve(half, rest)
    return pairs


def _pairs(results: Array, given: Array) -> set[tuple[int, int]]:
    distinct = np.unique(np.stack([results, given], axis=1), axis=0)
    return {(i, j) for i, j in distinct.tolist()}


def joined(count: int, pairs: Iterable[tuple[int, int]]) -> list[Block]:
    """The smallest blocks of ``count`` leaves that keep every pair together."""
    block = list(range(count))
    for i, j in pairs:
        if block[i] != block[j]:
            old, new = block[j], block[i]
            block = [new if b == old else b for b in block]
    return [tuple(j for j in range(count) if block[j] == b) for b in dict.fromkeys(block)]


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
