"""Vectorized environments with asymmetric observations and a known symmetry."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
)

from equirl import Symmetry
from equirl.agents import (
    SymmetricVecNormalize,
)
from equirl.envs import SymmetryWrapper

Array = np.ndarray
THIRD = np.array([[-0.5, -np.sqrt(0.75)], [np.sqrt(0.75), -0.5]])
SKEW = np.array([[0.0, -1.0], [1.0, -1.0]])  # a third of a turn in hexagonal coordinates


def block(*matrices: Array) -> Array:
    size = sum(len(matrix) for matrix in matrices)
    joined, start = np.zeros((size, size)), 0
    for matrix in matrices:
        end = start + len(matrix)
        joined[start:end, start:end] = matrix
        start = end
    return joined


def affine(matrix: Array, centre: Array) -> Callable[[Array], Array]:
    return lambda s: (matrix @ (s - centre) + centre).astype(s.dtype)


# By name: observations, generators as NumPy code, whether entries are mixed.
CASES: dict[str, tuple[spaces.Box, dict[str, Any], bool]] = {
    "signed-permutation": (
        spaces.Box(-9, 9, (4,)),
        {
            "r": (lambda s: np.stack([-s[1], s[0], s[2], -s[3]]), [3, 0, 1, 2]),
            "s": (lambda s: s * np.array([-1, 1, 1, 1], s.dtype), [0, 3, 2, 1]),
        },
        False,
    ),
    "permutation": (
        spaces.Box(-9, 9, (2, 3)),
        {"shift": (lambda s: np.roll(s, 1, axis=1), [1, 2, 0])},
        False,
    ),
    "offset": (
        spaces.Box(0, 6, (3,)),
        {"mirror": (lambda s: np.stack([6 - s[0], 10 - s[2], 10 - s[1]]), [1, 0])},
        False,
    ),
    "rotation": (
        spaces.Box(-9, 9, (3,)),
        {"third": (affine(block(THIRD, np.eye(1)), np.array([1, 2, 0])), [1, 2, 0])},
        True,
    ),
    "two-rotations": (
        spaces.Box(-9, 9, (5,)),
        {"third": (affine(block(SKEW, THIRD, np.eye(1)), np.arange(5.0)), [1, 2, 0])},
        True,
    ),
    "triangular": (
        spaces.Box(-9, 9, (3,)),
        {"shear": (affine(np.array([[1, 1, 0], [0, -1, 0], [0, 0, 1.0]]), np.ones(3)), [1, 0])},
        True,
    ),
    "image": (
        spaces.Box(0, 255, (5, 5, 2), np.uint8),
        {"r": (np.rot90, [3, 0, 1, 2]), "s": (np.fliplr, [0, 3, 2, 1])},
        False,
    ),
    "negative-image": (
        spaces.Box(0, 255, (4, 4, 1), np.uint8),
        {"negative": (lambda s: 255 - s, [1, 0])},
        False,
    ),
}


def asymmetric(space: spaces.Box, count: int, seed: int = 0) -> Array:
    """Observations that lie on one side, spread differently in every entry and correlated."""
    random, n = np.random.default_rng(seed), int(np.prod(space.shape))
    if space.dtype == np.uint8:
        chance = random.uniform(0.05, 0.6, n)
        return (
            (random.random((count, n)) ** 3 * 255 * chance)
            .astype(np.uint8)
            .reshape(count, *space.shape)
        )
    mixing = random.normal(size=(n, n))
    points = random.normal(size=(count, n)) @ mixing + random.uniform(1, 3, n)
    return points.astype(space.dtype).reshape(count, *space.shape)


class Drawn(gym.Env[Any, np.int64]):
    """Asymmetric observations, in episodes of five."""

    def __init__(self, space: spaces.Box, actions: int, observations: Array | None = None) -> None:
        self.observation_space, self.action_space = space, spaces.Discrete(actions)
        self._observations = asymmetric(space, 60) if observations is None else observations
        self._time = 0

    def _observe(self) -> Array:
        self._time += 1
        observation: Array = self._observations[self._time % len(self._observations)]
        return observation

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        return self._observe(), float(action), self._time % 5 == 0, False, {}


@cache
def symmetry(name: str) -> Symmetry:
    space, generators, _ = CASES[name]
    actions = len(next(iter(generators.values()))[1])
    return Symmetry.from_generators(space, spaces.Discrete(actions), generators)


def envs_of(name: str, observations: Array | None = None) -> DummyVecEnv:
    declared = symmetry(name)
    space: Any = declared.observation_space
    env = Drawn(space, int(declared.action_space.n), observations)
    return DummyVecEnv([lambda: SymmetryWrapper(env, declared)])


def normalized(name: str, observations: Array | None = None, **kwargs: Any) -> Any:
    if CASES[name][2]:
        kwargs["clip_obs"] = np.inf
    return SymmetricVecNormalize(envs_of(name, observations), **kwargs)


def moved_by(name: str, generator: str, observations: Array) -> Array:
    """Each moved by NumPy, not by the code under test."""
    move = CASES[name][1][generator][0]
    return np.stack([move(observation) for observation in observations])


class Pair(gym.Env[Any, np.int64]):
    """A Dict observation."""

    observation_space = spaces.Dict(place=spaces.Box(-1, 1, (2,)))
    action_space = spaces.Discrete(2)
