"""The random generators of an environment and its wrappers, and their states."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np


def generators_of(env: gym.Env[Any, Any]) -> Iterator[tuple[str, Any]]:
    """The random generators of the environment and its wrappers, under the names they have."""
    depth = 0
    while True:
        for name, value in vars(env).items():
            if isinstance(value, np.random.Generator | np.random.RandomState | random.Random):
                yield f"{depth}.{name}", value
        if not isinstance(env, gym.Wrapper):
            return
        env, depth = env.env, depth + 1


def random_states(env: gym.Env[Any, Any]) -> dict[str, Any]:
    """The state of each, by its name."""
    states: dict[str, Any] = {}
    for name, generator in generators_of(env):
        if isinstance(generator, np.random.Generator):
            states[name] = generator.bit_generator.state
        elif isinstance(generator, np.random.RandomState):
            states[name] = generator.get_state(legacy=False)
        else:
            states[name] = generator.getstate()
    return states


def set_random_states(env: gym.Env[Any, Any], states: dict[str, Any]) -> None:
    """Put the generators that are named into these states."""
    for name, generator in generators_of(env):
        if name not in states:
            continue
        if isinstance(generator, np.random.Generator):
            generator.bit_generator.state = states[name]
        elif isinstance(generator, np.random.RandomState):
            generator.set_state(states[name])
        else:
            generator.setstate(states[name])


def renew_random_states(env: gym.Env[Any, Any], seed: np.random.SeedSequence) -> None:
    """Put every one into a fresh state, whichever kind it is.

    Gymnasium's own, ``np_random``, is made if there is none yet, or if something else stands in its
    place, such as a generator whose draws a state map mirrors.
    """
    own: Any = env.unwrapped.np_random
    if not isinstance(own, np.random.Generator):
        env.unwrapped.np_random = np.random.default_rng()
    found = [generator for _, generator in generators_of(env)]
    for generator, child in zip(found, seed.spawn(len(found)), strict=True):
        if isinstance(generator, np.random.Generator):
            kind = type(generator.bit_generator)
            generator.bit_generator.state = kind(child).state
        else:
            generator.seed(int(child.generate_state(1)[0]))


def same_states(left: Any, right: Any) -> bool:
    """Equality of states, nested dicts and tuples that may hold arrays."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same_states(left[k], right[k]) for k in left)
    return bool(np.array_equal(left, right))
