"""Wrappers that change actions: what is played moves as the symmetry inside says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import ClipAction, RescaleAction
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.atari_wrappers import (
    AtariWrapper,
    ClipRewardEnv,
    EpisodicLifeEnv,
    FireResetEnv,
    NoopResetEnv,
)

from equirl.envs import SymmetryWrapper, symmetry_of
from equirl.errors import SymmetryError

Action = Any


class Played(gym.Env[Any, Any]):
    """Shows the action that it was given."""

    def __init__(self, high: list[float]) -> None:
        self.action_space = spaces.Box(-np.array(high, "f"), np.array(high, "f"))
        self.observation_space = spaces.Box(-np.inf, np.inf, (len(high),))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(self.observation_space.shape, "f"), {}

    def step(self, action: Action) -> Any:
        return np.asarray(action, "f"), 0.0, False, False, {}


def swap(v: Action) -> Action:
    return v[[1, 0]]


def swap_two_of_three(v: Action) -> Action:
    return v[[1, 0, 2]] * [-1, -1, 1]


TASKS: dict[str, tuple[list[float], Callable[[Action], Action]]] = {
    "sign": ([2], np.negative),
    "exchange": ([3, 3], swap),
    "both": ([2, 2, 5], swap_two_of_three),
}


def moving(name: str) -> SymmetryWrapper[Any, Any]:
    high, move = TASKS[name]
    return SymmetryWrapper(Played(high), {"g": (move, move)})


def assert_played_alike(name: str, env: Any, action: Action) -> None:
    """``W(ga) = g W(a)``, for W the action that arrives inside."""
    moved = symmetry_of(env).transform_action("g", action)
    env.reset()
    here, *_ = env.step(action)
    there, *_ = env.step(moved)
    np.testing.assert_allclose(there, TASKS[name][1](here), atol=1e-6)


def numbers(least: float, most: float) -> Any:
    return st.lists(st.floats(least, most, width=32), min_size=3, max_size=3)


def cut(name: str, values: list[float]) -> Action:
    return np.array(values[: len(TASKS[name][0])], "f")


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(sorted(TASKS)), values=numbers(-0.5, 0.5))
def test_actions_rescaled_between_equal_bounds_keep_the_symmetry(
    name: str, values: list[float]
) -> None:
    env = RescaleAction(moving(name), np.float32(-0.5), np.float32(0.5))
    assert_played_alike(name, env, cut(name, values))


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(sorted(TASKS)), values=numbers(-9, 9))
def test_actions_that_are_clipped_keep_the_symmetry(name: str, values: list[float]) -> None:
    env = ClipAction(moving(name))
    assert symmetry_of(env).action_space == env.action_space
    assert_played_alike(name, env, cut(name, values))


def test_entries_that_stay_in_their_places_may_have_bounds_of_their_own() -> None:
    high = np.array([1, 1, 9], "f")
    env = RescaleAction(moving("both"), -high, high)
    assert_played_alike("both", env, np.array([0.5, -1, 7], "f"))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("exchange", [-1, -2], [1, 2]),  # the same number is another action
        ("both", [-1, -1, -1], [1, 3, 1]),
    ],
)
def test_unequal_bounds_of_what_changes_places_are_refused(
    name: str, low: list[float], high: list[float]
) -> None:
    env = RescaleAction(moving(name), np.array(low, "f"), np.array(high, "f"))
    with pytest.raises(SymmetryError, match=r"RescaleAction .* g does not map"):
        symmetry_of(env)


FROM_BOXES: dict[str, tuple[list[float], list[float], Callable[[Action], Action]]] = {
    "throttle": ([0], [1], lambda a: 1 - a),
    "uneven": ([-1], [3], lambda a: 2 - a),
    "exchanged": ([0, 0], [4, 4], lambda a: 4 - a[[1, 0]]),
    "shifted": ([0, 2], [1, 3], lambda a: np.array([a[1] - 2, a[0] + 2], a.dtype)),
    "each its own": ([0, -1], [1, 1], lambda a: np.array([1 - a[0], -a[1]], a.dtype)),
}


@pytest.mark.covering(1)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bounds", [(-1, 1), (0, 1), (-1, 3), (-2, 2)], ids=str)
@pytest.mark.parametrize("name", FROM_BOXES)
def test_actions_in_any_box_are_rescaled_to_any_other(
    name: str, bounds: tuple[float, float], dtype: Any
) -> None:
    low, high, move = FROM_BOXES[name]
    inner = Played([1.0] * len(low))
    inner.action_space = spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)
    env = RescaleAction(SymmetryWrapper(inner, {"g": (np.negative, move)}), *map(dtype, bounds))
    symmetry, box = symmetry_of(env), env.action_space
    box.seed(0)
    env.reset()
    for action in [box.low, box.high, *(box.sample() for _ in range(5))]:
        moved = symmetry.transform_action("g", action)
        assert box.contains(moved)
        here, there = (env.step(one)[0] for one in (action, moved))
        np.testing.assert_allclose(there, move(here), atol=1e-6)


class Game(Played):
    """What SB3's Atari wrappers ask of a game."""

    def __init__(self) -> None:
        super().__init__([1])
        self.observation_space = spaces.Box(0, 255, (84, 84, 3), np.uint8)
        self.action_space = spaces.Discrete(4)

    def get_action_meanings(self) -> list[str]:
        return ["NOOP", "FIRE", "LEFT", "RIGHT"]


def mirrored_game() -> Any:
    return SymmetryWrapper(Game(), {"g": (np.fliplr, [0, 1, 3, 2])})


def test_what_plays_before_an_atari_episode_keeps_the_symmetry() -> None:
    game = mirrored_game()
    wrapped = FireResetEnv(EpisodicLifeEnv(NoopResetEnv(ClipRewardEnv(game))))
    assert symmetry_of(wrapped) == game.symmetry


def test_a_symmetry_inside_atari_preprocessing_is_refused_with_where_it_belongs() -> None:
    pytest.importorskip("cv2")
    with pytest.raises(SymmetryError, match=r"SymmetryWrapper\(AtariWrapper\(env\), symmetry\)"):
        symmetry_of(AtariWrapper(mirrored_game()))
    outside = SymmetryWrapper(AtariWrapper(Game()), {"g": (np.fliplr, [0, 1, 3, 2])})
    assert symmetry_of(outside).group.order == 2
