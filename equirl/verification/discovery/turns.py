"""The search for turns by a third: pairs of entries, such as x and y, turn together.

Quarter turns are signed permutations. In a turn by 120° every entry is in a pair that turns, or in
a cycle of three, such as three thrusters, or it stays. Each such unit must keep the numbers of its
own entries, and any two those between them; units are put together until all entries are covered.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from equirl.verification.discovery.couplings import ERRORS, Block, BoolArray, Couplings
from equirl.verification.statistics.learners import FloatArray

COS, SIN = -0.5, np.sqrt(0.75)

ONE_WAY = np.array([[COS, -SIN], [SIN, COS]])
"""Counter-clockwise."""

CYCLE = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
"""The first of three entries becomes the second one, and so on."""


def turns_by_thirds(found: Couplings) -> Iterator[FloatArray]:
    """The matrices ``[N, N]`` of all such turns; of a turn and its inverse, one."""
    stays = [Block(np.array([i]), np.eye(1)) for i in range(found.count)]
    pairs = [pair for pair in _pairs(found) if _fits(found, pair, pair)]
    if not pairs:
        return
    units = [*pairs, *(cycle for cycle in _cycles(found) if _fits(found, cycle, cycle)), *stays]
    fits = np.zeros((len(units), len(units)), dtype=bool)
    for a, b in combinations(range(len(units)), 2):
        apart = not set(units[a].entries.tolist()) & set(units[b].entries.tolist())
        fits[a, b] = fits[b, a] = apart and _fits(found, units[a], units[b])
    for cover in _covers(units, fits, (), found.count):
        chosen = [units[u] for u in cover]
        first = next((unit for unit in chosen if len(unit.entries) == 2), None)
        if first is not None and first.matrix[1, 0] > 0:
            matrix = np.zeros((found.count, found.count))
            for unit in chosen:
                matrix[np.ix_(unit.entries, unit.entries)] = unit.matrix
            yield matrix


def _pairs(found: Couplings) -> Iterator[Block]:
    numbers = np.flatnonzero(found.seen & (np.arange(found.count) < found.observations))
    for pair in combinations(numbers.tolist(), 2):
        yield from (Block(np.array(pair), turn) for turn in (ONE_WAY, ONE_WAY.T))


def _cycles(found: Couplings) -> Iterator[Block]:
    for first, last in ((0, found.observations), (found.observations, found.count)):
        numbers = [i for i in range(first, last) if found.seen[i]]
        for three in combinations(numbers, 3):
            yield from (Block(np.array(three), turn) for turn in (CYCLE, CYCLE.T))


def _fits(found: Couplings, one: Block, other: Block) -> bool:
    """Whether the numbers between two units are kept, roughly; of one unit also its own."""
    estimates = found.pairs if one is not other else [*found.odd, *found.pairs]
    fits = all(e.excess(one, other, e.uneven) < ERRORS for e in estimates)
    if one is other or not fits:
        return fits
    return all(e.excess(other, one, e.uneven) < ERRORS for e in found.pairs)


def _covers(
    units: list[Block], fits: BoolArray, chosen: tuple[int, ...], count: int
) -> Iterator[tuple[int, ...]]:
    covered = {int(i) for u in chosen for i in units[u].entries}
    if len(covered) == count:
        yield chosen
        return
    lowest = min(set(range(count)) - covered)
    for u, unit in enumerate(units):
        if lowest in unit.entries and all(fits[u, v] for v in chosen):
            yield from _covers(units, fits, (*chosen, u), count)
