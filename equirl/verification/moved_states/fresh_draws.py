"""Stochastic environments that can be put into gs: the laws at s and at gs, drawn again and again.

Copies of the environment at s take a and copies at gs take ga, each with a fresh seed. If the
symmetry holds, what follows from s, moved by g, and what follows from gs are two samples of one
law, which `two_samples` compares. Nobody has to mirror a random generator.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from equirl.envs.running.random_states import renew_random_states
from equirl.symmetry import Symmetry
from equirl.verification.moved_states.two_samples import (
    energy,
    p_value,
    relabelled,
    relabellings,
    shifts,
)
from equirl.verification.play import kept, stacked
from equirl.verification.statistics.encoding import (
    Column,
    FloatArray,
    columns_of,
    encoded,
)
from equirl.verification.verdicts import QUANTITIES, CounterExample, Verdict
from equirl.verification.where import Region, region

DRAWS = 60
"""Of each state and of its image."""

MOST_STATES = 40

LEAST_STATES = 10
"""Or what did not differ is undecided."""

MOST_ENTRIES = 6
"""Of an observation, and values of an entry, that a counter-example shows."""

FROM_S, FROM_GS = "from (s, a), moved:", "from (gs, ga):     "

JOINTLY = "jointly"
"""Of s', the reward and the end together."""

TESTS = (*QUANTITIES, JOINTLY)

PLAIN = 0.01
"""Share of relabellings that differ as much, below which the laws at one state differ."""


@dataclass(frozen=True)
class Place:
    """A state that can be returned to: an environment in s, one in gs, and an action.

    Args:
        pair: an environment in s and one in gs, new ones each time.
        is_copied: they are copies, which cost less than the way there.
        observation: s.
        action: a.
        moved_action: ga.
    """

    pair: Callable[[], tuple[gym.Env[Any, Any], gym.Env[Any, Any]]]
    is_copied: bool
    observation: Any
    action: Any
    moved_action: Any

    def draws(self, count: int, seed: int) -> Iterator[tuple[Any, Any]]:
        """(s', reward, terminated) with fresh draws, from s and from gs, ``count`` times."""
        for child in np.random.SeedSequence(seed).spawn(count):
            env, moved_env = self.pair()
            here, there = child.spawn(2)
            yield _drawn(env, self.action, here), _drawn(moved_env, self.moved_action, there)


def _drawn(env: gym.Env[Any, Any], action: Any, seed: np.random.SeedSequence) -> Any:
    renew_random_states(env, seed)
    observation, reward, terminated, _, _ = env.step(action)
    return kept(observation), float(reward), bool(terminated)


def is_random(place: Place, tries: int) -> bool:
    """Whether fresh seeds, of which so many are tried, change outcomes at s or at gs."""
    first = None
    for outcomes in place.draws(tries, 0):
        first = outcomes if first is None else first
        for one, other in zip(first, outcomes, strict=True):
            if not all(_alike(a, b) for a, b in zip(one, other, strict=True)):
                return True
    return False


def check_by_fresh_draws(
    symmetry: Symmetry,
    name: str,
    places: list[Place],
    agreed: list[tuple[Any, Any]],
    level: float,
    seed: int,
    deadline: float = np.inf,
) -> list[Verdict]:
    """The verdicts on one generator from a number of states.

    Args:
        symmetry: what is claimed.
        name: of the generator.
        places: states and their images.
        agreed: (s, a) whose outcomes are known to be those of (gs, ga).
        level: probability of refusing a true generator.
        seed: of the draws and the relabellings.
        deadline: of `time.monotonic`, after which no further state is looked at.
    """
    g, space = symmetry.group.index(name), symmetry.observation_space
    columns = columns_of(space)
    count = relabellings(level, tests=len(TESTS))
    if count is None:
        why = f"no p-value could be below the level of {level:g} that is left for {name}"
        return [
            Verdict(name, q, "fresh draws", "undecided", 1.0, 0, detail=why) for q in QUANTITIES
        ]
    generator = np.random.default_rng(seed)
    energies: dict[str, list[FloatArray]] = {test: [] for test in TESTS}
    shifted: dict[str, Any] = dict.fromkeys(TESTS, 0.0)
    examples: dict[str, tuple[float, CounterExample]] = {}
    played: list[Place] = []
    has_paid = False
    for number, place in enumerate(places):
        if time.monotonic() > deadline:
            break
        here, there = zip(*place.draws(DRAWS, seed + number), strict=True)
        played.append(place)
        moved = symmetry.transform_observation(g, stacked(space, [o for o, _, _ in here]))
        followed = stacked(space, [o for o, _, _ in there])
        x, y = encoded(space, columns, moved), encoded(space, columns, followed)
        samples = {
            "dynamics": np.concatenate([x, y]),
            "reward": np.array([[r] for _, r, _ in [*here, *there]]),
            "termination": np.array([[float(t)] for _, _, t in [*here, *there]]),
        }
        samples[JOINTLY] = np.concatenate([samples[q] for q in QUANTITIES], axis=1)
        has_paid |= bool(samples["reward"].any())
        labels = relabelled(DRAWS, count, generator)
        for test, sample in samples.items():
            size = energy(sample, labels)
            energies[test].append(size)
            shifted[test] = shifted[test] + shifts(sample, labels)
            if size[0] > examples.get(test, (-np.inf, None))[0]:
                examples[test] = (
                    float(size[0]),
                    _example(symmetry, g, place, test, sample, columns, here, there),
                )
    p_values = {t: min(1.0, len(TESTS) * p_value(energies[t], shifted[t])) for t in TESTS}
    looked_at = len(played)
    base = f"{looked_at} states, {DRAWS} fresh draws at each and at its image"
    only_jointly = p_values[JOINTLY] < level and all(p_values[q] >= level for q in QUANTITIES)
    verdicts = []
    for quantity in QUANTITIES:
        test = JOINTLY if only_jointly and quantity == "dynamics" else quantity
        outcome: Any = "refused" if p_values[test] < level else "holds"
        example, board, detail = None, None, base
        if outcome == "refused":
            example = examples[test][1]
            found = _where(symmetry, played, energies[test], agreed)
            words = (
                "s', reward and end each as it should be, not together" if test == JOINTLY else ""
            )
            detail, board = "; ".join(w for w in (words, found.words, base) if w), found.board
        elif looked_at < LEAST_STATES:
            outcome, detail = "undecided", f"{base}; {LEAST_STATES} are the least"
        elif quantity == "reward" and not has_paid:
            outcome, detail = "undecided", f"no reward was seen: {base}"
        else:  # of as many states none is plainly broken, with 95 % probability
            detail += f"; a plain break in fewer than {1 - 0.05 ** (1 / looked_at):.0%} could hide"
        verdicts.append(
            Verdict(
                name,
                quantity,
                "fresh draws",
                outcome,
                p_values[test],
                looked_at,
                example,
                detail,
                board,
            )
        )
    return verdicts


def _where(
    symmetry: Symmetry, played: list[Place], sizes: list[FloatArray], agreed: list[tuple[Any, Any]]
) -> Region:
    """The part of the states in which outcomes are plainly another law's than at their images."""
    pairs = [*((place.observation, place.action) for place in played), *agreed]
    differs = [float((size >= size[0] - 1e-9).mean() < PLAIN) for size in sizes]
    n = len(pairs)
    return region(
        symmetry,
        stacked(symmetry.observation_space, [state for state, _ in pairs]),
        np.array([action for _, action in pairs]),
        np.array([*differs, *[0.0] * len(agreed)]),
        np.ones(n),
        np.random.default_rng(0).permutation(n) % 2 == 0,
    )


def _example(
    symmetry: Symmetry,
    g: int,
    place: Place,
    quantity: str,
    sample: FloatArray,
    columns: list[Column],
    here: Sequence[Any],
    there: Sequence[Any],
) -> CounterExample:
    half = len(sample) // 2
    followed = (symmetry.transform_observation(g, here[0][0]), there[0][0])
    values = {
        "dynamics": followed,
        JOINTLY: followed,
        "reward": (here[0][1], there[0][1]),
        "termination": (here[0][2], there[0][2]),
    }
    lines = _tally(quantity, sample[:half], sample[half:], [column.name for column in columns])
    return CounterExample(
        place.observation,
        place.action,
        here[0][0],
        symmetry.transform_observation(g, place.observation),
        place.moved_action,
        *values[quantity],
        tally=lines,
    )


def _tally(quantity: str, here: FloatArray, there: FloatArray, names: list[str]) -> tuple[str, ...]:
    """What followed from (s, a), moved, and from (gs, ga), in the entries that differ most."""
    if quantity == JOINTLY:
        return _rows_tally(here, there, [*names, "reward", "end"])
    if quantity == "dynamics":
        apart = np.abs(here.mean(axis=0) - there.mean(axis=0)) + np.abs(
            here.std(axis=0) - there.std(axis=0)
        )
        order = np.argsort(-apart, kind="stable")[:MOST_ENTRIES]
        chosen = np.sort(order[apart[order] > 1e-9])
        named = [f"{names[j]} " for j in chosen]
    else:
        chosen, named = np.arange(1), [""]
    lines = []
    for whence, sample in ((FROM_S, here), (FROM_GS, there)):
        parts = [
            word + _shown(quantity, sample[:, j]) for word, j in zip(named, chosen, strict=True)
        ]
        lines.append(f"{whence} {'; '.join(parts)}")
    return tuple(lines)


def _rows_tally(here: FloatArray, there: FloatArray, names: list[str]) -> tuple[str, ...]:
    """The same, of the outcomes as wholes."""
    varying = np.flatnonzero(np.concatenate([here, there]).std(axis=0) > 1e-9)[-MOST_ENTRIES:]
    lines = []
    for whence, sample in ((FROM_S, here), (FROM_GS, there)):
        rows, counts = np.unique(sample[:, varying].round(4), axis=0, return_counts=True)
        most = np.argsort(-counts, kind="stable")[:MOST_ENTRIES]
        parts = [
            " ".join(f"{names[j]} {value:g}" for j, value in zip(varying, rows[k], strict=True))
            + f" in {counts[k]}"
            for k in most
        ]
        lines.append(f"{whence} {'; '.join(parts)}")
    return tuple(lines)


def _shown(quantity: str, entry: FloatArray) -> str:
    if quantity == "termination":
        return f"ended {int(entry.sum())} of {len(entry)}"
    values, counts = np.unique(entry.round(4), return_counts=True)
    if len(values) > MOST_ENTRIES:
        return f"mean {entry.mean():.3g}, spread {entry.std():.3g}"
    return ", ".join(f"{v:g} in {c}" for v, c in zip(values, counts, strict=True))


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(_alike(one[key], other[key]) for key in one)
    return bool(np.allclose(np.asarray(one, dtype=float), np.asarray(other, dtype=float)))
