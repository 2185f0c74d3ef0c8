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

from equirl.symmetry import Symmetry
from equirl.verification.play import stacked
from equirl.verification.statistics.encoding import FloatArray, columns_of, encoded
from equirl.verification.verdicts import QUANTITIES, CounterExample, Verdict

DRAWS = 60
"""Of each state and of its image."""

MOST_STATES = 40

RELABELLINGS = 999


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
    symmetry: Symmetry, name: str, places: list[Place], level: float, seed: int
) -> list[Verdict]:
    """The verdicts on one generator from a number of states.

    Args:
        symmetry: what is claimed.
        name: of the generator.
        places: states and their images.
        level: probability of refusing a true generator.
        seed: of the draws and the relabellings.
    """
    g, space = symmetry.group.index(name), symmetry.observation_space
    columns = columns_of(space)
    generator = np.random.default_rng(seed)
    sizes: dict[str, list[FloatArray]] = {q: [] for q in QUANTITIES}
    examples: dict[str, tuple[float, CounterExample]] = {}
    for number, place in enumerate(places):
        here = _draws(place.env, place.action, DRAWS, seed + 2 * number)
        there = _draws(place.moved_env, place.moved_action, DRAWS, seed + 2 * number + 1)
        if here is None or there is None:
            continue
        moved = symmetry.transform_observation(g, stacked(space, [o for o, _, _ in here]))
        found = stacked(space, [o for o, _, _ in there])
        x, y = encoded(space, columns, moved), encoded(space, columns, found)
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
                    _example(symmetry, g, place, quantity, sample, here, there),
                )
    verdicts = []
    for quantity in QUANTITIES:
        looked_at = len(sizes[quantity])
        p_value = min(1.0, len(QUANTITIES) * _p_value(sizes[quantity]))
        refused = p_value < level
        detail = f"{looked_at} states, {DRAWS} fresh draws at each and at its image"
        outcome: Any = "refused" if refused else "holds" if looked_at else "undecided"
        example = examples[quantity][1] if refused else None
        verdicts.append(
            Verdict(name, quantity, "fresh draws", outcome, p_value, looked_at, example, detail)
        )
    return verdicts


def _draws(env: Any, action: Any, count: int, seed: int) -> list[Any] | None:
    """(s', reward, terminated) of ``count`` copies with fresh generators; None if impossible."""
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
    here: list[Any],
    there: list[Any],
) -> CounterExample:
    half = len(sample) // 2
    values = {
        "dynamics": (symmetry.transform_observation(g, here[0][0]), there[0][0]),
        "reward": (here[0][1], there[0][1]),
        "termination": (here[0][2], there[0][2]),
    }
    lines = (
        f"from (s, a), moved: {_shown(quantity, sample[:half], here)}",
        f"from (gs, ga):      {_shown(quantity, sample[half:], there)}",
    )
    return CounterExample(
        place.observation,
        place.action,
        here[0][0],
        symmetry.transform_observation(g, place.observation),
        place.moved_action,
        *values[quantity],
        tally=lines,
    )


def _shown(quantity: str, sample: FloatArray, outcomes: list[Any]) -> str:
    if quantity == "termination":
        return f"ended {sum(t for _, _, t in outcomes)} of {len(outcomes)}"
    if quantity == "dynamics":
        values, counts = np.unique(sample.round(4), axis=0, return_counts=True)
        if len(values) > 6:
            mean, spread = sample.mean(axis=0)[:8].round(3), sample.std(axis=0)[:8].round(3)
            return f"mean {mean.tolist()}, spread {spread.tolist()}"
        order = np.argsort(-counts)[:4]
        parts = [f"{values[i][:8].tolist()} in {counts[i]}" for i in order]
        return f"s' {', '.join(parts)} of {len(sample)}"
    values, counts = np.unique(sample[:, 0], return_counts=True)
    if len(values) > 6:
        return f"mean {sample.mean():.3g}, spread {sample.std():.3g}"
    return ", ".join(f"{v:g} in {c}" for v, c in zip(values, counts, strict=True))


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(_alike(one[key], other[key]) for key in one)
    return bool(np.allclose(np.asarray(one, dtype=float), np.asarray(other, dtype=float)))
