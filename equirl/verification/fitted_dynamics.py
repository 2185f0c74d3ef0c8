"""Dynamics fitted to random play, which screen the candidates in the search for symmetries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from equirl.verification.statistics.learners import FloatArray, IntArray, polynomials


def fitted_outcomes(
    states: FloatArray, chosen: IntArray, outcomes: FloatArray, actions: int
) -> tuple[Callable[[FloatArray, int], FloatArray], FloatArray]:
    """A polynomial regression of outcomes on states, action by action.

    Returns:
        The fitted mean outcome as a function of states ``[k, n]`` and an action, and the spread of
        what it explains, ``[m]``.
    """
    centre, spread = states.mean(axis=0), np.where(states.std(axis=0) > 0, states.std(axis=0), 1)

    def features(some: FloatArray) -> FloatArray:
        return polynomials(np.clip((some - centre) / spread, -5, 5), 100)

    coefficients = []
    for action in range(actions):
        mine = chosen == action
        low, high = np.quantile(outcomes[mine], (0.01, 0.99), axis=0)
        x, y = features(states[mine]), np.clip(outcomes[mine], low, high)
        ridge = 1e-6 * len(x) * np.eye(x.shape[1])
        coefficients.append(np.linalg.solve(x.T @ x + ridge, x.T @ y))

    def mean_outcome(some: FloatArray, action: int) -> FloatArray:
        prediction: FloatArray = features(some) @ coefficients[action]
        return prediction

    explained = np.stack([mean_outcome(states, action).std(axis=0) for action in range(actions)])
    between = np.stack([mean_outcome(states, action) for action in range(actions)]).std(axis=0)
    return mean_outcome, np.maximum(explained.max(axis=0), between.mean(axis=0)) + 1e-12
