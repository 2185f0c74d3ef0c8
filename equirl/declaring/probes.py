"""Calling an observation map on chosen points, to learn which entries its result depends on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from equirl.actions import Block, as_leaves, from_leaves
from equirl.declaring.observation_maps import ObservationMap, as_function
from equirl.declaring.windows import Array, Window
from equirl.errors import SymmetryError
from equirl.shown import reason

MATCHING = 1e-5
"""Relative difference up to which a function counts as following its compiled form; float32
arithmetic inside the function is that coarse."""

NOTHING, SEVERAL = -1, -2


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
