"""What follows from (s, a) on average, learned from other episodes; and who visits which states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

TREES: dict[str, Any] = {
    "max_iter": 40,
    "learning_rate": 0.15,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 30,
    "l2_regularization": 1.0,
    "early_stopping": False,
    "random_state": 0,
}
"""Of gradient-boosted trees: enough for steps and interactions, few enough to be quick."""

TREE_ROWS = 24_000
"""The most transitions that trees are grown on."""

TREE_COLUMNS = 4
"""Outcomes per quantity that trees are tried on: those that polynomials explain least."""

ROWS_PER_FEATURE = 20
MAX_FEATURES = 200

VISIBLE = 0.002
"""By how much knowing (s, a) must lower the log loss to tell original and moved states apart."""


@dataclass(frozen=True)
class Inputs:
    """What outcomes are predicted from, for N rows.

    Args:
        x: states ``[N, p]``.
        actions: ``[N, q]``.
        codes: which action, ``[N]``; all zero for continuous ones.
        places: number of the (s, a), ``[N]``.
        fold: 0 or 1, ``[N]``.
    """

    x: FloatArray
    actions: FloatArray
    codes: IntArray
    places: IntArray
    fold: IntArray

    @cached_property
    def both(self) -> FloatArray:
        """States and actions, ``[N, p + q]``."""
        return np.hstack([self.x, self.actions])


def conditional_means(inputs: Inputs, y: FloatArray, with_trees: bool = True) -> FloatArray:
    """E[y | s, a] for every row, each learned from the rows of the other fold.

    A polynomial regression per action, corrected by the mean at the same (s, a) where those recur,
    or gradient-boosted trees: for each column what predicts rows that it has not seen best.

    Args:
        inputs: N rows.
        y: outcomes ``[N, m]``.
        with_trees: try them.
    """
    means, codes, fold = np.zeros_like(y), inputs.codes, inputs.fold
    x = inputs.both if codes.max(initial=0) == 0 else inputs.x
    for held_out in (0, 1):
        for code in np.unique(codes):
            fit, test = (fold != held_out) & (codes == code), (fold == held_out) & (codes == code)
            if fit.any() and test.any():
                means[test] = _polynomial_prediction(x[fit], y[fit], x[test])
    if inputs.places.max(initial=0) * 2 < len(y):
        corrected = means + _means_at_places(inputs, y - means)
        better = np.square(y - corrected).mean(axis=0) < np.square(y - means).mean(axis=0)
        means = np.where(better, corrected, means)
    return _or_trees(inputs, y, means) if with_trees else means


def _means_at_places(inputs: Inputs, residuals: FloatArray) -> FloatArray:
    """The mean residual of the other fold at the same (s, a), shrunk where there are few."""
    count = int(inputs.places.max()) + 1
    means = np.zeros_like(residuals)
    for held_out in (0, 1):
        fit, test = np.flatnonzero(inputs.fold != held_out), inputs.fold == held_out
        at = inputs.places[fit]
        gather = sparse.csr_matrix(
            (np.ones(len(fit)), (at, np.arange(len(fit)))), (count, len(fit))
        )
        visits = np.bincount(at, minlength=count)
        mean = (gather @ residuals[fit]) / (visits + 1)[:, None]
        means[test] = mean[inputs.places[test]]
    return means


def _or_trees(inputs: Inputs, y: FloatArray, means: FloatArray) -> FloatArray:
    """Trees instead, for the few columns that are explained least, where they do better."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # seconds, which training need not

    fold, both = inputs.fold, inputs.both
    unexplained = np.square(y - means).mean(axis=0) / np.maximum(y.var(axis=0), 1e-12)
    poor = [int(j) for j in np.argsort(-unexplained)[:TREE_COLUMNS] if unexplained[j] > 0.05]
    for j in poor:
        guess = np.zeros(len(y))
        for held_out in (0, 1):
            fit, test = _some(fold != held_out), fold == held_out
            if len(fit) < 4 * TREES["min_samples_leaf"]:
                return means
            model = HistGradientBoostingRegressor(**TREES).fit(both[fit], y[fit, j])
            guess[test] = model.predict(both[test])
        if np.square(y[:, j] - guess).mean() < np.square(y[:, j] - means[:, j]).mean():
            means[:, j] = guess
    return means


def log_odds(
    inputs: FloatArray, is_original: BoolArray, weights: FloatArray, fold: IntArray
) -> FloatArray:
    """The log odds of being an original, not moved, from trees grown on the other fold: ``[N]``."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    odds = np.zeros(len(inputs))
    for held_out in (0, 1):
        fit, test = _some(fold != held_out, weights), fold == held_out
        if len(np.unique(is_original[fit])) < 2:
            continue
        model = HistGradientBoostingClassifier(**TREES)
        model.fit(inputs[fit], is_original[fit])
        odds[test] = model.decision_function(inputs[test])
    return odds


def propensities(
    inputs: FloatArray,
    is_original: BoolArray,
    weights: FloatArray,
    fold: IntArray,
    by_trees: FloatArray,
) -> FloatArray:
    """How likely a row with its (s, a) is an original rather than a moved one, ``[N]``.

    One half everywhere unless a logistic regression or trees tell them apart on unseen rows.

    Args:
        inputs: states and actions, ``[N, p + q]``.
        is_original: ``[N]``.
        weights: ``[N]``.
        fold: 0 or 1, ``[N]``.
        by_trees: the log odds that `log_odds` gives, ``[N]``.
    """
    from sklearn.linear_model import LogisticRegression

    best, lowest = np.full(len(inputs), 0.5), math.log(2) - VISIBLE
    quadratic = np.hstack([inputs, np.square(inputs)])
    straight = np.zeros(len(inputs))
    for held_out in (0, 1):
        fit, test = _some(fold != held_out), fold == held_out
        logistic = LogisticRegression(C=0.1, max_iter=50, tol=1e-3)
        logistic.fit(quadratic[fit], is_original[fit], sample_weight=weights[fit])
        straight[test] = logistic.decision_function(quadratic[test])
    for odds in (straight, by_trees):
        probability = 1 / (1 + np.exp(-np.clip(odds, -30, 30)))
        chance = np.clip(np.where(is_original, probability, 1 - probability), 1e-6, 1)
        loss = float(-np.average(np.log(chance), weights=weights))
        if loss < lowest:
            best, lowest = probability, loss
    bounded: FloatArray = np.clip(best, 0.01, 0.99)
    return bounded


def polynomials(x: FloatArray, most: int) -> FloatArray:
    """``[N, features]``: monomials up to the highest degree with at most ``most`` of them."""
    n = x.shape[1]
    degree = 1
    while degree < 4 and math.comb(n + degree + 1, degree + 1) <= most:
        degree += 1
    columns: list[FloatArray] = [np.ones(len(x))]
    for d in range(1, degree + 1):
        for entries in combinations_with_replacement(range(n), d):
            columns.append(np.asarray(np.prod(x[:, entries], axis=1), dtype=np.float64))
    return np.stack(columns, axis=1)


def ridge(features: FloatArray, targets: FloatArray, strength: float = 1e-6) -> FloatArray:
    """Coefficients of a ridge regression of all targets at once, ``[features, targets]``."""
    penalty = strength * len(features) * np.eye(features.shape[1])
    gram = features.T @ features + penalty
    return np.asarray(np.linalg.solve(gram, features.T @ targets), dtype=np.float64)


def _polynomial_prediction(x: FloatArray, y: FloatArray, unseen: FloatArray) -> FloatArray:
    most = max(2, min(len(x) // ROWS_PER_FEATURE, MAX_FEATURES))
    # Of many columns those that vary most here: a regression needs its rows.
    spread = x.std(axis=0)
    most_columns = max(1, len(x) // ROWS_PER_FEATURE)
    columns = np.sort(np.argsort(-spread, kind="stable")[:most_columns])
    columns = columns[spread[columns] > 1e-9]
    coefficients = ridge(polynomials(x[:, columns], most), y, 1e-5)
    predicted: FloatArray = polynomials(unseen[:, columns], most) @ coefficients
    low, high = y.min(axis=0), y.max(axis=0)
    slack = 0.1 * (high - low)
    return np.clip(predicted, low - slack, high + slack)


def _some(mask: BoolArray, weights: FloatArray | None = None) -> IntArray:
    """The numbers of the rows of a mask, drawn by weight; of many, a random choice.

    Rows are drawn rather than weighted since scikit-learn's bins are slow to find with weights.
    """
    generator = np.random.default_rng(0)
    if weights is not None:
        mask = mask & (generator.random(len(mask)) * weights.max(initial=0) <= weights)
    rows = np.flatnonzero(mask)
    if len(rows) <= TREE_ROWS:
        return rows
    return np.sort(generator.choice(rows, TREE_ROWS, replace=False))
