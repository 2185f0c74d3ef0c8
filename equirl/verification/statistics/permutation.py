"""p-values by permutation of whole episodes, for all evidence together.

Westfall & Young (1993): the smallest p-value over all families, quantities and generators is
compared with its own distribution under the same permutations, so that the level holds for the
check as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equirl.verification.play import Play
from equirl.verification.statistics.encoding import FloatArray, IntArray
from equirl.verification.statistics.scores import Scores

MIN_UNITS = 24
"""With fewer episodes, stretches of episodes are permuted."""

MAX_UNITS = 400
"""More episodes are permuted in groups, drawn at random."""

MAX_PERMUTATIONS = 9999

LEAST_RANKS = 5
"""Of all permutations, so many at least must be allowed to be as large."""

TIE = 1e-4
"""Standard deviations within which two sizes are equal: permuted ones are summed in single
precision. Where one unit alone says anything, ties are most of what there is."""


@dataclass(frozen=True)
class Units:
    """What is permuted.

    Args:
        numbers: of each transition, from 0.
        count: how many there are.
        are_stretches: parts of episodes, since there are few episodes.
    """

    numbers: IntArray
    count: int
    are_stretches: bool


def units_of(play: Play, generator: np.random.Generator) -> Units:
    """Whole episodes, in random groups where there are many; stretches where there are few."""
    episodes, numbers = np.unique(play.episodes, return_inverse=True)
    numbers = numbers.reshape(-1)
    are_stretches = len(episodes) < MIN_UNITS
    if are_stretches:
        length = max(10, len(play) // (2 * MIN_UNITS))
        # A random phase in each episode, so that no unit means a place in it.
        phase = generator.integers(length, size=len(episodes))[numbers]
        stretch = (play.times + phase) // length
        code = numbers * (int(stretch.max()) + 1) + stretch
        _, numbers = np.unique(code, return_inverse=True)
        numbers = numbers.reshape(-1)
    count = int(numbers.max()) + 1
    if count > MAX_UNITS:
        groups = generator.permutation(count) % MAX_UNITS
        numbers, count = groups[numbers], MAX_UNITS
    return Units(numbers, count, are_stretches)


@dataclass(frozen=True)
class Significance:
    """What the permutations say.

    Args:
        p_values: of each score, corrected for there being several.
        critical: the size at which each score would have been significant.
    """

    p_values: FloatArray
    critical: FloatArray


LEAST_LEVEL = LEAST_RANKS / (MAX_PERMUTATIONS + 1)
"""Below it no test could refuse."""


def significance(
    scores: Sequence[Scores], level: float, generator: np.random.Generator
) -> Significance:
    """Corrected p-values of all scores, by shifting the roles of each unit's copies at random."""
    rounds = int(np.clip(np.ceil(10 * len(scores) / level), 999, MAX_PERMUTATIONS))
    units = scores[0].sums.shape[1]
    draws = generator.random((rounds, units))
    largest = np.empty((len(scores), rounds + 1))
    for number, score in enumerate(scores):
        largest[number, 0] = score.observed.max(initial=-9)
        largest[number, 1:] = _permuted(score, draws)
    # Rank of every round among all, ties counting against the symmetry's breach.
    order = np.sort(largest, axis=1)
    below = np.stack(
        [np.searchsorted(o, v - TIE, side="left") for o, v in zip(order, largest, strict=True)]
    )
    p_values = 1 - below / (rounds + 1)
    smallest = p_values.min(axis=0)
    corrected = (smallest[None, :] <= p_values[:, :1] + 1e-12).mean(axis=1)
    limit = np.quantile(smallest, level, method="lower")
    allowed = max(1, int(limit * (rounds + 1)))
    return Significance(corrected, order[:, -allowed])


def _permuted(score: Scores, draws: FloatArray) -> FloatArray:
    """The largest size in every round, ``[rounds]``."""
    k, _, count = score.sums.shape
    roles = np.minimum((draws * k).astype(np.int64), k - 1)
    largest = np.full(len(draws), -9.0)
    sums = score.sums.astype(np.float32)
    selected = [(roles == shift).astype(np.float32) for shift in range(k)]
    for start in range(0, count, 1000):
        part = slice(start, start + 1000)
        totals = sum(chosen @ sums[shift][:, part] for shift, chosen in enumerate(selected))
        deviation = score.deviation[part]
        size = totals if score.is_one_sided else np.abs(totals)
        scaled = np.where(deviation > 1e-9, size / np.maximum(deviation, 1e-30), -9)
        largest = np.maximum(largest, scaled.max(axis=1))
    return largest
