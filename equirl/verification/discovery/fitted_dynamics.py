"""Dynamics fitted to random play, which screen the candidates in the search for symmetries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equirl.verification.statistics.learners import FloatArray, IntArray, polynomials, ridge

GOOD_FIT = 0.5
"""A candidate may contradict the fitted dynamics by this fraction of what they explain."""

SAMPLE = 300
"""Steps of play at which a candidate is held against the fitted dynamics."""

MOST_FEATURES = 500


@dataclass(frozen=True)
class FittedDynamics:
    """Regressions of what follows on polynomials of (s, a), one for each half of the episodes.

    Args:
        centre: of z = (s, a), ``[N]``.
        spread: of z, ``[N]``.
        choices: for discrete actions which entries of z say which it is, for each its own
            regression; else none.
        coefficients: ``[2, max(1, choices), features, outcomes]``.
        sample: some z of the play, ``[rows, N]``.
        tolerance: what a candidate may be off by on average, ``[outcomes]``.
    """

    centre: FloatArray
    spread: FloatArray
    choices: int
    coefficients: FloatArray
    sample: FloatArray
    tolerance: FloatArray

    @classmethod
    def to(
        cls, z: FloatArray, outcomes: FloatArray, fold: IntArray, choices: int
    ) -> FittedDynamics:
        """Fit them.

        Args:
            z: (s, a), ``[rows, N]``.
            outcomes: ``[rows, m]``.
            fold: 0 or 1, ``[rows]``.
            choices: how many discrete actions, 0 for continuous ones.
        """
        spread = z.std(axis=0)
        fitted = cls(
            z.mean(axis=0),
            np.where(spread > 0, spread, 1.0),
            choices,
            np.zeros(0),
            np.random.default_rng(0).permutation(z)[:SAMPLE],
            np.zeros(0),
        )
        features, code = fitted._features(z), fitted._codes(z)
        coefficients = []
        for half in (0, 1):
            for action in range(max(1, choices)):
                mine = (fold == half) & (code == action)
                if not mine.any():
                    coefficients.append(np.zeros((features.shape[1], outcomes.shape[1])))
                    continue
                low, high = np.quantile(outcomes[mine], (0.005, 0.995), axis=0)
                rare = low == high
                y = np.where(rare, outcomes[mine], np.clip(outcomes[mine], low, high))
                coefficients.append(ridge(features[mine], y, 1e-5))
        shape = (2, max(1, choices), features.shape[1], outcomes.shape[1])
        fitted = cls(
            fitted.centre,
            fitted.spread,
            choices,
            np.stack(coefficients).reshape(shape),
            fitted.sample,
            np.zeros(0),
        )
        one, other = fitted._by_halves(fitted.sample)
        explained = ((one + other) / 2).std(axis=0)
        tolerance = GOOD_FIT * explained + 2 * np.abs(one - other).mean(axis=0) + 1e-9
        return cls(
            fitted.centre, fitted.spread, choices, fitted.coefficients, fitted.sample, tolerance
        )

    def contradiction(self, matrix: FloatArray) -> float:
        """How far f(gs, ga) is from g·f(s, a), 1 being the most that is tolerated.

        Args:
            matrix: of g on z, ``[N, N]``.
        """
        moved = self.sample @ matrix.T
        here = np.mean(self._by_halves(self.sample), axis=0)
        there = np.mean(self._by_halves(moved), axis=0)
        n = here.shape[1] - 2
        here[:, :n] = here[:, :n] @ matrix[:n, :n].T
        return float((np.abs(there - here).mean(axis=0) / self.tolerance).max())

    def _by_halves(self, z: FloatArray) -> FloatArray:
        """``[2, rows, outcomes]``."""
        features, code = self._features(z), self._codes(z)
        predicted = np.zeros((2, len(z), self.coefficients.shape[3]))
        for action in range(max(1, self.choices)):
            mine = code == action
            predicted[:, mine] = features[mine] @ self.coefficients[:, action]
        return predicted

    def _features(self, z: FloatArray) -> FloatArray:
        scaled = np.clip((z - self.centre) / self.spread, -5, 5)
        numbers = scaled[:, : z.shape[1] - self.choices]
        return polynomials(numbers, 100 if self.choices else MOST_FEATURES)

    def _codes(self, z: FloatArray) -> FloatArray:
        if not self.choices:
            return np.zeros(len(z))
        return np.asarray(z[:, z.shape[1] - self.choices :].argmax(axis=1))
