"""The transitions that speak most plainly against a symmetry that the statistics refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from equirl.symmetry import Symmetry
from equirl.verification.play import Play
from equirl.verification.statistics.encoding import IntArray
from equirl.verification.statistics.evidence import Groundwork
from equirl.verification.verdicts import CounterExample

LEAST_VISITS = 5
"""Of (s, a) and of (gs, ga), for their outcomes to be counted."""

CANDIDATES = 400
"""Transitions that are held against the nearest one to (gs, ga)."""

MOST_OUTCOMES = 4
"""Shown of a law."""


def worst_example(
    symmetry: Symmetry, name: str, play: Play, quantity: str, ground: Groundwork
) -> CounterExample:
    """The (s, a) whose outcomes differ most from those of (gs, ga), counted where both recur.

    Else a transition beside the nearest one seen to (gs, ga).
    """
    pair = _recurring(ground, quantity)
    if pair is None:
        i, j = _nearest(ground, quantity)
        return _example(symmetry, name, play, quantity, i, j, ())
    here, there = pair
    lines: tuple[str, ...] = (
        f"from (s, a):   {_law(play, here, quantity)}",
        f"from (gs, ga): {_law(play, there, quantity)}",
    )
    i, j = _contrast(ground, quantity, here, there)
    if quantity == "dynamics" and np.ndim(play.next_observations) != 1:
        lines = _shares(ground, here, there, i, j)
    return _example(symmetry, name, play, quantity, i, j, lines)


def _recurring(ground: Groundwork, quantity: str) -> tuple[IntArray, IntArray] | None:
    """The transitions from the (s, a) and from the (gs, ga) that differ most, if they recur."""
    here, there = ground.copies.keys[1], ground.copies.keys[0]
    symbols = ground.copies.symbols[quantity]
    keys, counts = np.unique(there, return_counts=True)
    often = set(keys[counts >= LEAST_VISITS].tolist())
    best, worst = 4.0, None
    moved_keys, moved_counts = np.unique(here, return_counts=True)
    order_here, order_there = np.argsort(here, kind="stable"), np.argsort(there, kind="stable")
    for key, count in zip(moved_keys.tolist(), moved_counts.tolist(), strict=True):
        if count < LEAST_VISITS or key not in often:
            continue
        mine = _with_key(here, order_here, key)
        theirs = _with_key(there, order_there, key)
        size = _difference_of_laws(symbols[1, mine], symbols[0, theirs])
        if size > best:
            best, worst = size, (mine, theirs)
    return worst


def _with_key(keys: IntArray, order: IntArray, key: int) -> IntArray:
    low, high = np.searchsorted(keys[order], [key, key + 1])
    return order[low:high]


def _difference_of_laws(a: IntArray, b: IntArray) -> float:
    """The largest difference of two shares, in standard errors."""
    largest = 0.0
    for symbol in np.unique(np.concatenate([a, b])).tolist():
        p, q = float((a == symbol).mean()), float((b == symbol).mean())
        both = (p * len(a) + q * len(b)) / (len(a) + len(b))
        error = np.sqrt(max(both * (1 - both), 1e-9) * (1 / len(a) + 1 / len(b)))
        largest = max(largest, abs(p - q) / float(error))
    return largest


def _contrast(
    ground: Groundwork, quantity: str, here: IntArray, there: IntArray
) -> tuple[int, int]:
    """One transition with the outcome whose shares differ most, and one with the other's."""
    symbols = ground.copies.symbols[quantity]
    mine, theirs = symbols[1, here], symbols[0, there]
    values = np.unique(np.concatenate([mine, theirs])).tolist()
    lead = [float((mine == v).mean() - (theirs == v).mean()) for v in values]
    more, less = values[int(np.argmax(lead))], values[int(np.argmin(lead))]
    return int(here[mine == more][0]), int(there[theirs == less][0])


def _shares(ground: Groundwork, here: IntArray, there: IntArray, i: int, j: int) -> tuple[str, ...]:
    """How often the two outcomes that are shown followed, from (s, a) and from (gs, ga)."""
    moved, plain = ground.copies.symbols["dynamics"][1], ground.copies.symbols["dynamics"][0]
    lines = []
    for word, symbol in (("should be", moved[i]), ("is", plain[j])):
        from_s, from_gs = (moved[here] == symbol).sum(), (plain[there] == symbol).sum()
        lines.append(
            f"what {word!r} below followed from (s, a), moved, {from_s} of {len(here)} times, "
            f"from (gs, ga) {from_gs} of {len(there)} times"
        )
    return tuple(lines)


def _law(play: Play, rows: IntArray, quantity: str) -> str:
    """What followed, as counts."""
    total = len(rows)
    if quantity == "termination":
        return f"ended {int(play.terminations[rows].sum())} of {total}"
    if quantity == "reward":
        values, counts = np.unique(play.rewards[rows], return_counts=True)
        order = np.argsort(-counts)[:MOST_OUTCOMES]
        parts = [f"reward {values[i]:g} in {counts[i]}" for i in order]
        return f"{', '.join(parts)} of {total}"
    values, counts = np.unique(play.next_observations[rows], return_counts=True)
    order = np.argsort(-counts)[:MOST_OUTCOMES]
    parts = [f"s' = {values[i]} in {counts[i]}" for i in order]
    return f"{', '.join(parts)} of {total}"


def _nearest(ground: Groundwork, quantity: str) -> tuple[int, int]:
    """A transition, and the nearest seen to its image, with outcomes that differ the most."""
    copies = ground.copies
    n = copies.keys.shape[1]
    surprise = ground.surprises(copies, quantity)
    units = surprise / np.maximum(surprise.std(axis=0), 1e-12)
    size = np.minimum(np.abs(units[:n]), 6).max(axis=1)
    generator = np.random.default_rng(0)
    drawn = generator.choice(n, min(n, CANDIDATES // 2), replace=False)
    rows = np.unique(np.concatenate([np.argsort(-size)[: CANDIDATES // 2], drawn]))
    points = np.concatenate([copies.states[..., :-1], 9 * copies.actions], axis=2)
    if points.shape[2] == 0:
        return 0, 0
    distance, found = cKDTree(points[0]).query(points[1, rows])
    spread = np.maximum(copies.outcomes[quantity].std(axis=(0, 1)), 1e-12)
    expected, seen = copies.outcomes[quantity][1, rows], copies.outcomes[quantity][0, found]
    apart = (np.minimum(np.abs(expected - seen) / spread, 6)).max(axis=1)
    apart = apart - 10 * (distance > np.quantile(distance, 0.3))
    best = int(np.argmax(apart))
    return int(rows[best]), int(found[best])


def _example(
    symmetry: Symmetry,
    name: str,
    play: Play,
    quantity: str,
    i: int,
    j: int,
    tally: tuple[str, ...],
) -> CounterExample:
    g = symmetry.group.index(name)
    one, other = play.rows(slice(i, i + 1)), play.rows(slice(j, j + 1))

    def single(batch: Any) -> Any:
        if isinstance(batch, dict):
            return {key: part[0] for key, part in batch.items()}
        return batch[0]

    values = {
        "dynamics": (
            single(symmetry.transform_observation(g, one.next_observations)),
            single(other.next_observations),
        ),
        "reward": (float(one.rewards[0]), float(other.rewards[0])),
        "termination": (bool(one.terminations[0]), bool(other.terminations[0])),
    }
    return CounterExample(
        single(one.observations),
        _plain(one.actions[0]),
        single(one.next_observations),
        single(symmetry.transform_observation(g, one.observations)),
        _plain(single(symmetry.transform_action(g, one.actions))),
        *values[quantity],
        nearest_observation=None if tally else single(other.observations),
        tally=tally,
    )


def _plain(action: Any) -> Any:
    return int(action) if np.ndim(action) == 0 else np.asarray(action)
