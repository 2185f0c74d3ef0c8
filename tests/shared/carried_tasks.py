"""Environments that show what they are told, with a symmetry, for wrappers to carry through.

Observations are moved before they enter the real wrapper, by NumPy, and never by the map under
test.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import (
    DtypeObservation,
    FrameStackObservation,
    RescaleObservation,
    ReshapeObservation,
)

from equirl import Symmetry
from equirl.envs import SymmetryWrapper, symmetry_of

Env = gym.Env[Any, Any]
Move = Callable[[Any], Any]
Layer = Callable[[Any], Any]


@dataclass(frozen=True)
class Task:
    """A space of raw observations, and one generator of its symmetry as NumPy code."""

    space: spaces.Space[Any]
    move: Move
    permutation: tuple[int, ...]

    def symmetry(self) -> Symmetry:
        generators = {"g": (self.move, self.permutation)}
        return Symmetry.from_generators(
            self.space, spaces.Discrete(len(self.permutation)), generators
        )


def by_key(**moves: Move) -> Move:
    return lambda observation: {key: moves[key](part) for key, part in observation.items()}


def turned(point: np.ndarray) -> np.ndarray:
    """A third of a turn in the plane."""
    cos, sin = np.cos(2 * np.pi / 3), np.sin(2 * np.pi / 3)
    matrix = np.array([[cos, -sin], [sin, cos]])
    return (matrix @ point).astype(point.dtype)


IMAGE = spaces.Box(0, 255, (6, 6, 2), np.uint8)
TASKS = {
    "vector": Task(
        spaces.Box(np.array([-2, -3, -np.inf, 0], "f"), np.array([2, 3, np.inf, np.inf], "f")),
        lambda v: v * np.array([-1, -1, -1, 1], v.dtype),
        (1, 0),
    ),
    "offset": Task(spaces.Box(0, 6, (3,)), lambda v: (6 - v[[1, 0, 2]]).astype(v.dtype), (1, 0)),
    "signs": Task(spaces.Box(-9, 9, (3,)), np.negative, (1, 0)),
    "turn": Task(spaces.Box(-1, 1, (2,)), turned, (1, 2, 0)),
    "image": Task(IMAGE, np.rot90, (3, 0, 1, 2)),
    "bool-image": Task(spaces.Box(0, 1, (5, 5, 2), np.bool_), np.fliplr, (1, 0)),
    "negative-image": Task(IMAGE, lambda image: 255 - image, (1, 0)),
    "discrete": Task(spaces.Discrete(5), lambda place: 4 - place, (1, 0)),
    "renamed": Task(spaces.Discrete(3), lambda place: (place + 1) % 3, (1, 2, 0)),
    "multi-binary": Task(spaces.MultiBinary(4), lambda bits: 1 - bits[::-1], (1, 0)),
    "dict-of-boxes": Task(
        spaces.Dict(
            image=IMAGE,
            flags=spaces.Box(0, 1, (2,), np.bool_),
            speed=spaces.Box(-3, 3, (2,)),
        ),
        by_key(image=np.fliplr, flags=lambda flags: flags[::-1], speed=np.negative),
        (1, 0),
    ),
    "dict-with-discrete": Task(
        spaces.Dict(image=IMAGE, place=spaces.Discrete(5), speed=spaces.Box(-3, 3, (2,))),
        by_key(image=np.fliplr, place=lambda place: 4 - place, speed=np.negative),
        (1, 0),
    ),
}


class Told(gym.Env[Any, np.int64]):
    """Shows the observations it was given, in episodes of five, then starts anew."""

    def __init__(self, task: Task, observations: list[Any]) -> None:
        self.observation_space = task.space
        self.action_space = spaces.Discrete(len(task.permutation))
        self._observations = itertools.cycle(observations)
        self._time = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._time = 0
        return next(self._observations), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._time += 1
        return next(self._observations), float(action), self._time == 4, False, {}


def told(name: str, *, moved: bool = False) -> Env:
    """An environment with a declared symmetry, showing observations or the moved ones."""
    task = TASKS[name]
    task.space.seed(7)
    observations = [task.space.sample() for _ in range(12)]
    if moved:
        observations = [task.move(observation) for observation in observations]
    return SymmetryWrapper(Told(task, observations), declared(name))


@cache
def declared(name: str) -> Symmetry:
    return TASKS[name].symmetry()


def flat(observation: Any) -> np.ndarray:
    is_dict = isinstance(observation, Mapping)
    parts = [observation[key] for key in sorted(observation)] if is_dict else [observation]
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float64)


def assert_carried(name: str, wrapped: Layer) -> None:
    """What comes out of the wrappers moves by the symmetry found on them."""
    plain, moved = wrapped(told(name)), wrapped(told(name, moved=True))
    symmetry = symmetry_of(plain)
    assert symmetry.observation_space == plain.observation_space
    assert symmetry.group == declared(name).group
    observations = [env.reset()[0] for env in (plain, moved)]
    for step in range(9):
        np.testing.assert_allclose(
            flat(observations[1]),
            flat(symmetry.transform_observation("g", observations[0])),
            rtol=1e-5,
            atol=1e-5,
        )
        if step == 4:
            observations = [env.reset()[0] for env in (plain, moved)]
        observations = [env.step(0)[0] for env in (plain, moved)]


def to_unit_range(env: Env) -> Env:
    """Where bounds are finite, to -1 … 1."""
    space: Any = env.observation_space
    finite = np.isfinite(space.low) & np.isfinite(space.high)
    return RescaleObservation(env, np.where(finite, -1, space.low), np.where(finite, 1, space.high))


def to_bytes(env: Env) -> Env:
    """Zeros and ones as an image that SB3 recognises."""
    return RescaleObservation(DtypeObservation(env, np.uint8), 0, 255)


def reversed_shape(env: Env) -> Env:
    return ReshapeObservation(env, tuple(reversed(env.observation_space.shape or ())))


STACK = partial(FrameStackObservation, stack_size=3)
FLOAT = partial(DtypeObservation, dtype=np.float32)
