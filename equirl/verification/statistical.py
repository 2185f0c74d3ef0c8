"""Checking a symmetry on a black box, from random play alone.

In `equirl.verification.statistics`, see ``evidence`` for the test, ``permutation`` for its p-values
and ``sensitivity`` for what it could have seen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from equirl.actions import as_leaves, from_leaves, leaves_of
from equirl.symmetry import Symmetry
from equirl.verification.bounds import leaving
from equirl.verification.play import Play, collect
from equirl.verification.statistics.counter_examples import worst_example
from equirl.verification.statistics.encoding import (
    MAX_COLUMNS,
    QUANTITIES,
    Encoder,
    columns_of,
    encoded,
    images_recur_less,
    powers,
)
from equirl.verification.statistics.evidence import Groundwork
from equirl.verification.statistics.permutation import LEAST_LEVEL, significance, units_of
from equirl.verification.statistics.scores import Scores
from equirl.verification.statistics.sensitivity import (
    INTERRUPTED,
    UNMEASURED,
    Sensitivity,
    sensitivity,
)
from equirl.verification.verdicts import Verdict
from equirl.verification.where import Region, region

__all__ = ["Play", "check_initial_states", "check_statistically", "collect"]

LEAST_OVERLAP = 0.02
"""Of original and moved states, as a share of the transitions."""

LEAST_TRANSITIONS = 500

ONE_SIDED = (
    f"more than {MAX_COLUMNS} columns of the observation vary, of which some are left out, and "
    "states are visited on one side: a state map is needed"
)

Group = tuple[str, str, str]
"""Generator, quantity, family."""


def check_statistically(
    symmetry: Symmetry,
    names: str | Sequence[str],
    played: Play,
    level: float,
    *,
    seed: int = 0,
    deadline: float = np.inf,
    measure_sensitivity: bool = True,
    with_trees: bool = True,
) -> list[Verdict]:
    """The verdicts on some generators from random play.

    Args:
        symmetry: what is claimed.
        names: the generator, or the generators.
        played: random play.
        level: probability of refusing anything if all holds.
        seed: of folds, groups of episodes, permutations and planted violations.
        deadline: of `time.monotonic`, after which no more is begun.
        measure_sensitivity: plant violations; without, what is not refused is said to hold.
        with_trees: compare by boosted trees as well, which takes longest.
    """
    names = [names] if isinstance(names, str) else list(names)
    # Threads that wait for each other on a busy machine cost more than they save: measured, four
    # times the wall time and six times the work.
    with threadpool_limits(limits=1):
        return _checked(
            symmetry,
            names,
            played,
            level,
            seed=seed,
            deadline=deadline,
            measure_sensitivity=measure_sensitivity,
            with_trees=with_trees,
        )


def _checked(
    symmetry: Symmetry,
    names: Sequence[str],
    played: Play,
    level: float,
    *,
    seed: int,
    deadline: float,
    measure_sensitivity: bool,
    with_trees: bool,
) -> list[Verdict]:
    """See `check_statistically`."""
    if len(played) < LEAST_TRANSITIONS:
        why = f"{len(played)} transitions are too few, {LEAST_TRANSITIONS} are the least"
        return [_undecided(name, q, 0, why) for name in names for q in QUANTITIES]
    if not measure_sensitivity and level < LEAST_LEVEL:
        why = f"no p-value could be below a level of {level:g}"
        return [_undecided(name, q, 0, why) for name in names for q in QUANTITIES]
    generator = np.random.default_rng(seed)
    units = units_of(played, generator)
    evidence: dict[Group, Scores] = {}
    encoders, grounds = {}, {}
    looked_at: set[tuple[str, str]] = set()
    no_time = "there was no time for it"
    try:
        for name in names:
            if time.monotonic() > deadline:
                break
            encoders[name] = encoder = Encoder.of(symmetry, name, played)
            copies = encoder.copies(played)
            grounds[name] = ground = Groundwork(copies, units.numbers, generator)
            for quantity in QUANTITIES:
                if not ground.is_constant(copies, quantity) and ground.overlap >= LEAST_OVERLAP:
                    found = [ground.averages(copies, quantity), ground.counts(copies, quantity)]
                    if with_trees and time.monotonic() < deadline:
                        found.append(ground.trees(copies, quantity))
                    evidence |= {(name, quantity, s.family): s for s in found if s is not None}
                looked_at.add((name, quantity))
    except KeyboardInterrupt:
        deadline, no_time = -np.inf, INTERRUPTED
    results: dict[Group, tuple[float, float]] = {}
    if evidence:
        result = significance(list(evidence.values()), level, generator)
        pairs = zip(result.p_values.tolist(), result.critical.tolist(), strict=True)
        results = dict(zip(evidence, pairs, strict=True))

    one_sided = {
        name: encoder.leaves_out and images_recur_less(symmetry, name, played)
        for name, encoder in encoders.items()
    }

    def in_time() -> bool:
        return time.monotonic() < deadline

    is_refused = any(p < level for p, _ in results.values())
    verdicts = []
    for name in names:
        for quantity in QUANTITIES:
            if (name, quantity) not in looked_at:
                verdicts.append(_undecided(name, quantity, 0, no_time))
                continue
            of_it = {g: r for g, r in results.items() if g[:2] == (name, quantity)}
            p_value = min((p for p, _ in of_it.values()), default=1.0)
            ground, encoder = grounds[name], encoders[name]
            if one_sided[name]:
                verdicts.append(_undecided(name, quantity, len(played), ONE_SIDED))
                continue
            if p_value < level:
                example = worst_example(symmetry, name, played, quantity, ground)
                plainest = min(of_it, key=lambda group: of_it[group][0])
                place = _where(encoder, ground, played, quantity, evidence[plainest])
                verdicts.append(
                    Verdict(
                        name,
                        quantity,
                        "statistical",
                        "refused",
                        p_value,
                        len(played),
                        example,
                        place.words,
                        place.board,
                    )
                )
                continue
            detail, decided = "", True
            if ground.overlap < LEAST_OVERLAP:
                detail = f"overlap: of the moved states {ground.overlap:.0%} are ever visited"
                if out := leaving(symmetry, name):
                    detail += f"; {name} takes {out} out of the observation space"
                decided = False
            elif not of_it:
                detail, decided = _constant(quantity, ground)
            elif measure_sensitivity and is_refused:
                detail = "not refused; what would have been seen was not measured"
                decided = False
            elif measure_sensitivity:
                critical = {family: c for (_, _, family), (_, c) in of_it.items()}
                seen = sensitivity(
                    played,
                    encoder,
                    ground,
                    quantity,
                    critical,
                    generator,
                    in_time,
                )
                if seen.what == INTERRUPTED:
                    deadline = -np.inf
                decided = seen.suffices
                detail = f"would have seen {seen.what}" if decided else _missing(seen, ground)
            verdicts.append(
                Verdict(
                    name,
                    quantity,
                    "statistical",
                    "holds" if decided else "undecided",
                    p_value,
                    len(played),
                    detail=detail,
                )
            )
    return verdicts


def _undecided(name: str, quantity: str, looked_at: int, why: str) -> Verdict:
    return Verdict(name, quantity, "statistical", "undecided", 1.0, looked_at, detail=why)


def _where(
    encoder: Encoder, ground: Groundwork, played: Play, quantity: str, found: Scores
) -> Region:
    """The part of the states in which a refused quantity fails."""
    symmetry, leaves = encoder.symmetry, leaves_of(encoder.symmetry.observation_space)
    moved = [symmetry.transform_observation(g, played.observations) for g in encoder.elements]
    parts = zip(*(as_leaves(one, leaves) for one in moved), strict=True)
    actions = [symmetry.transform_action(g, played.actions) for g in encoder.elements]
    return region(
        symmetry,
        from_leaves([np.concatenate(arrays) for arrays in parts], leaves),
        np.concatenate([np.asarray(one) for one in actions]),
        ground.breach(ground.copies, quantity, found),
        ground.balanced * ground.weights,
        ground.fold == 1,
    )


def _constant(quantity: str, ground: Groundwork) -> tuple[str, bool]:
    """What never varies has the symmetry, as far as play went; a goal never reached is unknown."""
    if quantity == "dynamics":
        return "the observation never changed", True
    needed = "more transitions or a state map are needed"
    rewards, ends = (ground.copies.outcomes[name] for name in ("reward", "termination"))
    reward = float(rewards.flat[0])
    no_end, same_reward = not ends.any(), bool((rewards == reward).all())
    if quantity == "reward" and reward == 0:
        return f"no reward was seen: {needed}", False
    if no_end and same_reward:
        return f"the reward was {reward:g} at every step and no episode ended: {needed}", False
    if quantity == "reward":
        return f"the reward was {reward:g} at every step", True
    return "no episode ended" if no_end else "every step ended an episode", True


def _missing(seen: Sensitivity, ground: Groundwork) -> str:
    """What would help: overlap where that is little, else transitions."""
    if seen.what in UNMEASURED:
        return seen.what
    what = seen.what if seen.size is None else f"the smallest it would have seen is {seen.what}"
    if ground.overlap < 0.3:
        return f"{what}: little overlap ({ground.overlap:.0%}) of original and moved states"
    return f"{what}: more transitions or a state map are needed"


def check_initial_states(
    symmetry: Symmetry, name: str, first: Any, level: float, seed: int = 0
) -> Verdict:
    """Whether initial states (a batch) are distributed symmetrically, by means and mean squares."""
    space = symmetry.observation_space
    columns = columns_of(space)
    moved = [
        encoded(space, columns, symmetry.transform_observation(g, first))
        for g in powers(symmetry, name)
    ]
    p_value = compare_initial_states(np.stack(moved), level / 5, seed)
    holds = p_value >= level / 5  # harmless, so that a false alarm only confuses
    outcome: Any = "holds" if holds else "refused"
    return Verdict(name, "initial states", "statistical", outcome, p_value, len(moved[0]))


def compare_initial_states(
    copies: npt.NDArray[np.float64], level: float = 0.01, seed: int = 0
) -> float:
    """The p-value of "initial states are distributed symmetrically", by permutation.

    Args:
        copies: initial states as they are, moved by g, by g², …, ``[K, episodes, n]``.
        level: that the p-value will be compared with.
        seed: of the permutations.
    """
    differing = (np.abs(copies - copies[0]) > 1e-9).any(axis=(0, 1))
    if not differing.any():
        return 1.0
    x = copies[..., differing]
    x = (x - x.mean(axis=(0, 1))) / np.maximum(x.std(axis=(0, 1)), 1e-12)
    both = np.concatenate([x, np.square(x)], axis=2).round(4)  # rounding is no evidence
    k = len(both)
    signs = np.array([1.0] + [-1.0 / (k - 1)] * (k - 1))
    sums = np.stack([np.tensordot(np.roll(signs, shift), both, axes=1) for shift in range(k)])
    scores = Scores("averages", sums, np.zeros(both.shape[2]), is_one_sided=False)
    return float(significance([scores], level, np.random.default_rng(seed)).p_values[0])
