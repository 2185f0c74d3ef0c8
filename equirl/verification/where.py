"""Where a symmetry fails: the part of the states in which outcomes differ, in words.

A small regression tree is grown on the breach at each (s, a), on half of the rows, and its nodes
are judged on the other half: a part that was found by chance does not last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from equirl.symmetry import Symmetry
from equirl.verification.boards import Board, board_of
from equirl.verification.statistics.encoding import BoolArray, FloatArray, columns_of, encoded

DEPTH = 3
"""Conditions that a part of the states is told by, at most."""

LEAST_SHARE = 0.005
"""Of the rows, in a leaf of the tree."""

STANDS_OUT = 3.0
"""Standard errors by which the breach in the part must exceed the breach elsewhere."""

MOST_COLUMNS = 200


@dataclass(frozen=True)
class Region:
    """The part of the states in which a symmetry fails.

    Args:
        words: as conditions on entries and actions, or an empty string.
        board: by the cell of a board, where observations show one.
    """

    words: str
    board: Board | None


def region(
    symmetry: Symmetry,
    observations: Any,
    actions: Any,
    breach: FloatArray,
    weights: FloatArray,
    fold: BoolArray,
) -> Region:
    """Where the breach is largest.

    Args:
        symmetry: of these spaces.
        observations: a batch of N.
        actions: ``[N]`` or ``[N, *shape]``.
        breach: at each (s, a), zero on average where the symmetry holds, ``[N]``.
        weights: ``[N]``.
        fold: the half that the words are judged on, ``[N]``.
    """
    space, action_space = symmetry.observation_space, symmetry.action_space
    columns = columns_of(space)
    states = encoded(space, columns, observations).round(6) + 0.0  # no -0
    if isinstance(action_space, spaces.Discrete):
        values = np.arange(int(action_space.start), int(action_space.start + action_space.n))
        acted = np.asarray(actions).reshape(-1, 1) == values
        named = [f"action = {value}" for value in values]
    else:
        acted = np.asarray(actions, dtype=np.float64).reshape(len(states), -1)
        named = [f"action[{j}]" for j in range(acted.shape[1])]
    names = [*(column.name for column in columns), *named]
    words = where(np.hstack([states, acted]), names, breach, weights, fold)
    return Region(words, board_of(space, observations, breach, weights))


def where(
    x: FloatArray, names: list[str], breach: FloatArray, weights: FloatArray, fold: BoolArray
) -> str:
    """The part of the rows where the breach is largest, in words, or an empty string.

    Args:
        x: states and actions, ``[N, p]``.
        names: of their columns; ``"s = 3"`` for one of zeros and ones.
        breach: at each row, noisy, zero on average where the symmetry holds, ``[N]``.
        weights: ``[N]``.
        fold: the half that the tree is judged on, ``[N]``.
    """
    spread = x.std(axis=0)
    columns = np.sort(np.argsort(-spread, kind="stable")[:MOST_COLUMNS])
    columns = columns[spread[columns] > 1e-9]
    if len(columns) == 0 or fold.all() or not fold.any():
        return ""
    x = x[:, columns]
    from sklearn.tree import DecisionTreeRegressor  # seconds, which training need not

    tree = DecisionTreeRegressor(
        max_depth=DEPTH, min_weight_fraction_leaf=LEAST_SHARE, random_state=0
    )
    tree.fit(x[~fold], breach[~fold], sample_weight=weights[~fold])
    parts = tree.decision_path(x[fold]).toarray().astype(bool)
    breach, weights, seen = breach[fold], weights[fold], x[fold]
    best, size = -1, STANDS_OUT
    for node in range(1, parts.shape[1]):
        inside = parts[:, node]
        here, error = _mean(breach[inside], weights[inside])
        there, other = _mean(breach[~inside], weights[~inside])
        lead = (abs(here) - abs(there)) / max(float(np.hypot(error, other)), 1e-12)
        if lead > size:
            best, size = node, lead
    if best < 0:
        return ""
    inside = parts[:, best]
    conditions = _path(tree, best, [names[j] for j in columns], seen)
    share = weights[inside].sum() / weights.sum()
    return f"where {', '.join(conditions)} ({share:.0%} of the steps)"


def _mean(values: FloatArray, weights: FloatArray) -> tuple[float, float]:
    """A mean and its standard error; far off where there are few values."""
    if len(values) < 5 or weights.sum() <= 0:
        return 0.0, 1e9
    mean = float(np.average(values, weights=weights))
    variance = float(np.average(np.square(values - mean), weights=weights))
    effective = float(weights.sum() ** 2 / np.square(weights).sum())
    return mean, float(np.sqrt((variance + 1e-12) / effective))


def _path(tree: Any, node: int, names: list[str], x: FloatArray) -> list[str]:
    """The conditions that lead to a node, one for each column."""
    nodes = tree.tree_
    parents = {
        int(child): (parent, is_right)
        for parent in range(nodes.node_count)
        for child, is_right in (
            (nodes.children_left[parent], False),
            (nodes.children_right[parent], True),
        )
        if child >= 0
    }
    low: dict[int, float] = {}
    high: dict[int, float] = {}
    while node in parents:
        node, is_right = parents[node]
        column, edge = int(nodes.feature[node]), float(nodes.threshold[node])
        if is_right:
            low[column] = max(low.get(column, -np.inf), edge)
        else:
            high[column] = min(high.get(column, np.inf), edge)
    return [
        _condition(names[column], low.get(column), high.get(column), np.unique(x[:, column]))
        for column in sorted({*low, *high})
    ]


def _condition(name: str, low: float | None, high: float | None, values: FloatArray) -> str:
    left = values[(values > (-np.inf if low is None else low))]
    left = left[left <= (np.inf if high is None else high)]
    if " = " in name:
        return name if low is not None else name.replace(" = ", " ≠ ")
    if len(left) == 1:
        return f"{name} = {left[0]:.3g}"
    if low is None:
        return f"{name} ≤ {high:.3g}"
    return f"{name} > {low:.3g}" if high is None else f"{low:.3g} < {name} ≤ {high:.3g}"
