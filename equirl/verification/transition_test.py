"""A statistical test of a symmetry on transitions of a black-box environment.

The question is whether what follows from (s, a), say y, is distributed as what follows from
(gs, ga), moved back: y ⟂ L | (s, a), where L says whether a transition is an original or a moved
one. It must not matter *which* states are visited, only what follows from them.

Transitions of one half of the episodes are left as they are (L = 0), those of the other half are
moved by g (L = 1). Two regressions predict y on episodes they were not fitted to, one from (s, a)
and one from (s, a, L); the symmetry is rejected where the second is better with confidence.

- Both kinds are weighted by how likely the *other* kind is at (s, a) (overlap weights, Li et al.
  2018), so that states which only one kind visits say nothing, and a regression that does not fit
  perfectly cannot use L to fit each kind's own states better.
- Predictions count as equal when they differ by less than `FLOOR` of the spread of y; without that
  a deterministic environment would be rejected for the regression's own error.
- Steps of one episode depend on each other: the unit of the test is the episode.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

FLOOR = 0.01
"""Prediction errors below this fraction of the spread of an entry are the regression's own."""

WORST = 50
"""Transitions remembered as counter-examples."""

MARGIN = 1e-3
"""By how much knowing L must lower the mean squared error of residuals in units of their size."""

ROWS_PER_FEATURE = 20
"""Transitions with an action that there must be for each feature of its regression."""

MAX_FEATURES = 200
"""And there are no more than this many."""

WORST = 50
"""Transitions remembered as counter-examples."""

MARGIN = 1e-3
"""By how much knowing L must lower the mean squared error of residuals in units of their size."""

ROWS_PER_FEATURE = 20
"""Transitions with an action that there must be for each feature of its regression."""

MAX_FEATURES = 200
"""And there are no more than this many."""

CLIP = 4.0
"""Residuals count as at most this many times their usual size."""


@dataclass(frozen=True)
class Transitions:
    """N transitions of a number of episodes.

    Args:
        states: flat observations s, ``[N, n]``.
        actions: ``[N]``, from 0.
        outcomes: what is tested, one column per entry, ``[N, m]``.
        episodes: the episode of each transition, ``[N]``.
    """

    states: FloatArray
    actions: IntArray
    outcomes: FloatArray
    episodes: IntArray


@dataclass(frozen=True)
class TestResult:
    """What the test found.

    Args:
        p_values: one per entry of the outcome: how likely so large an advantage of knowing L is
            if the symmetry holds; not corrected for the number of entries.
        worst_transitions: numbers of those for which knowing L helps most, the worst first.
    """

    p_values: FloatArray
    worst_transitions: IntArray

    @property
    def p_value(self) -> float:
        """The smallest p-value, corrected for their number (Bonferroni)."""
        return min(1.0, float(self.p_values.min()) * len(self.p_values))


def compare_transitions(original: Transitions, moved: Transitions, actions: int) -> TestResult:
    """Test whether outcomes depend on which of the two sets a transition is from, given (s, a).

    Args:
        original: every transition, as it happened.
        moved: the same transitions in the same order, moved by g: (gs, ga) and what follows from
            it according to the symmetry.
        actions: number of actions.
    """
    episodes = np.unique(original.episodes)
    # Two bits of the episode's number: which kind it serves as, and which fold it is in.
    position = np.searchsorted(episodes, original.episodes)
    is_moved, fold = position % 2 == 1, (position // 2) % 2
    states = np.where(is_moved[:, None], moved.states, original.states)
    chosen = np.where(is_moved, moved.actions, original.actions)
    outcomes = np.where(is_moved[:, None], moved.outcomes, original.outcomes)
    spread = outcomes.std(axis=0)
    scaled = outcomes / np.where(spread > 0, spread, 1)
    x = _standardised(states)
    evidence = np.zeros_like(scaled)
    for action in range(actions):  # nothing is shared between actions, so each is its own problem
        mine = chosen == action
        if mine.sum() >= 2 * ROWS_PER_FEATURE:
            evidence[mine] = _evidence(x[mine], scaled[mine], is_moved[mine], fold[mine])
    per_episode = np.zeros((len(episodes), scaled.shape[1]))
    np.add.at(per_episode, position, evidence)
    worst = np.argsort(evidence.sum(axis=1))[::-1][:WORST]
    return TestResult(_one_sided_p_values(per_episode), worst)


def _evidence(x: FloatArray, y: FloatArray, is_moved: BoolArray, fold: IntArray) -> FloatArray:
    """``[N, m]``: by how much knowing L improves each prediction on the other fold, weighted."""
    y = _without_outliers(y, np.ones(len(y), dtype=bool), 8)
    features = _polynomials(x, min(len(x) // ROWS_PER_FEATURE, MAX_FEATURES))
    weights = _overlap_weights(features, is_moved)
    # L may shift what follows, and tilt it along each entry: few enough numbers not to be noise.
    simple = np.hstack([np.ones((len(x), 1)), x])
    signed = np.hstack([simple, np.where(is_moved, 1.0, -1.0)[:, None] * simple])
    evidence = np.zeros_like(y)
    for held_out in (0, 1):
        fit, test = fold != held_out, fold == held_out
        if not fit.any():
            continue
        residuals = y - _predictions(features[fit], y[fit], weights[fit], features)
        surprise = _without_outliers(residuals, fit, 4)
        without = _predictions(simple[fit], surprise[fit], weights[fit], simple[test])
        with_label = _predictions(signed[fit], surprise[fit], weights[fit], signed[test])
        gain = (surprise[test] - without) ** 2 - (surprise[test] - with_label) ** 2
        evidence[test] = (gain - MARGIN) * weights[test, None]
    return evidence


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
        return _polynomials(np.clip((some - centre) / spread, -5, 5), 100)

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


def _standardised(states: FloatArray) -> FloatArray:
    """``[N, n']``: the entries that vary, in units of their spread."""
    spread = states.std(axis=0)
    varying = states[:, spread > 0]
    standardised: FloatArray = (varying - varying.mean(axis=0)) / spread[spread > 0]
    return np.clip(standardised, -5, 5)


def _polynomials(x: FloatArray, most: int) -> FloatArray:
    """``[N, features]``: monomials up to the highest degree with at most ``most`` of them."""
    n = x.shape[1]
    degree = 1
    while degree < 4 and math.comb(n + degree + 1, degree + 1) <= most:
        degree += 1
    columns = [np.ones(len(x))]
    for d in range(1, degree + 1):
        for entries in combinations_with_replacement(range(n), d):
            columns.append(np.prod(x[:, entries], axis=1))
    return np.stack(columns, axis=1)


def _overlap_weights(features: FloatArray, is_moved: BoolArray) -> FloatArray:
    """``[N]``: the probability of the other kind at (s, a), by logistic regression."""
    labels = is_moved.astype(np.float64)
    coefficients = np.zeros(features.shape[1])
    ridge = 1e-3 * len(features) * np.eye(features.shape[1])
    probability = np.full(len(features), 0.5)
    for _ in range(8):  # Newton's method
        slope = probability * (1 - probability)
        hessian = (features * slope[:, None]).T @ features + ridge
        gradient = features.T @ (labels - probability) - ridge @ coefficients
        coefficients = coefficients + np.linalg.solve(hessian, gradient)
        logits = np.clip(features @ coefficients, -30, 30)
        probability = 1 / (1 + np.exp(-logits))
    return np.where(is_moved, 1 - probability, probability)


def _predictions(
    features: FloatArray, targets: FloatArray, weights: FloatArray, unseen: FloatArray
) -> FloatArray:
    """Weighted ridge regression of all targets at once, evaluated at ``unseen``."""
    weighted = features * weights[:, None]
    gram = features.T @ weighted
    ridge = 1e-6 * len(features) * np.eye(gram.shape[0])
    prediction: FloatArray = unseen @ np.linalg.solve(gram + ridge, weighted.T @ targets)
    return prediction


def _without_outliers(values: FloatArray, representative: BoolArray, most: float) -> FloatArray:
    """Each entry in units of its usual deviation, and at most ``most`` of them.

    Rare and large values, such as those of a crash, would hide all else. Whatever is done to the
    outcome here is the same for both kinds of transition, so the test stays what it is.
    """
    centre = np.median(values[representative], axis=0)
    deviation = np.median(np.abs(values[representative] - centre), axis=0)
    standardised: FloatArray = (values - centre) / np.maximum(1.5 * deviation, FLOOR)
    return np.clip(standardised, -most, most)


def _one_sided_p_values(per_episode: FloatArray) -> FloatArray:
    """Of a mean above zero; the normal approximation serves for a hundred episodes and more."""
    deviation = per_episode.std(axis=0, ddof=1)
    z = np.where(
        deviation > 0,
        per_episode.mean(axis=0)
        * math.sqrt(len(per_episode))
        / np.where(deviation > 0, deviation, 1),
        0.0,
    )
    return np.array([1 - NormalDist().cdf(float(value)) for value in z])


def compare_initial_states(original: FloatArray, moved: FloatArray) -> float:
    """The p-value of "initial states are distributed symmetrically", by means and mean squares.

    Args:
        original: initial states, ``[episodes, n]``.
        moved: the same, moved by g.
    """
    spread = original.std(axis=0)
    differing = (np.abs(original - moved) > 1e-9).any(axis=0)
    if not differing.any():
        return 1.0
    unit = np.where(spread > 0, spread, 1)[differing]
    a, b = original[::2][:, differing] / unit, moved[1::2][:, differing] / unit
    p_values = []
    for x, y in ((a, b), (a**2, b**2)):
        error = np.sqrt(x.var(axis=0) / len(x) + y.var(axis=0) / len(y))
        difference = np.abs(x.mean(axis=0) - y.mean(axis=0))
        z = np.where(error > 0, difference / np.where(error > 0, error, 1), 0)
        z = np.where((error == 0) & (difference > 1e-9), np.inf, z)
        p_values += [2 * (1 - NormalDist().cdf(min(float(value), 40))) for value in z]
    return min(1.0, min(p_values) * len(p_values))
