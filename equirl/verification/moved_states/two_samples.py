"""Are two samples of one law? Random relabellings of both, at many states at once."""

from __future__ import annotations

import math

import numpy as np

from equirl.verification.statistics.encoding import FloatArray

LEAST_RELABELLINGS, MOST_RELABELLINGS = 999, 19_999

STATISTICS = 3
"""That `p_value` takes the smallest of."""

MOST_SHIFTS = 5_000_000
"""Numbers of one state: of observations of more than 2,500 entries there would be gigabytes."""


def relabellings(level: float, tests: int) -> int | None:
    """How many are needed for one of some tests to refuse at a level; None where too many are."""
    smallest = STATISTICS * tests / level  # times the p-value of an outcome that none reaches
    if smallest >= MOST_RELABELLINGS + 1:
        return None
    return min(MOST_RELABELLINGS, max(LEAST_RELABELLINGS, math.ceil(4 * smallest)))


def relabelled(half: int, count: int, generator: np.random.Generator) -> FloatArray:
    """``[1 + count, 2 half]``: weights whose sum is the mean of one half less that of the other."""
    labels = np.repeat([1.0, -1.0], half) / half
    return np.vstack([labels, generator.permuted(np.tile(labels, (count, 1)), axis=1)])


def energy(sample: FloatArray, labels: FloatArray) -> FloatArray:
    """The energy distance (Székely & Rizzo 2004) of the halves under each labelling, scaled.

    Args:
        sample: ``[2 half, entries]``.
        labels: ``[1 + count, 2 half]``, see `relabelled`.

    Returns:
        ``[1 + count]``, of mean zero and spread one over the relabellings.
    """
    varying = sample[:, sample.std(axis=0) > 1e-9]
    if varying.shape[1] == 0:
        return np.zeros(len(labels))
    scaled = varying / varying.std(axis=0)
    squares = np.square(scaled).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * scaled @ scaled.T, 0))
    found = -((labels @ distances) * labels).sum(axis=1)
    return np.asarray((found - found[1:].mean()) / max(float(found[1:].std()), 1e-12))


def shifts(sample: FloatArray, labels: FloatArray) -> FloatArray:
    """Differences of the halves' means and mean squares, ``[1 + count, 2 entries]``.

    None, ``[1 + count, 0]``, where they would be too many.
    """
    if 2 * len(labels) * sample.shape[1] > MOST_SHIFTS:
        return np.zeros((len(labels), 0))
    centred = sample - sample.mean(axis=0)
    return np.asarray(labels @ np.concatenate([centred, np.square(centred)], axis=1))


def p_value(energies: list[FloatArray], shifted: FloatArray) -> float:
    """That all states' samples are of one law, of the plainest of three statistics.

    They are the sum of the energy distances and the largest of them, and for what is rare at every
    state the largest of the shifts, summed over states.

    Args:
        energies: of each state, see `energy`.
        shifted: the sum of the states' `shifts`.
    """
    if not energies:
        return 1.0
    every = np.stack(energies)
    spread = shifted[1:].std(axis=0)
    in_units = np.abs(shifted) / np.where(spread > 1e-12, spread, np.inf)
    statistics = every.sum(axis=0), every.max(axis=0), in_units.max(axis=1, initial=0)
    p_values = [float((s >= s[0] - 1e-9).mean()) for s in statistics]
    return min(1.0, STATISTICS * min(p_values))
