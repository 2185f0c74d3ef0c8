"""How far apart what was expected and what was found are."""

from __future__ import annotations

from typing import Any

import numpy as np

LEAST_SHARE, LEAST_SIZE = 1e-2, 1e-3
"""Of the size of an entry; see `Differences`. With a tolerance of 1e-4, rounding of 1e-6 of the
largest entry counts as none."""


class Differences:
    """How far apart what was expected and found are, entry by entry, relative to their sizes.

    Whole numbers and categories are not rounded: those that differ at all are one apart or more.

    An entry's size is its own magnitude plus the largest seen of it so far, which counts as at
    most one; no entry is taken for less than a `LEAST_SHARE` of the largest beside it, below which
    rounding of that one shows, or than `LEAST_SIZE`.
    """

    def __init__(self) -> None:
        self._largest: dict[str, Any] = {}

    def __call__(self, name: str, expected: Any, found: Any) -> float:
        """The largest relative difference; infinite where one alone is infinite or NaN.

        Args:
            name: of the quantity, whose sizes are remembered.
            expected: an array, a number, or a dict of them.
            found: likewise.
        """
        if isinstance(expected, dict):
            parts = [(f"{name}.{key}", expected[key], found[key]) for key in expected]
            return max((self(*part) for part in parts), default=0.0)
        exact = np.asarray(expected), np.asarray(found)
        is_whole = all(one.dtype.kind in "biu" for one in exact)
        a, b = (one.astype(np.float64) for one in exact)
        magnitude = np.where(np.isfinite(a), np.abs(a), 0)
        largest = self._largest[name] = np.maximum(self._largest.get(name, 0.0), magnitude)
        least = max(LEAST_SHARE * float(largest.max(initial=0)), LEAST_SIZE)
        sizes = np.maximum(np.minimum(largest, 1) + magnitude, least)
        same = (exact[0] == exact[1]) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):  # inf - inf, which is the same or not finite
            apart = np.where(same, 0, np.maximum(np.abs(a - b) / sizes, float(is_whole)))
        return float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0))
