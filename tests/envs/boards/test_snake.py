"""Snake: its rules and its interface."""

from __future__ import annotations

import pickle
import re
import warnings
from collections import Counter
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from equirl.envs.boards.snake import Snake
from shared.snakes import CYCLE, ENV_ID, Cell, transformed


def test_the_fruit_is_drawn_from_all_free_cells_alike() -> None:
    env = Snake(size=4)
    env.reset(seed=0)
    draws = Counter[Any]()
    for _ in range(400):
        env.set_state(CYCLE[1:12][::-1], CYCLE[12])
        env.step(3)
        draws[env.fruit] += 1
    assert set(draws) == {*CYCLE[13:], CYCLE[0]}
    assert sum((count - 100) ** 2 / 100 for count in draws.values()) < 16.3  # 3 degrees of freedom


@pytest.mark.parametrize(("action", "head"), [(0, (1, 2)), (1, (2, 3)), (2, (3, 2))])
def test_the_head_moves_one_cell_and_the_body_follows(action: int, head: Cell) -> None:
    env = Snake()
    env.set_state([(2, 2), (2, 1), (2, 0)], (5, 5))
    _, *outcome = env.step(action)
    assert env.snake == [head, (2, 2), (2, 1)]
    assert outcome == [0.0, False, False, {"fruit": 0, "is_success": False}]


@pytest.mark.parametrize(("neck", "back"), [((1, 2), 0), ((2, 3), 1), ((3, 2), 2), ((2, 1), 3)])
def test_turning_back_keeps_the_heading(neck: Cell, back: int) -> None:
    tail = (2 * neck[0] - 2, 2 * neck[1] - 2)
    ahead = (4 - neck[0], 4 - neck[1])
    env = Snake(size=5)
    env.set_state([(2, 2), neck, tail], (0, 0))
    env.step(back)
    assert env.snake == [ahead, (2, 2), neck]


def test_eating_grows_by_one_and_draws_another_fruit() -> None:
    env = Snake(step_cost=0.25)
    env.reset(seed=0)
    env.set_state([(0, 2), (0, 1), (0, 0)], (0, 3), hunger=7)
    _, *outcome = env.step(1)
    assert env.snake == [(0, 3), (0, 2), (0, 1), (0, 0)]
    assert env.fruit not in (None, *env.snake)
    assert env.hunger == 0
    assert outcome == [1.0, False, False, {"fruit": 1, "is_success": False}]
    env.fruit = (5, 5)
    assert env.step(1)[1] == -0.25


@pytest.mark.parametrize("action", [0, 3])
def test_a_wall_kills(action: int) -> None:
    env = Snake(death_cost=0.5, step_cost=0.25)
    before = env.set_state([(0, 0), (1, 0), (2, 0)], (5, 5))
    observation, *outcome = env.step(action)
    np.testing.assert_array_equal(observation, before)
    assert outcome == [-0.5, True, False, {"fruit": 0, "is_success": False}]


def test_the_body_kills() -> None:
    env = Snake()
    env.set_state([(1, 1), (1, 2), (2, 2), (2, 1), (2, 0)], (5, 5))
    assert env.step(2)[1:] == (-1.0, True, False, {"fruit": 2, "is_success": False})


def test_the_head_may_follow_its_own_tail() -> None:
    env = Snake()
    env.set_state([(1, 1), (1, 2), (2, 2), (2, 1)], (5, 5))
    assert env.step(2)[1:3] == (0.0, False)
    assert env.snake == [(2, 1), (1, 1), (1, 2), (2, 2)]


def test_filling_the_board_is_success() -> None:
    env = Snake(size=4)
    env.set_state(CYCLE[:-1][::-1], CYCLE[-1])
    observation, *outcome = env.step(0)
    assert outcome == [1.0, True, False, {"fruit": 13, "is_success": True}]
    assert not observation[:, :, 2].any()


def test_hunger_truncates_and_fruit_stills_it() -> None:
    env = Snake(size=4, patience=1)
    env.set_state(CYCLE[:5][::-1], CYCLE[10], hunger=14)
    assert env.step(3)[2:4] == (False, False)
    assert env.step(2)[2:4] == (False, True)
    env.set_state([(0, 0), (1, 0), (2, 0)], (0, 1), hunger=15)
    assert env.step(1)[2:4] == (False, False)
    env.set_state([(0, 0), (1, 0), (2, 0)], (0, 1), hunger=15)
    assert env.step(0)[2:4] == (True, False)


@given(st.integers(0, 2**32 - 1))
def test_following_a_cycle_through_all_cells_fills_the_board(seed: int) -> None:
    env = Snake(size=4, patience=1)
    env.reset(seed=seed)
    following = dict(pairwise([*CYCLE, CYCLE[0]]))
    start = CYCLE[:3][::-1]
    env.set_state(start, next(cell for cell in CYCLE if cell not in start))
    total, terminated, truncated = 0.0, False, False
    while not (terminated or truncated):
        (row, column), head = following[env.snake[0]], env.snake[0]
        action = [(-1, 0), (0, 1), (1, 0), (0, -1)].index((row - head[0], column - head[1]))
        _, reward, terminated, truncated, info = env.step(action)
        total += reward
    assert (total, info) == (13.0, {"fruit": 13, "is_success": True})


@given(st.integers(0, 2**32 - 1))
def test_the_same_seed_and_actions_give_the_same_episodes(seed: int) -> None:
    first, second = Snake(size=4), transformed("rs", Snake(size=4))
    for reset_seed in (seed, None, None):
        np.testing.assert_array_equal(
            first.reset(seed=reset_seed)[0], second.reset(seed=reset_seed)[0]
        )
        for action in (0, 1, 2, 3, 1, 0):
            one, *outcome = first.step(action)
            other, *other_outcome = second.step(action)
            np.testing.assert_array_equal(one, other)
            assert outcome == other_outcome


@pytest.mark.parametrize("size", [4, 7, 16])
def test_check_env_has_nothing_to_say(size: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ENV_ID, size=size).unwrapped)


def test_spec_round_trips_through_json() -> None:
    env = gym.make(ENV_ID, size=5, death_cost=0.5, step_cost=0.1, patience=3)
    assert env.spec is not None
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    np.testing.assert_array_equal(env.reset(seed=1)[0], again.reset(seed=1)[0])
    assert again.step(0)[1] == env.step(0)[1]


def test_an_environment_survives_pickling() -> None:
    env = Snake()
    env.reset(seed=3)
    again = pickle.loads(pickle.dumps(env))
    np.testing.assert_array_equal(env.step(1)[0], again.step(1)[0])
    np.testing.assert_array_equal(env.reset()[0], again.reset()[0])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("size", 3, "an integer from 4 to 16"),
        ("size", 17, "an integer from 4 to 16"),
        ("size", 6.0, "an integer from 4 to 16"),
        ("death_cost", -1.0, "a finite number of at least 0"),
        ("death_cost", "1", "a finite number of at least 0"),
        ("step_cost", None, "a finite number of at least 0"),
        ("death_cost", float("nan"), "a finite number of at least 0"),
        ("step_cost", float("inf"), "a finite number of at least 0"),
        ("patience", 0, "an integer, at least 1"),
        ("patience", 1.5, "an integer, at least 1"),
        ("render_mode", "ansi", "one of (None, 'rgb_array', 'human')"),
    ],
)
def test_a_bad_parameter_is_named_with_what_is_expected(
    name: str, value: Any, expected: str
) -> None:
    message = f"{name} is {value!r}, expected {expected}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Snake(**{name: value})


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"snake": [(0, 1), (0, 0)]}, "snake is"),
        ({"snake": [(0, 1), (0, 0), (-1, 0)]}, "snake is"),
        ({"snake": [(0, 1), (0, 0), (0, 1)]}, "snake is"),
        ({"snake": [(0, 3), (0, 1), (0, 0)]}, "snake is"),
        ({"snake": [(0, 2), (0, 1), (0,)]}, "snake is"),
        ({"fruit": (0, 0)}, "fruit is (0, 0), expected a free cell, or None on a full board"),
        ({"fruit": (4, 0)}, "fruit is (4, 0), expected a free cell, or None on a full board"),
        ({"fruit": None}, "fruit is None, expected a free cell, or None on a full board"),
        ({"snake": CYCLE}, "fruit is (3, 3), expected a free cell, or None on a full board"),
        ({"hunger": -1}, "hunger is -1, expected an integer of at least 0"),
        ({"hunger": 0.5}, "hunger is 0.5, expected an integer of at least 0"),
    ],
)
def test_an_illegal_state_is_refused_and_changes_nothing(
    state: dict[str, Any], message: str
) -> None:
    env = Snake(size=4)
    env.set_state([(2, 2), (2, 1), (2, 0)], (0, 0), hunger=5)
    before = (env.snake, env.fruit, env.hunger)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        env.set_state(**{"snake": [(0, 2), (0, 1), (0, 0)], "fruit": (3, 3), **state})
    assert (env.snake, env.fruit, env.hunger) == before


@pytest.mark.parametrize("action", [-1, 4, 1.0])
def test_an_action_that_does_not_exist_is_refused(action: Any) -> None:
    with pytest.raises(ValueError, match="expected 0 up, 1 right, 2 down or 3 left"):
        Snake().step(action)
