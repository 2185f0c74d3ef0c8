"""Percentile bootstrap intervals over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95
"""Probability that an interval is to cover what it estimates."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; NaN bounds where a single seed says nothing about the spread."""

    point: float
    low: float
    high: float


class Bootstrap:
    """Resampling of seeds with replacement (Efron 1979), percentile intervals.

    Args:
        reps: number of resamples.
        seed: of the random numbers.

    Example:
        >>> Bootstrap(100, seed=0).mean([2.0, 2.0, 2.0])
        Estimate(point=2.0, low=2.0, high=2.0)
    """

    def __init__(self, reps: int, seed: int) -> None:
        self.reps = reps
        self._rng = np.random.default_rng(seed)

    def mean(self, values: Any) -> Estimate:
        """Of the mean of ``values`` ``[n]``."""
        low, high = self.band(np.asarray(values, float)[:, None])
        return Estimate(float(np.mean(values)), float(low[0]), float(high[0]))

    def ratio(self, above: Any, below: Any) -> Estimate:
        """Of mean(above) / mean(below), both resampled, each for itself; NaN beside any zero."""
        above, below = np.asarray(above, float), np.asarray(below, float)
        if (below == 0).any():  # nothing to compare with
            return Estimate(np.nan, np.nan, np.nan)
        with np.errstate(invalid="ignore"):  # of times that were not measured
            point = float(above.mean() / below.mean())
            if min(len(above), len(below)) < 2:
                return Estimate(point, np.nan, np.nan)
            ratios = (self._weights(len(above)) @ above) / (self._weights(len(below)) @ below)
        return Estimate(point, *_percentiles(ratios))

    def band(self, curves: Any) -> tuple[Any, Any]:
        """Pointwise, of the mean of ``curves`` ``[n, points]``: low and high, each ``[points]``."""
        if len(curves) < 2:
            unknown = np.full(curves.shape[1], np.nan)
            return unknown, unknown
        low, high = _percentiles(self._weights(len(curves)) @ curves)
        return low, high

    def _weights(self, n: int) -> Any:
        """``[reps, n]``: how often each seed is in a resample, over n."""
        return self._rng.multinomial(n, np.full(n, 1 / n), size=self.reps) / n


def _percentiles(resampled: Any) -> Any:
    return np.percentile(resampled, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)
