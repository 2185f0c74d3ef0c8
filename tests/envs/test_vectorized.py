"""The symmetry of vectorized environments: a user's own, in processes, and Gymnasium's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import ClipReward, FlattenObservation, FrameStackObservation
from gymnasium.wrappers import vector as vector_wrappers
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecEnv,
    VecFrameStack,
    VecMonitor,
)

from equirl import Symmetry
from equirl.agents import EquivariantDQN
from equirl.envs import (
    RandomTransformWrapper,
    SymmetryWrapper,
    TransformWrapper,
    register_symmetry,
    registry,
    symmetry_of,
)
from equirl.errors import SymmetryError
from shared.wrapped_envs import Env, cartpole

MIRROR: Any = {"mirror": (np.negative, [1, 0])}


class Batch(VecEnv):
    """Many worlds in one simulator, which answers no questions."""

    def __init__(self) -> None:
        super().__init__(4, spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(2))

    def reset(self) -> Any:
        return np.zeros((4, 4), np.float32)

    def step_async(self, actions: Any) -> None:
        pass

    def step_wait(self) -> Any:
        return self.reset(), np.zeros(4), np.zeros(4, bool), [{} for _ in range(4)]

    def close(self) -> None:
        pass

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        if attr_name == "render_mode":
            return [None] * 4
        raise NotImplementedError

    def set_attr(self, *arguments: Any, **named: Any) -> None:
        raise NotImplementedError

    env_method = set_attr  # type: ignore[assignment]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * 4


class Mute(Batch):
    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        raise NotImplementedError


class Saying(Batch):
    def __init__(self) -> None:
        super().__init__()
        space, actions = self.observation_space, self.action_space
        self.symmetry = Symmetry.from_generators(space, actions, MIRROR)


def test_a_vec_env_of_the_users_own_is_given_a_symmetry_without_being_asked() -> None:
    model = EquivariantDQN("MlpPolicy", Mute(), symmetry=MIRROR, buffer_size=9)
    assert model.symmetry.group.order == 2
    assert symmetry_of(VecMonitor(Batch()), MIRROR) == model.symmetry
    assert symmetry_of(VecFrameStack(Batch(), 3), MIRROR).observation_space.shape == (12,)


def test_a_vec_env_of_the_users_own_may_say_its_symmetry() -> None:
    assert symmetry_of(VecMonitor(Saying())) == Saying().symmetry


@pytest.mark.parametrize("kind", [Batch, Mute])
def test_where_nothing_is_known_it_is_said_what_to_give(kind: type[Batch]) -> None:
    with pytest.raises(SymmetryError, match=rf"{kind.__name__} hides .*symmetry=generators"):
        symmetry_of(kind())


class Yes(Batch):
    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [True] * 4


def test_one_that_says_yes_to_everything_is_given_a_symmetry_or_refused() -> None:
    with pytest.raises(SymmetryError, match=r"Yes hides .*symmetry=generators"):
        symmetry_of(Yes())
    assert symmetry_of(Yes(), MIRROR).group.order == 2


def patched_batch() -> Any:
    envs = DummyVecEnv([lambda: SymmetryWrapper(cartpole())])
    envs.step_wait = lambda: None  # type: ignore[assignment, method-assign, return-value]
    return envs


class Shifted(DummyVecEnv):
    def step_wait(self) -> Any:
        observations, *rest = super().step_wait()
        return (observations + 1, *rest)


class ShiftedSync(gym.vector.SyncVectorEnv):
    def reset(self, **arguments: Any) -> Any:
        observations, infos = super().reset(**arguments)
        return observations + 1, infos


ACTING_THEIR_OWN_WAY: dict[str, Callable[[], Any]] = {
    "patched": patched_batch,
    "subclass": lambda: Shifted([lambda: SymmetryWrapper(cartpole())]),
    "gymnasium": lambda: ShiftedSync([lambda: SymmetryWrapper(cartpole())]),
}


@pytest.mark.parametrize("make", ACTING_THEIR_OWN_WAY.values(), ids=ACTING_THEIR_OWN_WAY.keys())
def test_vectorized_environments_that_act_their_own_way_are_not_taken_for_the_librarys(
    make: Callable[[], Any],
) -> None:
    with pytest.raises(SymmetryError, match=r"in its own way, .* give the symmetry") as caught:
        symmetry_of(make())
    assert "\n" not in str(caught.value)
    assert symmetry_of(make(), MIRROR).group.order == 2


@contextmanager
def processes(make: Callable[[], Env]) -> Iterator[Any]:
    envs = SubprocVecEnv([make, make], start_method="fork")  # which needs no second import of torch
    try:
        yield envs
    finally:
        envs.close()


def namesake(env: Env) -> Env:
    class Monitor(gym.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            observation, *rest = self.env.step(action)
            return (observation + 1, *rest)

    return Monitor(env)


def shifted() -> Env:
    return namesake(SymmetryWrapper(cartpole()))


def test_a_symmetry_declared_in_one_process_alone_is_not_that_of_all() -> None:
    other = SymmetryWrapper(cartpole(), {})
    envs = SubprocVecEnv([lambda: other, cartpole], start_method="fork")
    try:
        with pytest.raises(SymmetryError, match="wrap each environment there"):
            symmetry_of(envs)
    finally:
        envs.close()


IN_PROCESSES: dict[str, Callable[[], Env]] = {
    "transformed": lambda: TransformWrapper(cartpole(), 1),
    "monitored": lambda: Monitor(RandomTransformWrapper(cartpole())),
    "declared-twice": lambda: SymmetryWrapper(FlattenObservation(SymmetryWrapper(cartpole()))),
    "registered": lambda: Monitor(cartpole()),
}


@pytest.mark.parametrize("name", IN_PROCESSES)
def test_the_symmetry_is_found_in_processes(name: str) -> None:
    with processes(IN_PROCESSES[name]) as envs:
        assert symmetry_of(VecMonitor(envs)) == SymmetryWrapper(cartpole()).symmetry


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (shifted, "changes what SymmetryWrapper says"),
        (lambda: FlattenObservation(shifted()), "put SymmetryWrapper outside it"),
        (lambda: gym.make("Blackjack-v1"), "SubprocVecEnv hides what is in its environments"),
        (lambda: ClipReward(namesake(cartpole()), -1), "a wrapper .* may change it: wrap each"),
        (lambda: FrameStackObservation(cartpole(), 2), "does not fit what comes out .*: wrap each"),
    ],
    ids=["namesake", "flattened", "unknown", "registered-and-changed", "registered-and-stacked"],
)
def test_what_processes_do_not_say_is_refused(make: Callable[[], Env], message: str) -> None:
    with processes(make) as envs, pytest.raises(SymmetryError, match=message):
        symmetry_of(envs)


CARTPOLE = SymmetryWrapper(cartpole()).symmetry


def test_gymnasiums_vectorized_environments_have_the_symmetry_of_each() -> None:
    for mode in ("sync", "vector_entry_point"):
        envs = gym.make_vec("CartPole-v1", 2, vectorization_mode=mode)
        assert symmetry_of(envs) == CARTPOLE
        assert symmetry_of(vector_wrappers.RecordEpisodeStatistics(envs)) == CARTPOLE
        assert symmetry_of(envs, {}).group.order == 1
        envs.close()


def test_an_argument_that_may_break_a_symmetry_is_seen_in_vectorized_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_known", dict(registry._known))
    register_symmetry("CartPole-v1", MIRROR, not_with=["sutton_barto_reward"])
    refused = "not known to hold with sutton_barto_reward"
    for mode in ("sync", "vector_entry_point"):
        assert symmetry_of(gym.make_vec("CartPole-v1", 2, vectorization_mode=mode)) == CARTPOLE
        envs = gym.make_vec("CartPole-v1", 2, vectorization_mode=mode, sutton_barto_reward=True)
        with pytest.raises(SymmetryError, match=refused):
            symmetry_of(envs)
    with processes(cartpole) as envs:
        assert symmetry_of(envs) == CARTPOLE
    make = partial(gym.make, "CartPole-v1", sutton_barto_reward=True)
    with processes(make) as envs, pytest.raises(SymmetryError, match=refused):
        symmetry_of(envs)


def test_gymnasiums_processes_are_given_the_symmetry() -> None:
    envs = gym.make_vec("CartPole-v1", 2, vectorization_mode="async")
    try:
        assert symmetry_of(envs, MIRROR) == CARTPOLE
        with pytest.raises(SymmetryError, match="AsyncVectorEnv hides what is in it"):
            symmetry_of(envs)
    finally:
        envs.close()


def test_gymnasiums_vectorized_wrappers_are_known_by_class() -> None:
    envs = gym.make_vec("CartPole-v1", 2)
    with pytest.raises(SymmetryError, match="NormalizeObservation"):
        symmetry_of(vector_wrappers.NormalizeObservation(envs))
    envs.close()
