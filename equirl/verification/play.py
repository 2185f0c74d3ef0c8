"""Random play of an environment: the transitions that the statistical check is made on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from equirl.actions import as_leaves, from_leaves, leaves_of
from equirl.errors import SymmetryError

Step = tuple[Any, Any, Any, float, bool, int, int]

PERSISTENCE = (0.0, 0.0, 0.9, 0.97)
"""How likely an action is kept for another step, one of these in each episode: more is seen so."""

EPISODES, LEAST_LONG = 24, 200
"""Episodes are cut off so that there are about so many, but not shorter than that: what is drawn
once in an episode, unseen, is not to decide alone."""

ENOUGH = 2000
"""Transitions that are compared where Ctrl-C ends the play."""

NO_TIME = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class Play:
    """N transitions.

    Args:
        observations: s, ``[N, *shape]``, or a dict of these.
        actions: a, ``[N]`` or ``[N, *shape]``.
        next_observations: s', as ``observations``.
        rewards: ``[N]``.
        terminations: ``[N]``.
        episodes: the number of the episode of each transition, ``[N]``, increasing.
        times: how many steps of its episode came before each, ``[N]``; left out, counted.
    """

    observations: Any
    actions: npt.NDArray[Any]
    next_observations: Any
    rewards: npt.NDArray[np.float64]
    terminations: npt.NDArray[np.bool_]
    episodes: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64] = field(default_factory=lambda: NO_TIME)

    def __post_init__(self) -> None:
        if len(self.times) == 0 and len(self.episodes) > 0:
            first = np.searchsorted(self.episodes, self.episodes)
            object.__setattr__(self, "times", np.arange(len(self.episodes)) - first)

    def __len__(self) -> int:
        return len(self.episodes)

    def rows(self, index: Any) -> Play:
        """The transitions that a slice, a mask or an array of numbers picks out."""
        return Play(
            _rows(self.observations, index),
            self.actions[index],
            _rows(self.next_observations, index),
            self.rewards[index],
            self.terminations[index],
            self.episodes[index],
            self.times[index],
        )


def collect(
    env: gym.Env[Any, Any],
    count: int,
    seed: int,
    on_step: Callable[[], object] = lambda: None,
    seconds: float | None = None,
) -> Play:
    """``count`` transitions under random actions, in some episodes kept for a while.

    Args:
        env: the environment.
        count: number of transitions.
        seed: of the episodes and of the actions.
        on_step: called after each environment step.
        seconds: stop earlier when they are over. Ctrl-C stops as well, if enough is there.

    Raises:
        SymmetryError: a reward is not a finite number.
    """
    steps: list[Step] = []
    end = None if seconds is None else time.monotonic() + seconds
    try:
        for step in _random_steps(env, seed, longest=max(LEAST_LONG, count // EPISODES)):
            steps.append(step)
            on_step()
            if len(steps) >= count or (end is not None and time.monotonic() > end):
                break
    except KeyboardInterrupt:
        if len(steps) < min(ENOUGH, count // 10):
            raise
    return as_play(env.observation_space, steps)


def as_play(space: gym.Space[Any], steps: list[Step]) -> Play:
    """Transitions one by one, as arrays."""
    observations, actions, following, rewards, terminations, episodes, times = zip(
        *steps, strict=True
    )
    return Play(
        stacked(space, observations),
        np.array(actions),
        stacked(space, following),
        np.array(rewards, dtype=np.float64),
        np.array(terminations, dtype=bool),
        np.array(episodes),
        np.array(times),
    )


def stacked(space: gym.Space[Any], observations: Any) -> Any:
    """Observations one by one as one array, or a dict of arrays, in the dtype of the space."""
    leaves = leaves_of(space)
    columns = zip(*(as_leaves(one, leaves) for one in observations), strict=True)
    arrays = [
        np.array(column, dtype=leaf.dtype).reshape(len(column), *leaf.shape)
        for column, leaf in zip(columns, leaves, strict=True)
    ]
    return from_leaves(list(arrays), leaves)


def _random_steps(env: gym.Env[Any, Any], seed: int, longest: int) -> Iterator[Step]:
    generator = np.random.default_rng(seed)
    action_space = env.action_space
    action_space.seed(int(generator.integers(2**31)))
    episode = -1
    while True:
        observation, _ = env.reset(seed=int(generator.integers(2**31)))
        observation, episode, step, done = kept(observation), episode + 1, 0, False
        action, keeps = action_space.sample(), float(generator.choice(PERSISTENCE))
        while not done and step < longest:
            if generator.random() >= keeps:
                action = action_space.sample()
            following, reward, terminated, truncated, _ = env.step(action)
            following = kept(following)
            if not np.isfinite(float(reward)):
                raise SymmetryError(f"the reward was {reward} in step {step} of an episode")
            yield observation, action, following, float(reward), bool(terminated), episode, step
            observation, step, done = following, step + 1, terminated or truncated


def kept(observation: Any) -> Any:
    """A copy: environments may write the next observation over the one before."""
    if isinstance(observation, dict):
        return {key: np.array(part) for key, part in observation.items()}
    return np.array(observation)


def _rows(observations: Any, index: Any) -> Any:
    if isinstance(observations, dict):
        return {key: part[index] for key, part in observations.items()}
    return observations[index]
