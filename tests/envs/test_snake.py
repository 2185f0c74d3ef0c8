"""Snake: its rules, its exact symmetry, its interface and its pictures."""

from __future__ import annotations

import copy
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
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

import equirl.envs  # noqa: F401 - registers the environments
from equirl.envs.grid_world import GRID_WORLD_GENERATORS
from equirl.envs.registry import registered_state_maps
from equirl.envs.snake import Snake

ENV_ID = "equirl/Snake-v0"
GROUP_ELEMENTS = tuple("r" * turns + "s" * mirrors for turns in range(4) for mirrors in range(2))
# All cells of a 4 x 4 board, each next to the one before and the last next to the first.
CYCLE = [(r, c) for r in range(4) for c in ((1, 2, 3) if r % 2 == 0 else (3, 2, 1))]
CYCLE += [(3, 0), (2, 0), (1, 0), (0, 0)]

Cell = tuple[int, int]


def transform_observation(word: str, observation: NDArray[Any]) -> NDArray[Any]:
    for generator in word:
        observation = GRID_WORLD_GENERATORS[generator][0](observation)
    return observation


def transform_action(word: str, action: int) -> int:
    for generator in word:
        action = GRID_WORLD_GENERATORS[generator][1][action]
    return action


def transformed(word: str, env: gym.Env[Any, Any], env_id: str = ENV_ID) -> Any:
    moved = copy.deepcopy(env)
    for generator in word:
        registered_state_maps(env_id)[generator](moved)
    return moved


def neighbours(size: int, cell: Cell) -> list[Cell]:
    steps = [(cell[0] + a, cell[1] + b) for a, b in ((-1, 0), (0, 1), (1, 0), (0, -1))]
    return [(r, c) for r, c in steps if 0 <= r < size and 0 <= c < size]


@st.composite
def games(draw: st.DrawFn) -> Snake:
    """Any snake that wanders over the board, often next to its fruit; any random generator."""
    size = draw(st.integers(4, 6))
    snake = [(draw(st.integers(0, size - 1)), draw(st.integers(0, size - 1)))]
    for _ in range(draw(st.integers(2, size**2 - 2))):
        ways = [cell for cell in neighbours(size, snake[-1]) if cell not in snake]
        if not ways:
            break
        snake.append(draw(st.sampled_from(ways)))
    cells = [(row, column) for row in range(size) for column in range(size)]
    near = [cell for cell in neighbours(size, snake[0]) if cell not in snake]
    fruit = draw(st.sampled_from(near + [cell for cell in cells if cell not in snake]))
    env = Snake(size=size)
    env.reset(seed=draw(st.integers(0, 2**32 - 1)))
    env.set_state(snake, fruit, hunger=draw(st.integers(0, 2 * size**2 - 1)))
    return env


@given(games(), st.sampled_from(GROUP_ELEMENTS), st.lists(st.integers(0, 3), min_size=1))
def test_steps_are_equivariant_under_the_dihedral_group_with_the_same_random_numbers(
    env: Snake, word: str, actions: list[int]
) -> None:
    moved = transformed(word, env)
    for action in actions:
        expected, *outcome = env.step(action)
        result, *moved_outcome = moved.step(transform_action(word, action))
        np.testing.assert_array_equal(result, transform_observation(word, expected))
        assert moved_outcome == outcome
        assert moved.np_random.bit_generator.state == env.np_random.bit_generator.state
        if outcome[1]:
            break


@pytest.mark.parametrize(
    ("env_id", "arguments"), [(ENV_ID, {}), ("equirl/GridWorld-v0", {"walls": 0.3})]
)
@pytest.mark.parametrize("word", GROUP_ELEMENTS)
def test_state_maps_show_the_moved_observation_and_leave_the_generator_alone(
    env_id: str, arguments: dict[str, Any], word: str
) -> None:
    env = gym.make(env_id, size=5, **arguments).unwrapped
    observation, _ = env.reset(seed=4)
    moved = transformed(word, env, env_id)
    assert moved.np_random.bit_generator.state == env.np_random.bit_generator.state
    expected, *outcome = env.step(np.int64(1))
    result, *moved_outcome = moved.step(transform_action(word, 1))
    np.testing.assert_array_equal(result, transform_observation(word, expected))
    assert moved_outcome == outcome
    inverse = word[::-1].replace("r", "rrr")
    again = transformed(inverse, transformed(word, env, env_id), env_id)
    np.testing.assert_array_equal(again.step(1)[0], copy.deepcopy(env).step(np.int64(1))[0])
    np.testing.assert_array_equal(moved.reset(seed=4)[0], observation)


def test_initial_states_are_equally_likely() -> None:
    env = Snake(size=4)
    env.reset(seed=0)
    starts, fruits = Counter[bytes](), Counter[tuple[bytes, bytes]]()
    for _ in range(32 * 13 * 20):
        observation, _ = env.reset()
        start, fruit = observation[:, :, :2].tobytes(), observation[:, :, 2].tobytes()
        starts[start] += 1
        fruits[start, fruit] += 1
    assert len(starts) == 32
    assert len(fruits) == 32 * 13
    chi_squared = sum((count - 260) ** 2 / 260 for count in starts.values())
    assert chi_squared < 61.1  # its 0.999 quantile with 31 degrees of freedom
    chi_squared = sum((count - 20) ** 2 / 20 for count in fruits.values())
    assert chi_squared < 511  # its 0.999 quantile with 415 degrees of freedom


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


@given(games())
def test_an_observation_tells_snake_and_fruit(env: Snake) -> None:
    observation, *_ = env.step(0)
    head, body, fruit = np.moveaxis(observation, -1, 0)
    order = sorted(map(tuple, np.argwhere(body).tolist()), key=lambda cell: -int(body[cell]))
    assert len(set(body[body > 0].tolist())) == len(order)
    assert [*map(tuple, np.argwhere(head).tolist()), *order] == env.snake
    assert [*map(tuple, np.argwhere(fruit).tolist())] == [env.fruit] * (env.fruit is not None)
    assert body.max() == head.max() == 255


def test_the_longest_snake_of_all_has_no_two_segments_alike() -> None:
    env = Snake(size=16)
    snake = [(r, c) for r in range(16) for c in (range(16) if r % 2 == 0 else range(15, -1, -1))]
    body = env.set_state(snake, None)[:, :, 1]
    assert sorted(body.ravel().tolist()) == list(range(256))


def test_sb3_sees_a_channel_last_image() -> None:
    for size in (4, 16):
        space = Snake(size=size).observation_space
        assert is_image_space(space)
        assert not is_image_space_channels_first(space)


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


def test_the_picture_shows_snake_and_fruit_in_their_cells_only() -> None:
    env = Snake(size=4, render_mode="rgb_array")
    env.set_state([(1, 2), (1, 1), (2, 1), (3, 1)], (3, 3))
    picture = env.render()
    assert picture is not None
    assert picture.dtype == np.uint8
    assert picture.shape == (4 * 48 + 24, 4 * 48 + 24, 3)
    cells = picture[12:-12, 12:-12].reshape(4, 48, 4, 48, 3).swapaxes(1, 2).astype(int)
    red, green, blue = np.moveaxis(cells, -1, 0)
    snake = {tuple(map(int, cell)) for cell in np.argwhere((blue - green > 30).any((2, 3)))}
    fruit = {tuple(map(int, cell)) for cell in np.argwhere((red - green > 80).any((2, 3)))}
    assert snake == set(env.snake)
    assert fruit == {env.fruit}


@pytest.mark.parametrize("ahead", [(-1, 0), (0, 1), (1, 0), (0, -1)])
def test_the_eyes_look_ahead_whichever_way_the_snake_goes(ahead: Cell) -> None:
    env = Snake(size=5)
    env.set_state([(2 - k * ahead[0], 2 - k * ahead[1]) for k in range(3)], (0, 0))
    board = env.draw()[12:-12, 12:-12].astype(int).sum(-1)
    centre = 2.5 * 48
    pupils = np.argwhere(board < 130).mean(0) + 0.5 - centre
    whites = np.argwhere(board > 740).mean(0) + 0.5 - centre
    assert pupils @ ahead > whites @ ahead + 1 > 2
    assert abs(pupils @ ahead[::-1]) < 1


def test_human_mode_shows_the_picture_in_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = Snake(size=4, render_mode="human")
    env.reset(seed=0)
    env.step(0)
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    np.testing.assert_array_equal(shown, env.draw())
    env.close()
    assert not pygame.display.get_init()
