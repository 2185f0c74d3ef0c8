"""Checking a symmetry on a black box: random play, then `equirl.verification.transition_test`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry
from equirl.verification.transition_test import (
    TestResult,
    Transitions,
    compare_initial_states,
    compare_transitions,
)
from equirl.verification.verdicts import CounterExample, Verdict

MAX_ENTRIES = 600
"""Larger observations are beyond the regressions of the statistical test."""


@dataclass(frozen=True)
class Play:
    """Random play: N transitions.

    Args:
        observations: s, ``[N, *shape]``.
        actions: ``[N]``.
        next_observations: s', ``[N, *shape]``.
        rewards: ``[N]``.
        terminations: ``[N]``.
        episodes: which stretch of play each is from, ``[N]``; long episodes count as several.
    """

    observations: npt.NDArray[Any]
    actions: npt.NDArray[np.int64]
    next_observations: npt.NDArray[Any]
    rewards: npt.NDArray[np.float64]
    terminations: npt.NDArray[np.bool_]
    episodes: npt.NDArray[np.int64]


STRETCH = 50
"""Transitions of one episode that count as one unit in the statistical test."""


def collect(
    env: gym.Env[Any, Any], count: int, seed: int, on_step: Callable[[], object] = lambda: None
) -> Play:
    """``count`` transitions under uniformly random actions.

    Raises:
        SymmetryError: the observations are dicts or too large for the statistical test.
    """
    space, actions = env.observation_space, env.action_space
    if not isinstance(actions, gym.spaces.Discrete):
        raise SymmetryError(f"the action space must be Discrete, got {actions}")
    generator = np.random.default_rng(seed)
    columns: list[list[Any]] = [[], [], [], [], [], []]
    unit = -1
    while len(columns[0]) < count:
        observation, _ = env.reset(seed=int(generator.integers(2**31)))
        step, done = 0, False
        while not done and len(columns[0]) < count:
            unit += step % STRETCH == 0
            action = int(generator.integers(actions.n))
            following, reward, terminated, truncated, _ = env.step(action)
            row = (observation, action, following, float(reward), terminated, unit)
            for column, value in zip(columns, row, strict=True):
                column.append(value)
            observation, step, done = following, step + 1, terminated or truncated
            on_step()
    if isinstance(space, gym.spaces.Dict):
        raise SymmetryError("dict observations need state_maps: the statistical test takes arrays")
    return Play(*(np.array(column) for column in columns))


def check_statistically(symmetry: Symmetry, name: str, played: Play, level: float) -> list[Verdict]:
    """The verdicts on one generator from random play, each quantity at a third of the level.

    Raises:
        SymmetryError: the observations have more than `MAX_ENTRIES` entries that vary.
    """
    here, there = _flat(played.observations), _flat(played.next_observations)
    varying = int((here.std(axis=0) > 0).sum())
    if varying > MAX_ENTRIES:
        raise SymmetryError(
            f"{varying} entries of the observation vary, the statistical test takes {MAX_ENTRIES}: "
            "register state_maps for an exact check"
        )
    g = symmetry.group.index(name)
    moved_here = _flat(symmetry.transform_observation(g, played.observations))
    moved_there = _flat(symmetry.transform_observation(g, played.next_observations))
    moved_actions = symmetry.transform_action(g, played.actions)
    outcomes = {
        "dynamics": (there - here, moved_there - moved_here),
        "reward": (played.rewards[:, None],) * 2,
        "termination": (played.terminations[:, None].astype(float),) * 2,
    }
    verdicts = []
    for quantity, (as_it_was, as_moved) in outcomes.items():
        result = compare_transitions(
            Transitions(here, played.actions, as_it_was, played.episodes),
            Transitions(moved_here, moved_actions, as_moved, played.episodes),
            int(symmetry.action_space.n),
        )
        holds = result.p_value >= level / len(outcomes)
        example = None if holds else _nearest(symmetry, g, played, quantity, result)
        verdicts.append(
            Verdict(name, quantity, "statistical", holds, result.p_value, len(here), example)
        )
    return verdicts


def _nearest(
    symmetry: Symmetry, g: int, played: Play, quantity: str, result: TestResult
) -> CounterExample:
    """A transition that speaks against the symmetry, beside the nearest one seen to (gs, ga).

    Of those with the most evidence it is the one whose moved state has been seen most nearly.
    """
    flat = _flat(played.observations)
    scale = flat.std(axis=0) + 1e-9
    best = (np.inf, 0, 0)
    for i in result.worst_transitions.tolist():
        moved = symmetry.transform_observation(g, played.observations[i])
        moved_action = int(symmetry.transform_action(g, int(played.actions[i])))
        distance = np.square((flat - _flat(moved[None])) / scale).sum(axis=1)
        distance[played.actions != moved_action] = np.inf
        j = int(distance.argmin())
        best = min(best, (float(distance[j]), i, j))
    _, i, j = best
    observation, following = played.observations[i], played.next_observations[i]
    moved = symmetry.transform_observation(g, observation)
    moved_action = int(symmetry.transform_action(g, int(played.actions[i])))
    values = {
        "dynamics": (symmetry.transform_observation(g, following), played.next_observations[j]),
        "reward": (played.rewards[i], played.rewards[j]),
        "termination": (played.terminations[i], played.terminations[j]),
    }
    return CounterExample(
        observation,
        int(played.actions[i]),
        following,
        moved,
        moved_action,
        *values[quantity],
        nearest_observation=played.observations[j],
    )


def check_initial_states(
    symmetry: Symmetry, name: str, first: npt.NDArray[Any], level: float
) -> Verdict:
    """Whether initial states (``[episodes, *shape]``) are distributed symmetrically."""
    moved = symmetry.transform_observation(symmetry.group.index(name), first)
    p_value = compare_initial_states(_flat(first), _flat(moved))
    holds = p_value >= level / 5  # harmless, so that a false alarm only confuses
    return Verdict(name, "initial states", "statistical", holds, p_value, len(moved))


def _flat(observations: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return observations.reshape(len(observations), -1).astype(np.float64)
