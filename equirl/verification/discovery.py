"""Finding the symmetries of a low-dimensional environment from nothing but random play."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import permutations, product
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry
from equirl.verification.fitted_dynamics import fitted_outcomes
from equirl.verification.play import Play
from equirl.verification.statistical import check_statistically
from equirl.verification.statistics.learners import FloatArray

IntArray = npt.NDArray[np.int64]

MAX_CANDIDATES = 2_000_000
"""Signed permutations of the observation times permutations of the actions."""

SAME_DISTRIBUTION = 0.06
"""Entries whose absolute values differ by more than this (Kolmogorov-Smirnov) are not exchanged."""

GOOD_FIT = 0.5
"""A candidate may contradict the fitted dynamics by this fraction of what they explain."""

SLACK = 0.25
"""Moved states may exceed the range of the states seen by this fraction of it."""

Candidate = tuple[IntArray, FloatArray, IntArray]
"""Observation permutation, signs, action permutation: (gs)[i] = signs[i] · s[order[i]]."""


def discover_symmetries(played: Play, action_count: int, level: float = 0.01) -> list[Candidate]:
    """The signed permutations of the observation, with action permutations, that the task has.

    Entries are exchanged only if their absolute values are distributed alike. Each candidate is
    held against dynamics fitted to the transitions, which costs little; what remains goes through
    the statistical test of `equirl.verification.statistical`.

    Args:
        played: random play; 20,000 transitions and more serve well.
        action_count: number of actions.
        level: of the final test, for each candidate.

    Raises:
        SymmetryError: observations are not vectors, or there are too many candidates.
    """
    states = played.observations.astype(np.float64)
    if states.ndim != 2:
        raise SymmetryError("discovery takes observations that are vectors")
    orders = list(_orders(states))
    count = len(orders) * 2 ** states.shape[1] * math.factorial(action_count)
    if count > MAX_CANDIDATES:
        raise SymmetryError(
            f"{count} candidates are too many to search: {states.shape[1]} entries, "
            f"{action_count} actions"
        )
    changes = played.next_observations.astype(np.float64) - states
    predicted, noise = fitted_outcomes(states, played.actions, changes, action_count)
    found = [
        candidate
        for candidate in _candidates(orders, states.shape[1], action_count)
        if _agrees(candidate, states, predicted, noise)
    ]
    return [candidate for candidate in found if _passes(candidate, played, action_count, level)]


def as_generators(found: list[Candidate]) -> dict[str, tuple[FloatArray, IntArray]]:
    """Candidates as a declaration: name -> (matrix on observations, action permutation)."""
    generators = {}
    for number, (order, signs, actions) in enumerate(found):
        matrix = np.zeros((len(order), len(order)))
        matrix[np.arange(len(order)), order] = signs
        generators["mirror" if len(found) == 1 else f"g{number + 1}"] = (matrix, actions)
    return generators


def _orders(states: FloatArray) -> Iterator[IntArray]:
    """Permutations of the entries that exchange like with like."""
    n = states.shape[1]
    sample = np.sort(np.abs(states[:: max(1, len(states) // 4000)]), axis=0)
    alike = np.array([[_ks(sample[:, i], sample[:, j]) for j in range(n)] for i in range(n)])
    for order in permutations(range(n)):
        if all(alike[i, j] < SAME_DISTRIBUTION for i, j in enumerate(order)):
            yield np.array(order)


def _ks(a: FloatArray, b: FloatArray) -> float:
    both = np.concatenate([a, b])
    difference = np.searchsorted(a, both, side="right") / len(a) - np.searchsorted(
        b, both, side="right"
    ) / len(b)
    return float(np.abs(difference).max())


def _candidates(orders: list[IntArray], n: int, action_count: int) -> Iterator[Candidate]:
    for order in orders:
        for signs in product((1.0, -1.0), repeat=n):
            for actions in permutations(range(action_count)):
                moves = signs != (1.0,) * n or not np.array_equal(order, np.arange(n))
                if moves:
                    yield order, np.array(signs), np.array(actions)


def _agrees(candidate: Candidate, states: FloatArray, predicted: Any, noise: FloatArray) -> bool:
    """Whether gs is where states are seen, and f(gs, ga) near g·f(s, a) for the mean change f."""
    order, signs, actions = candidate
    low, high = np.quantile(states, (0.01, 0.99), axis=0)
    moved = np.sort(np.stack([signs * low[order], signs * high[order]]), axis=0)
    slack = SLACK * (high - low) + 1e-12
    if (moved[0] < low - slack).any() or (moved[1] > high + slack).any():
        return False
    sample = states[:: max(1, len(states) // 200)]
    for action in range(len(actions)):
        expected = signs * predicted(sample, action)[:, order]
        got = predicted(signs * sample[:, order], int(actions[action]))
        if (np.abs(got - expected).mean(axis=0) > GOOD_FIT * noise).any():
            return False
    return True


def _passes(candidate: Candidate, played: Play, action_count: int, level: float) -> bool:
    generators: Any = as_generators([candidate])
    n = played.observations.shape[1]
    try:
        symmetry = Symmetry.from_generators(
            spaces.Box(-np.inf, np.inf, (n,), np.float64), spaces.Discrete(action_count), generators
        )
    except SymmetryError:  # such as actions of another order than the observations
        return False
    verdicts = check_statistically(symmetry, "mirror", played, level, measure_sensitivity=False)
    return all(verdict.holds for verdict in verdicts)
