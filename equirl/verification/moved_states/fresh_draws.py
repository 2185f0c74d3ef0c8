"""Stochastic environments that can be put into gs: the laws at s and at gs, drawn again and again.

Copies of the environment at s take a and copies at gs take ga, each with a fresh seed. If the
symmetry holds, what follows from s, moved by g, and what follows from gs are two samples of one
law; their energy distance (Székely & Rizzo 2004) is compared with that of random relabellings.
Nobody has to mirror a random generator.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import EzPickle

from equirl.symmetry import Symmetry
from equirl.verification.play import stacked
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

RELABELLINGS = 999

MOST_ENTRIES = 6
"""Of an observation, and values of an entry, that a counter-example shows."""

PLAIN = 0.01
"""Share of relabellings that differ as much, below which the laws at one state differ."""


@dataclass(frozen=True)
class Place:
    """A state that can be returned to: an environment in s, one in gs, and an action.

    Args:
        env: in s.
        moved_env: in gs.
        observation: s.
        action: a.
        moved_action: ga.
    """

    env: gym.Env[Any, Any]
    moved_env: gym.Env[Any, Any]
    observation: Any
    action: Any
    moved_action: Any


def is_random(place: Place, count: int = 12) -> bool:
    """Whether fresh seeds lead to different outcomes, at s or at gs."""
    for env, action in ((place.env, place.action), (place.moved_env, place.moved_action)):
        outcomes = _draws(env, action, count, 0)
        if outcomes is None:
            return False
        first = outcomes[0]
        for outcome in outcomes[1:]:
            if not all(_alike(a, b) for a, b in zip(first, outcome, strict=True)):
                return True
    return False


def check_by_fresh_draws(
    symmetry: Symmetry,
    name: str,
    places: list[Place],
    agreed: list[tuple[Any, Any]],
    level: float,
    seed: int,
) -> list[Verdict]:
    """The verdicts on one generator from a number of states.

    Args:
        symmetry: what is claimed.
        name: of the generator.
        places: states and their images.
        agreed: (s, a) whose outcomes are known to be those of (gs, ga).
        level: probability of refusing a true generator.
        seed: of the draws and the relabellings.
    """
    g, space = symmetry.group.index(name), symmetry.observation_space
    columns = columns_of(space)
    generator = np.random.default_rng(seed)
    sizes: dict[str, list[FloatArray]] = {q: [] for q in QUANTITIES}
    examples: dict[str, tuple[float, CounterExample]] = {}
    played: list[Place] = []
    for number, place in enumerate(places):
        here = _draws(place.env, place.action, DRAWS, seed + 2 * number)
        there = _draws(place.moved_env, place.moved_action, DRAWS, seed + 2 * number + 1)
        if here is None or there is None:
            continue
        played.append(place)
        moved = symmetry.transform_observation(g, stacked(space, [o for o, _, _ in here]))
        followed = stacked(space, [o for o, _, _ in there])
        x, y = encoded(space, columns, moved), encoded(space, columns, followed)
        samples = {
            "dynamics": np.concatenate([x, y]),
            "reward": np.array([[r] for _, r, _ in [*here, *there]]),
            "termination": np.array([[float(t)] for _, _, t in [*here, *there]]),
        }
        for quantity, sample in samples.items():
            size = _energy(sample, generator)
            sizes[quantity].append(size)
            if size[0] > examples.get(quantity, (-np.inf, None))[0]:
                examples[quantity] = (
                    float(size[0]),
                    _example(symmetry, g, place, quantity, sample, columns, here, there),
                )
    verdicts = []
    for quantity in QUANTITIES:
        looked_at = len(sizes[quantity])
        p_value = min(1.0, len(QUANTITIES) * _p_value(sizes[quantity]))
        refused = p_value < level
        detail = f"{looked_at} states, {DRAWS} fresh draws at each and at its image"
        if looked_at and not refused:  # of as many states none is broken, with 95 % probability
            detail += (
                f"; a break in fewer than {1 - 0.05 ** (1 / looked_at):.0%} of states could hide"
            )
        outcome: Any = "refused" if refused else "holds" if looked_at else "undecided"
        example, board = None, None
        if refused:
            example = examples[quantity][1]
            found = _where(symmetry, played, sizes[quantity], agreed)
            detail, board = "; ".join(part for part in (found.words, detail) if part), found.board
        verdicts.append(
            Verdict(
                name, quantity, "fresh draws", outcome, p_value, looked_at, example, detail, board
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


def _draws(env: Any, action: Any, count: int, seed: int) -> list[Any] | None:
    """(s', reward, terminated) of ``count`` copies with fresh generators; None if impossible."""
    if isinstance(env.unwrapped, EzPickle):  # a copy of it is made anew, and knows of no past
        return None
    outcomes = []
    try:
        for child in np.random.SeedSequence(seed).spawn(count):
            twin = copy.deepcopy(env)
            twin.unwrapped.np_random = np.random.default_rng(child)
            observation, reward, terminated, _, _ = twin.step(action)
            outcomes.append((observation, float(reward), bool(terminated)))
    except (TypeError, AttributeError, NotImplementedError):  # what cannot be copied
        return None
    return outcomes


def _energy(sample: FloatArray, generator: np.random.Generator) -> FloatArray:
    """``[1 + RELABELLINGS]``: the energy distance of the halves, then of random halves, scaled."""
    varying = sample[:, sample.std(axis=0) > 1e-9]
    if varying.shape[1] == 0:
        return np.zeros(1 + RELABELLINGS)
    scaled = varying / varying.std(axis=0)
    squares = np.square(scaled).sum(axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * scaled @ scaled.T, 0))
    half = len(sample) // 2
    labels = np.repeat([1.0, -1.0], half) / half
    shuffled = generator.permuted(np.tile(labels, (RELABELLINGS, 1)), axis=1)
    every = np.vstack([labels, shuffled])
    energy = -np.einsum("ri,ij,rj->r", every, distances, every, optimize=True)
    return np.asarray((energy - energy[1:].mean()) / max(float(energy[1:].std()), 1e-12))


def _p_value(sizes: list[FloatArray]) -> float:
    """Of the sum over states and of the largest, whichever is the smaller, twice."""
    if not sizes:
        return 1.0
    every = np.stack(sizes)
    p_values = [float((s >= s[0] - 1e-9).mean()) for s in (every.sum(axis=0), every.max(axis=0))]
    return min(1.0, 2 * min(p_values))


def _example(
    symmetry: Symmetry,
    g: int,
    place: Place,
    quantity: str,
    sample: FloatArray,
    columns: list[Column],
    here: list[Any],
    there: list[Any],
) -> CounterExample:
    half = len(sample) // 2
    values = {
        "dynamics": (symmetry.transform_observation(g, here[0][0]), there[0][0]),
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
    for whence, sample in (("from (s, a), moved:", here), ("from (gs, ga):     ", there)):
        parts = [
            word + _shown(quantity, sample[:, j]) for word, j in zip(named, chosen, strict=True)
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
