"""A running episode goes on in another environment, or is said not to."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.utils import EzPickle
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, TimeLimit, TransformReward

from equirl.envs.running.resumable import ResumableEnv


class Noisy(CartPoleEnv):
    """Draws from its random generator at every step."""

    def step(self, action: Any) -> Any:
        observation, *rest = super().step(action)
        self.state = np.array(self.state) + self.np_random.normal(0, 0.01, 4)
        return observation, *rest


class Locked(Noisy):
    """Cannot be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class ByArguments(Noisy, EzPickle):
    """Is pickled as if it were new."""

    def __init__(self) -> None:
        Noisy.__init__(self)
        EzPickle.__init__(self)


class Worldly(Locked):
    """Draws from a generator that is nobody's."""

    def reset(self, **arguments: Any) -> Any:
        super().reset(**arguments)
        self.state = np.random.uniform(-0.05, 0.05, 4)  # noqa: NPY002  # the point of it
        return np.array(self.state, dtype=np.float32), {}


def resumable(kind: type[CartPoleEnv]) -> ResumableEnv:
    return ResumableEnv(TimeLimit(kind(), 60))


def played(env: gym.Env[Any, Any], steps: int) -> list[Any]:
    seen = []
    for i in range(steps):
        observation, _, terminated, truncated, _ = env.step(i % 2)
        seen.append(observation)
        if terminated or truncated:
            seen.append(env.reset()[0])
    return seen


@pytest.mark.parametrize("steps", [0, 7, 130], ids=["at once", "first episode", "later episode"])
@pytest.mark.parametrize("kind", [Noisy, Locked, ByArguments])
def test_an_episode_goes_on_bit_for_bit(kind: type[CartPoleEnv], steps: int) -> None:
    env, other = resumable(kind), resumable(kind)
    env.reset(seed=3)
    played(env, steps)
    episode = env.snapshot()
    assert (episode.pickled is not None) == (kind is Noisy)
    sent = pickle.loads(pickle.dumps(episode))  # as it comes from a file
    assert other.restore(sent, seed=0) is None
    np.testing.assert_array_equal(played(other, 200), played(env, 200))


def test_an_episode_that_was_resumed_can_be_resumed_again() -> None:
    for kind in (Noisy, Locked):
        env, second, third = resumable(kind), resumable(kind), resumable(kind)
        env.reset(seed=3)
        played(env, 20)
        second.restore(env.snapshot(), seed=0)
        assert third.restore(second.snapshot(), seed=0) is None
        np.testing.assert_array_equal(played(third, 100), played(env, 100))


@pytest.mark.parametrize("kind", [Noisy, ByArguments])
def test_wrappers_go_on_with_what_they_remember_of_earlier_episodes(
    kind: type[CartPoleEnv],
) -> None:
    def make() -> ResumableEnv:
        shaped = TransformReward(kind(), lambda reward: 2 * reward)
        return ResumableEnv(NormalizeReward(NormalizeObservation(TimeLimit(shaped, 60))))

    def rewards(env: ResumableEnv) -> list[Any]:
        given = [env.step(i % 2) for i in range(5)]
        return [(observation.tolist(), reward) for observation, reward, *_ in given]

    env, other = make(), make()
    env.reset(seed=3)
    played(env, 130)
    sent = pickle.loads(pickle.dumps(env.snapshot()))
    assert other.restore(sent, seed=0) is None
    assert rewards(other) == rewards(env)


def test_a_replay_that_ends_elsewhere_is_not_believed() -> None:
    env, other = resumable(Worldly), resumable(Worldly)
    env.reset(seed=3)
    played(env, 5)
    first = other.restore(env.snapshot(), seed=11)
    assert first is not None
    assert first.shape == (4,)
    played(other, 10)
