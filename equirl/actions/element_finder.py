"""Finding an element of a group, given by its maps, among others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from equirl.actions.maps import Maps

BlockMaps = tuple[Maps, ...]
"""One element of a group: its map on each block of leaves."""


class ElementFinder:
    """Finds an element among those listed so far, by fingerprint and then in full.

    Args:
        generators: of the group; differences are relative to their numbers.
    """

    def __init__(self, generators: Sequence[BlockMaps]) -> None:
        stacks = [type(maps[0]).stacked(maps) for maps in zip(*generators, strict=True)]
        self._rulers = [stack.rulers() for stack in stacks]
        random = np.random.default_rng(0)
        self._weights: list[dict[str, Any]] = []
        coefficients = 0
        for rulers, maps in zip(self._rulers, generators[0], strict=True):
            present = {name: a for name, a in maps.arrays.items() if a is not None}
            coefficients += sum(array.size for array in present.values())
            # Numbers between ½ and 1½ count differences in units of those that do not count.
            self._weights.append(
                {
                    name: (random.uniform(0.5, 1.5, (4, *a.shape[1:])) / rulers[name])
                    for name, a in present.items()
                }
            )
        # A fingerprint is a sum over all coefficients, whose rounding errors are of either sign.
        self._rounding = 3 * math.sqrt(coefficients)
        self._fingerprints: list[npt.NDArray[np.float64]] = []

    def __call__(self, elements: Sequence[BlockMaps], element: BlockMaps) -> int | None:
        """The position of ``element``; ``elements`` must begin with those of the call before."""
        for known in elements[len(self._fingerprints) :]:
            self._fingerprints.append(self._fingerprint(known))
        wanted = self._fingerprint(element)
        known_prints = np.stack(self._fingerprints[: len(elements)])
        close = np.abs(known_prints - wanted) <= self._rounding + 1e-9 * np.abs(wanted)
        for candidate in np.flatnonzero(close.all(axis=1)).tolist():
            if self._is_same(elements[candidate], element):
                return int(candidate)
        return None

    def _fingerprint(self, element: BlockMaps) -> npt.NDArray[np.float64]:
        # Arrays that are None have neither weights nor rulers.
        parts = [
            weight.reshape(4, -1) @ maps.arrays[name].ravel()  # type: ignore[union-attr]
            for weights, maps in zip(self._weights, element, strict=True)
            for name, weight in weights.items()
        ]
        return np.concatenate(parts)

    def _is_same(self, one: BlockMaps, other: BlockMaps) -> bool:
        # As above, for mypy.
        return all(
            bool((np.abs(x.arrays[name] - y.arrays[name]) <= ruler).all())  # type: ignore[operator]
            for rulers, x, y in zip(self._rulers, one, other, strict=True)
            for name, ruler in rulers.items()
            if x.arrays[name] is not None
        )
