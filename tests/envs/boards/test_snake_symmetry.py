"""Snake: its exact symmetry, and that its observation tells all."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first

from equirl.envs.boards.snake import Snake
from shared.snakes import ENV_ID, Cell, transformed
from shared.square_moves import GROUP_ELEMENTS, transform_action, transform_observation


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
