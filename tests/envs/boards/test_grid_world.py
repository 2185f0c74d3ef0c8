"""GridWorld: its dynamics, its exact symmetry, its interface and its pictures."""

from __future__ import annotations

import builtins
import pickle
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import DependencyNotInstalled
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from equirl.envs.boards.grid_world import GRID_WORLD_GENERATORS, GridWorld
from shared.square_moves import GROUP_ELEMENTS, transform_action, transform_observation

ENV_ID = "equirl-test/GridWorld-v0"


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    gym.register(
        ENV_ID, entry_point="equirl.envs.boards.grid_world:GridWorld", max_episode_steps=100
    )
    yield
    del gym.registry[ENV_ID]


def cell_in(channel: NDArray[Any]) -> tuple[int, int]:
    ((row, column),) = np.argwhere(channel)
    return int(row), int(column)


def env_showing(observation: NDArray[Any]) -> GridWorld:
    env = GridWorld(size=len(observation))
    walls, agent, goal = np.moveaxis(observation, -1, 0)
    shown = env.set_state(cell_in(agent), cell_in(goal), walls)
    np.testing.assert_array_equal(shown, observation)
    return env


@st.composite
def observations(draw: st.DrawFn) -> NDArray[np.uint8]:
    size = draw(st.integers(2, 6))
    cells = st.integers(0, size**2 - 1)
    agent, goal = draw(st.lists(cells, min_size=2, max_size=2, unique=True))
    flat = np.zeros((size**2, 3), np.uint8)
    flat[sorted(draw(st.sets(cells)) - {agent, goal}), 0] = 255
    flat[agent, 1] = flat[goal, 2] = 255
    return flat.reshape(size, size, 3)


@given(observations(), st.sampled_from(GROUP_ELEMENTS), st.integers(0, 3))
def test_step_is_equivariant_under_the_dihedral_group(
    observation: NDArray[np.uint8], word: str, action: int
) -> None:
    expected, *outcome = env_showing(observation).step(action)
    moved = env_showing(transform_observation(word, observation))
    result, *moved_outcome = moved.step(transform_action(word, action))
    np.testing.assert_array_equal(result, transform_observation(word, expected))
    assert moved_outcome == outcome


def test_generators_generate_a_group_of_order_eight() -> None:
    image = np.arange(4 * 4 * 3).reshape(4, 4, 3)
    moved = {
        (
            transform_observation(word, image).tobytes(),
            tuple(transform_action(word, action) for action in range(4)),
        )
        for word in GROUP_ELEMENTS
    }
    assert len(moved) == 8
    for identity in ("rrrr", "ss", "rsrs"):
        np.testing.assert_array_equal(transform_observation(identity, image), image)
        assert [transform_action(identity, action) for action in range(4)] == [0, 1, 2, 3]


def test_rotation_takes_up_to_left_and_the_top_row_to_the_left_column() -> None:
    image = np.zeros((3, 3, 3))
    image[0] = 1
    rotated = transform_observation("r", image)
    assert rotated[:, 0].all()
    assert rotated.sum() == image.sum()
    assert transform_action("r", 0) == 3


def test_generators_are_picklable() -> None:
    assert pickle.loads(pickle.dumps(GRID_WORLD_GENERATORS)) == GRID_WORLD_GENERATORS


@pytest.mark.parametrize(("action", "cell"), [(0, (0, 1)), (1, (1, 2)), (2, (2, 1)), (3, (1, 0))])
def test_each_action_moves_the_agent_one_cell_in_its_direction(
    action: int, cell: tuple[int, int]
) -> None:
    env = GridWorld(size=4)
    env.set_state(agent=(1, 1), goal=(3, 3))
    observation, *outcome = env.step(action)
    assert cell_in(observation[:, :, 1]) == cell
    assert outcome == [-0.01, False, False, {"is_success": False}]


def test_walls_and_border_stop_the_agent() -> None:
    env = GridWorld(size=2, step_cost=0.25)
    start = env.set_state(agent=(0, 0), goal=(1, 1), walls=[[0, 1], [0, 0]])
    for action in (0, 1, 3):
        observation, reward, terminated, _, _ = env.step(action)
        np.testing.assert_array_equal(observation, start)
        assert (reward, terminated) == (-0.25, False)


def test_reaching_the_goal_gives_one_and_terminates() -> None:
    env = GridWorld(size=2)
    env.set_state(agent=(0, 0), goal=(0, 1))
    observation, *outcome = env.step(1)
    assert observation.tolist() == [[[0, 0, 0], [0, 255, 255]], [[0, 0, 0], [0, 0, 0]]]
    assert outcome == [1.0, True, False, {"is_success": True}]


@given(
    st.integers(2, 9),
    st.floats(0, 0.5, exclude_max=True),
    st.sampled_from(["any", "quarter"]),
    st.integers(0, 2**32 - 1),
)
def test_a_new_episode_has_its_walls_and_a_goal_within_reach(
    size: int, walls: float, goal_region: str, seed: int
) -> None:
    env = GridWorld(size=size, walls=walls, goal_region=goal_region)
    env.reset(seed=seed)
    assert env.walls.sum() == round(walls * size**2)
    assert env.agent != env.goal
    assert goal_region == "any" or max(env.goal) < size // 2
    reached = np.zeros((size + 2, size + 2), np.bool_)
    reached[env.agent[0] + 1, env.agent[1] + 1] = True
    for _ in range(size**2):
        inside = reached[1:-1, 1:-1]
        inside |= reached[:-2, 1:-1] | reached[2:, 1:-1] | reached[1:-1, :-2] | reached[1:-1, 2:]
        inside &= ~env.walls
    assert reached[env.goal[0] + 1, env.goal[1] + 1]


def test_initial_states_are_equally_likely_when_the_goal_is_anywhere() -> None:
    # One wall in a 2 x 2 room leaves 4 * 3 * 2 states, all of them connected.
    env = GridWorld(size=2, walls=0.25)
    env.reset(seed=0)
    draws = Counter(env.reset()[0].tobytes() for _ in range(2400))
    assert len(draws) == 24
    chi_squared = sum((count - 100) ** 2 / 100 for count in draws.values())
    assert chi_squared < 49.7  # its 0.999 quantile with 23 degrees of freedom


def test_the_agent_starts_anywhere_when_the_goal_is_in_a_quarter() -> None:
    env = GridWorld(size=4, goal_region="quarter")
    env.reset(seed=0)
    starts, goals = set(), set()
    for _ in range(500):
        env.reset()
        starts.add(env.agent)
        goals.add(env.goal)
    assert len(starts) == 16
    assert goals == {(0, 0), (0, 1), (1, 0), (1, 1)}


@given(st.integers(0, 2**32 - 1))
def test_the_same_seed_gives_the_same_episodes(seed: int) -> None:
    first, second = (GridWorld(walls=0.3) for _ in range(2))
    for reset_seed in (seed, None, None):
        np.testing.assert_array_equal(
            first.reset(seed=reset_seed)[0], second.reset(seed=reset_seed)[0]
        )


@pytest.mark.parametrize("walls", [0.0, 0.3])
@pytest.mark.parametrize("goal_region", ["any", "quarter"])
def test_check_env_has_nothing_to_say(walls: float, goal_region: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ENV_ID, walls=walls, goal_region=goal_region).unwrapped)


def test_spec_round_trips_through_json() -> None:
    env = gym.make(ENV_ID, size=5, walls=0.2, goal_region="quarter", step_cost=0.1)
    assert env.spec is not None
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    np.testing.assert_array_equal(env.reset(seed=1)[0], again.reset(seed=1)[0])
    assert again.step(0)[1] == env.step(0)[1]


def test_an_environment_survives_pickling() -> None:
    env = GridWorld(walls=0.2)
    env.reset(seed=3)
    again = pickle.loads(pickle.dumps(env))
    np.testing.assert_array_equal(env.step(1)[0], again.step(1)[0])
    np.testing.assert_array_equal(env.reset()[0], again.reset()[0])


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("size", 1, "an integer of at least 2"),
        ("size", 2.5, "an integer of at least 2"),
        ("walls", 0.5, "a fraction in [0, 0.5)"),
        ("walls", -0.1, "a fraction in [0, 0.5)"),
        ("walls", float("nan"), "a fraction in [0, 0.5)"),
        ("walls", "0.1", "a fraction in [0, 0.5)"),
        ("goal_region", "half", "'any' or 'quarter'"),
        ("goal_region", ["any"], "'any' or 'quarter'"),
        ("step_cost", "1", "a finite number of at least 0"),
        ("step_cost", -1.0, "a finite number of at least 0"),
        ("step_cost", float("inf"), "a finite number of at least 0"),
        ("render_mode", "ansi", "None, 'rgb_array' or 'human'"),
    ],
)
def test_a_bad_parameter_is_named_with_what_is_expected(
    name: str, value: Any, expected: str
) -> None:
    message = f"{name} is {value!r}, expected {expected}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        GridWorld(**{name: value})


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"agent": (3, 0)}, "agent is (3, 0), expected a free cell in a room of (3, 3)"),
        ({"agent": (-1, 0)}, "agent is (-1, 0), expected a free cell in a room of (3, 3)"),
        ({"agent": (1,)}, "agent is (1,), expected a free cell in a room of (3, 3)"),
        ({"goal": (0.5, 1)}, "goal is (0.5, 1), expected a free cell in a room of (3, 3)"),
        ({"walls": np.eye(3)}, "agent is (0, 0), expected a free cell in a room of (3, 3)"),
        ({"walls": [[0, 1]]}, "walls has shape (1, 2), expected (3, 3)"),
        ({"goal": (0, 0)}, "agent is (0, 0), which is the goal, expected another cell"),
    ],
)
def test_an_illegal_state_is_refused_and_changes_nothing(
    state: dict[str, Any], message: str
) -> None:
    env = GridWorld(size=3)
    before = env.set_state((2, 1), (0, 2), [[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        env.set_state(**{"agent": (0, 0), "goal": (0, 1), **state})
    np.testing.assert_array_equal(env.step(2)[0], before)


@pytest.mark.parametrize("action", [-1, 4, 1.0])
def test_an_action_that_does_not_exist_is_refused(action: Any) -> None:
    with pytest.raises(ValueError, match="expected 0 up, 1 right, 2 down or 3 left"):
        GridWorld().step(action)


def test_the_picture_shows_walls_agent_and_goal_in_their_cells_only() -> None:
    env = GridWorld(size=3, render_mode="rgb_array")
    env.set_state(agent=(0, 2), goal=(2, 2), walls=[[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    picture = env.render()
    assert picture is not None
    assert picture.dtype == np.uint8
    assert picture.shape == (3 * 48 + 24, 3 * 48 + 24, 3)
    cells = picture[12:-12, 12:-12].reshape(3, 48, 3, 48, 3).swapaxes(1, 2).astype(int)
    middles = cells[:, :, 24, 24]
    floor = middles[1, 1]
    changed = {(int(row), int(column)) for row, column in np.argwhere((middles != floor).any(-1))}
    assert changed == {(1, 0), (0, 2), (2, 2)}
    red, _, blue = middles[0, 2]
    assert blue > red
    red, _, blue = middles[2, 2]
    assert red > blue


def test_the_agent_stays_visible_on_the_goal() -> None:
    env = GridWorld(size=2, render_mode="rgb_array")
    env.set_state(agent=(0, 0), goal=(0, 1))
    env.step(1)
    picture = env.render()
    assert picture is not None
    red, _, blue = picture[12:60, 60:108].reshape(-1, 3).astype(int).T
    assert np.count_nonzero(blue - red > 100) > 50
    assert np.count_nonzero(red - blue > 100) > 50


def test_human_mode_shows_the_picture_in_a_window_and_closes_twice() -> None:
    pygame = pytest.importorskip("pygame")
    env = GridWorld(size=2, render_mode="human")
    env.reset(seed=0)
    env.step(0)
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    env.render_mode = "rgb_array"
    np.testing.assert_array_equal(shown, env.render())
    env.close()
    env.close()
    assert not pygame.display.get_init()


def test_human_mode_without_pygame_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_pygame(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "pygame":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pygame)
    with pytest.raises(DependencyNotInstalled, match=r"pip install equirl\[envs\]"):
        GridWorld(render_mode="human").reset(seed=0)


def test_render_without_a_render_mode_warns_and_returns_nothing() -> None:
    with pytest.warns(UserWarning, match="construct GridWorld with a render_mode"):
        assert GridWorld().render() is None
