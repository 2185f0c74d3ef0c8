"""Environments whose running episode another process can go on with."""

from __future__ import annotations

import io
import pickle
import random
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
from gymnasium.utils import EzPickle
from gymnasium.utils.env_checker import data_equivalence

from equirl.symmetry import Symmetry


@dataclass(frozen=True)
class Episode:
    """A running episode, as `ResumableEnv` hands it to another process.

    Args:
        pickled: the environment itself, or None where it cannot be pickled.
        reset: the arguments of the last ``reset``.
        generators: states of the environment's random generators just before that.
        actions: taken since.
        observation: the last one.
        generators_now: states of the random generators now.
    """

    pickled: bytes | None
    reset: dict[str, Any]
    generators: dict[str, Any]
    actions: list[Any]
    observation: Any
    generators_now: dict[str, Any]


class ResumableEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Hands over its running episode: pickled, or else as the way there, to be replayed.

    A replay is believed only if it ends in the same observation and with the same random states.

    Example:
        >>> env = ResumableEnv(gym.make("CartPole-v1"))
        >>> _ = env.reset(seed=0); _ = env.step(1)
        >>> other = ResumableEnv(gym.make("CartPole-v1"))
        >>> other.restore(env.snapshot(), seed=0) is None
        True
        >>> bool((other.step(0)[0] == env.step(0)[0]).all())
        True
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._reset: dict[str, Any] = {}
        self._generators: dict[str, Any] = {}
        self._actions: list[Any] = []
        self._observation: Any = None

    def carry_symmetry(self, symmetry: Symmetry) -> Symmetry:
        """Observations and actions are handed on as they are."""
        return symmetry

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """See `gymnasium.Env`."""
        self._reset, self._actions = arguments, []
        self._generators = _states(self.env)
        self._observation, info = self.env.reset(**arguments)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env`."""
        self._actions.append(action)
        result = self.env.step(action)
        self._observation = result[0]
        return result

    def snapshot(self) -> Episode:
        """The running episode."""
        return Episode(
            _pickled(self.env),
            self._reset,
            self._generators,
            list(self._actions),
            deepcopy(self._observation),
            _states(self.env),
        )

    def restore(self, episode: Episode, seed: int) -> Any:
        """Go on with an episode; where that cannot be, begin a new one.

        Args:
            episode: from `snapshot`, perhaps of another process.
            seed: for the new episode.

        Returns:
            None, or the new episode's first observation.
        """
        # Unpickling and stepping run the environment's own code, which may fail in any way.
        try:
            if episode.pickled is not None:
                self.env = pickle.loads(episode.pickled)
                self._reset, self._generators = episode.reset, episode.generators
                self._actions, self._observation = list(episode.actions), episode.observation
                return None
        except Exception:
            pass
        try:
            if self._replayed(episode):
                return None
        except Exception:
            pass
        return self.reset(seed=seed)[0]

    def _replayed(self, episode: Episode) -> bool:
        self.env.reset(seed=0)  # some random generators are only made now
        _set_states(self.env, episode.generators)
        self.reset(**episode.reset)
        self._generators = episode.generators
        for action in episode.actions:
            self.step(action)
        same_place = data_equivalence(self._observation, episode.observation, exact=True)
        return same_place and _equal(_states(self.env), episode.generators_now)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Refuses what would come back as new: an `EzPickle` is pickled as its constructor's arguments.

    Box2D, MuJoCo and Atari environments are of this kind.
    """

    def persistent_id(self, obj: Any) -> None:
        if isinstance(obj, EzPickle):
            raise pickle.PicklingError(f"{type(obj).__name__} is pickled without its state")


def _pickled(env: gym.Env[Any, Any]) -> bytes | None:
    file = io.BytesIO()
    try:
        _Pickler(file).dump(env)
    except Exception:  # whatever the environment's parts raise
        return None
    return file.getvalue()


def _generators(env: gym.Env[Any, Any]) -> Iterator[tuple[str, Any]]:
    """The random generators of the environment and its wrappers, under the names they have."""
    depth = 0
    while True:
        for name, value in vars(env).items():
            if isinstance(value, np.random.Generator | np.random.RandomState | random.Random):
                yield f"{depth}.{name}", value
        if not isinstance(env, gym.Wrapper):
            return
        env, depth = env.env, depth + 1


def _states(env: gym.Env[Any, Any]) -> dict[str, Any]:
    states: dict[str, Any] = {}
    for name, generator in _generators(env):
        if isinstance(generator, np.random.Generator):
            states[name] = generator.bit_generator.state
        elif isinstance(generator, np.random.RandomState):
            states[name] = generator.get_state(legacy=False)
        else:
            states[name] = generator.getstate()
    return states


def _set_states(env: gym.Env[Any, Any], states: dict[str, Any]) -> None:
    for name, generator in _generators(env):
        if name not in states:
            continue
        if isinstance(generator, np.random.Generator):
            generator.bit_generator.state = states[name]
        elif isinstance(generator, np.random.RandomState):
            generator.set_state(states[name])
        else:
            generator.setstate(states[name])


def _equal(left: Any, right: Any) -> bool:
    """Equality of nested dicts and tuples that may hold arrays."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_equal(left[k], right[k]) for k in left)
    return bool(np.array_equal(left, right))
