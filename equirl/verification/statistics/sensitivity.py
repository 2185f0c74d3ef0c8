"""How small a violation the statistical check would have seen, by planting some.

In a copy of the play an entry of s' is shifted (or, for categories, exchanged), a reward is
changed or an end left out, in one region of the states and not in its image under g. The smallest
that is found in 90 % of resamples of the episodes is what the check could see. Rewards that are
mostly the same are changed only where they are not, since breaches of a task are like this: a prize
on one side is far harder to see than a reward that is added where none ever was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from equirl.actions import as_leaves, from_leaves, leaves_of
from equirl.verification.play import Play
from equirl.verification.statistics.encoding import BoolArray, Column, Encoder, FloatArray
from equirl.verification.statistics.evidence import Groundwork
from equirl.verification.statistics.scores import Scores

REGION = {"dynamics": 0.05, "reward": 0.05, "termination": 0.25}
"""The share of the transitions, of the rewards or of the ends in the region of a violation."""

SHIFTS = (0.1, 0.2, 0.5, 1.0, 2.0)
"""Of a number, in units of its spread."""

SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the outcomes of a category, or of the ends."""

MANY_VALUES, MANY_ROWS = 50, 2000
"""A number with fewer values is exchanged: shifted, it would be one that never occurs."""

MATTERS = 0.5
"""Violations of this size must be found, or the check is undecided."""

INTERRUPTED = "interrupted"
UNMEASURED = (INTERRUPTED, "there was no time to plant violations")
"""What `Sensitivity` says where it was not measured."""

FOUND = 0.9
PLANTS = 6
"""Violations in as many regions: with 3, luck let 2 of 50 checks of a broken task hold."""
RESAMPLES = 30


@dataclass(frozen=True)
class Planted:
    """A violation: its size, in words, and as data."""

    size: float
    what: str
    play: Play


@dataclass(frozen=True)
class Sensitivity:
    """The smallest violation found in 90 % of resamples.

    Args:
        size: as a fraction, see `SHIFTS` and `SHARES`; None where none was found.
        what: in words.
    """

    size: float | None
    what: str

    @property
    def suffices(self) -> bool:
        """Whether violations of a size that matters would have been found."""
        return self.size is not None and self.size <= MATTERS


def sensitivity(
    play: Play,
    encoder: Encoder,
    ground: Groundwork,
    quantity: str,
    critical: dict[str, float],
    generator: np.random.Generator,
    in_time: Callable[[], bool],
) -> Sensitivity:
    """Plant ever larger violations of one quantity until they are found.

    Args:
        play: the transitions as they happened.
        encoder: of the generator.
        ground: of the same check.
        quantity: which.
        critical: by family, the size that is significant.
        generator: of regions, entries and resamples.
        in_time: whether there is time for more.
    """
    try:
        plans = [_plan(play, encoder, ground, quantity, generator) for _ in range(PLANTS)]
        for step in range(len(SHIFTS)):
            found = []
            for plan in plans:
                if not in_time():
                    return Sensitivity(None, UNMEASURED[1])
                found.append(
                    _share_found(plan(step), encoder, ground, quantity, critical, generator)
                )
                if len(plans) * FOUND > sum(found) + len(plans) - len(found):
                    break
            else:
                smallest = plans[0](step)
                return Sensitivity(smallest.size, smallest.what)
        return Sensitivity(None, "none of the planted violations was found")
    except KeyboardInterrupt:
        return Sensitivity(None, INTERRUPTED)


def _share_found(
    planted: Planted,
    encoder: Encoder,
    ground: Groundwork,
    quantity: str,
    critical: dict[str, float],
    generator: np.random.Generator,
) -> float:
    """The share of resamples of the units in which the violation is significant."""
    copies = encoder.copies(planted.play, ground.copies)
    now, before = copies.outcomes[quantity], ground.copies.outcomes[quantity]
    changed = np.asarray((np.abs(now - before) > 1e-12).any(axis=(0, 1)))
    if not changed.any():
        return 0.0
    tried: list[Callable[[], Scores | None]] = [
        lambda: ground.averages(copies, quantity, changed),
        lambda: ground.counts(copies, quantity),
        lambda: ground.trees(copies, quantity),
    ]
    picks = generator.multinomial(
        ground.unit_count, np.full(ground.unit_count, 1 / ground.unit_count), size=RESAMPLES
    ).astype(np.float64)
    found = np.zeros(RESAMPLES, dtype=bool)
    for evidence in tried:
        scores = evidence()
        if scores is not None and scores.family in critical:
            found |= _resampled(scores, picks).max(axis=1) >= critical[scores.family]
        if found.mean() >= FOUND:
            break
    return float(found.mean())


def _resampled(scores: Scores, picks: FloatArray) -> FloatArray:
    totals = picks @ scores.sums[0]
    squares = picks @ np.square(scores.sums).mean(axis=0)
    size = (totals if scores.is_one_sided else np.abs(totals)) - scores.allowance
    scaled: FloatArray = np.where(squares > 0, size / np.sqrt(np.maximum(squares, 1e-300)), -9.0)
    return scaled


def _plan(
    play: Play,
    encoder: Encoder,
    ground: Groundwork,
    quantity: str,
    generator: np.random.Generator,
) -> Callable[[int], Planted]:
    """One region and one entry; the violation grows with the step."""
    n = len(play)
    both = np.concatenate([ground.copies.states, ground.copies.actions], axis=2)
    moved = np.flatnonzero((np.abs(both[0] - both[1]) > 1e-6).any(axis=0))
    direction = np.zeros(both.shape[2])
    some = generator.permutation(moved)[: max(1, (len(moved) + 1) // 2)]
    direction[some] = generator.normal(size=len(some)) / both.std(axis=(0, 1))[some]
    lead = (both[0] - both[1]) @ direction
    chance, other = generator.random(n), generator.permutation(n)
    if quantity == "reward":
        usual, is_event = _usual(play.rewards)
        inside = _far_out(lead, is_event, REGION[quantity])
        size = float(np.abs(play.rewards - usual)[is_event].mean()) if usual is not None else 0.0
        spread = size or float(play.rewards.std()) or 1.0
        which = "a reward" if usual is None else f"rewards other than {usual:g}"
        share = inside.sum() / max(1, is_event.sum())

        def changed_reward(step: int) -> Planted:
            by = SHIFTS[step] * spread
            what = f"{which} changed by {by:.2g} in {share:.0%} of the cases"
            return Planted(SHIFTS[step], what, replace(play, rewards=play.rewards + by * inside))

        return changed_reward
    if quantity == "termination":
        is_rare = play.terminations == (play.terminations.mean() <= 0.5)
        inside = _far_out(lead, is_rare, REGION[quantity])
        share = inside.sum() / max(1, is_rare.sum())

        def turned(step: int) -> Planted:
            hit = inside & (chance < SHARES[step])
            what = f"{SHARES[step]:.0%} of the ends left out in {share:.0%} of the cases"
            return Planted(SHARES[step], what, replace(play, terminations=play.terminations ^ hit))

        return turned
    inside = _far_out(lead, np.ones(n, dtype=bool), REGION[quantity])
    where = f"in {inside.mean():.0%} of the steps"
    spread = ground.copies.outcomes[quantity].std(axis=(0, 1))
    chosen = generator.choice(len(spread), p=spread / spread.sum())
    column = encoder.outcome_columns[int(chosen)]
    return lambda step: _changed_entry(play, encoder, column, step, inside, chance, other, where)


def _usual(rewards: FloatArray) -> tuple[float | None, BoolArray]:
    """The reward of more than half of the steps, None if there is none; and where it differs."""
    values, counts = np.unique(rewards, return_counts=True)
    most = int(np.argmax(counts))
    if counts[most] * 2 <= len(rewards):
        return None, np.ones(len(rewards), dtype=bool)
    return float(values[most]), np.asarray(rewards != values[most])


def _far_out(lead: FloatArray, is_event: BoolArray, share: float) -> BoolArray:
    """This share of the events: far from its own image, else a violation would be symmetric."""
    if not is_event.any():
        return is_event
    edge = max(float(np.quantile(lead[is_event], 1 - share)) - 1e-9, 1e-9)
    inside: BoolArray = is_event & (lead > edge)
    return inside


def _changed_entry(
    play: Play,
    encoder: Encoder,
    column: Column,
    step: int,
    inside: Any,
    chance: FloatArray,
    other: Any,
    where: str,
) -> Planted:
    leaves = leaves_of(encoder.symmetry.observation_space)
    leaf = leaves[column.leaf]
    here = as_leaves(play.observations, leaves)[column.leaf]
    arrays = list(as_leaves(play.next_observations, leaves))
    following = np.array(arrays[column.leaf])
    flat = following.reshape(len(following), -1)
    name = column.name.partition(" = ")[0]
    varies = len(np.unique(flat[:MANY_ROWS, column.entry])) > MANY_VALUES
    if leaf.is_float and leaf.low is None and varies:
        change = flat[:, column.entry] - here.reshape(len(here), -1)[:, column.entry]
        size, by = SHIFTS[step], SHIFTS[step] * float(change.std())
        flat[:, column.entry] += (by * inside).astype(flat.dtype)
        what = f"{name} shifted by {by:.2g} {where}"
    else:
        size, hit = SHARES[step], inside & (chance < SHARES[step])
        flat[hit, column.entry] = flat[other[hit], column.entry]
        what = f"{name} exchanged {SHARES[step]:.0%} of the time {where}"
    arrays[column.leaf] = flat.reshape(following.shape)
    moved = from_leaves(arrays, leaves)
    return Planted(size, what, replace(play, next_observations=moved))
