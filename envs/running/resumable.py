"""Environments whose running episode another process can go on with."""

from __future__ import annotations

import io
import pickle
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import cloudpickle
import gymnasium as gym
from gymnasium.utils import EzPickle
from gymnasium.utils.env_checker import data_equivalence

from equirl.envs.running.random_states import random_states, same_states, set_random_states
from equirl.envs.running.wrapper_memory import remember, remembered
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
        memory: of the wrappers just before the last ``reset``, see `remembered`.
        reward: the last one.
    """

    pickled: bytes | None
    reset: dict[str, Any]
    generators: dict[str, Any]
    actions: list[Any]
    observation: Any
    generators_now: dict[str, Any]
    memory: bytes | None = None
    reward: Any = None


class ResumableEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Hands over its running episode: pickled, or else as the way there, to be replayed.

    A replay is believed only if it ends in the same observation and reward and with the same random
    states.

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
        self._memory: bytes | None = None
        self._actions: list[Any] = []
        self._observation: Any = None
        self._reward: Any = None

    def carry_symmetry(self, symmetry: Symmetry) -> Symmetry:
        """Observations and actions are handed on as they are."""
        return symmetry

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """See `gymnasium.Env`."""
        self._reset, self._actions, self._reward = arguments, [], None
        self._generators, self._memory = random_states(self.env), remembered(self.env)
        self._observation, info = self.env.reset(**arguments)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env`."""
        self._actions.append(action)
        result = self.env.step(action)
        self._observation, self._reward = result[:2]
        return result

    def snapshot(self) -> Episode:
        """The running episode."""
        return Episode(
            _pickled(self.env),
            self._reset,
            self._generators,
            list(self._actions),
            deepcopy(self._observation),
            random_states(self.env),
            self._memory,
            self._reward,
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
                self._memory, self._actions = episode.memory, list(episode.actions)
                self._observation, self._reward = episode.observation, episode.reward
                return None
        except Exception:
            pass
        try:
            if self._replayed(episode):
                return None
        except Exception:
            pass
        with suppress(Exception):
            remember(self.env, episode.memory)
        return self.reset(seed=seed)[0]

    def _replayed(self, episode: Episode) -> bool:
        self.env.reset(seed=0)  # some random generators are only made now
        remember(self.env, episode.memory)
        set_random_states(self.env, episode.generators)
        self.reset(**episode.reset)
        self._generators = episode.generators
        for action in episode.actions:
            self.step(action)
        same_place = data_equivalence(self._observation, episode.observation, exact=True)
        same_place = same_place and bool(self._reward == episode.reward)
        return same_place and same_states(random_states(self.env), episode.generators_now)


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
