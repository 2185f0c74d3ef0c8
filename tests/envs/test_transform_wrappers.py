"""An environment seen through one element of its symmetry, or a random one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from equirl.envs import (
    RandomTransformWrapper,
    TransformWrapper,
)
from equirl.errors import EquirlError, GroupError, SymmetryError
from shared.action_cases import ACTION_CASES, TURN, ActionCase, every_action_case
from shared.wrapped_envs import GRID, LINE_MIRROR, Line, gridworld, states


def test_seen_through_an_element_observations_are_moved_and_actions_moved_back() -> None:
    actions = np.random.default_rng(0).integers(4, size=30).tolist()
    plain = states(gridworld(), actions)
    assert len(plain) > 5
    for g in range(8):
        seen = states(
            TransformWrapper(gridworld(), g, GRID),
            [int(GRID.transform_action(g, action)) for action in actions],
        )
        assert len(seen) == len(plain)
        for here, there in zip(plain, seen, strict=True):
            np.testing.assert_array_equal(there, GRID.transform_observation(g, here))


def test_seen_through_g_and_then_h_is_seen_through_their_product() -> None:
    actions = np.random.default_rng(1).integers(4, size=12).tolist()
    orders_differ = 0
    for g in range(8):
        for h in range(8):
            twice = TransformWrapper(TransformWrapper(gridworld(), g, GRID), h, GRID)
            once = TransformWrapper(gridworld(), int(GRID.group.table[h, g]), GRID)
            for here, there in zip(states(once, actions), states(twice, actions), strict=True):
                np.testing.assert_array_equal(here, there)
            orders_differ += GRID.group.table[h, g] != GRID.group.table[g, h]
    assert orders_differ  # so the order of the factors has been tested


def test_seen_through_g_and_its_inverse_is_the_environment_itself() -> None:
    actions = [0, 1, 2, 3, 1, 1]
    for g in range(8):
        there = TransformWrapper(gridworld(), g, GRID)
        back = TransformWrapper(there, GRID.group.inverse(g), GRID)
        for here, seen in zip(states(gridworld(), actions), states(back, actions), strict=True):
            np.testing.assert_array_equal(here, seen)


def test_dict_observations_are_seen_through_an_element() -> None:
    env = TransformWrapper(Line(), "mirror", LINE_MIRROR)
    here, there = states(Line(), [0, 0, 1]), states(env, [1, 1, 0])
    for plain, seen in zip(here, there, strict=True):
        assert seen["place"] == 4 - plain["place"]
        np.testing.assert_array_equal(seen["speed"], -plain["speed"])
        assert env.observation_space.contains(seen)


def test_an_element_is_given_by_number_or_name() -> None:
    assert TransformWrapper(gridworld(), "r").g == GRID.group.index("r")
    assert TransformWrapper(gridworld(), 3).g == 3
    for wrong in (8, -1, "rotate"):
        with pytest.raises(EquirlError) as caught:
            TransformWrapper(gridworld(), wrong)
        assert "\n" not in str(caught.value)


def test_a_random_element_is_drawn_for_each_episode() -> None:
    env = RandomTransformWrapper(gridworld(), GRID)
    env.reset(seed=0)
    drawn: Counter[int] = Counter()
    for _ in range(400):
        _, info = env.reset()
        g = info["symmetry_element"]
        assert env.step(0)[4]["symmetry_element"] == g == env.g
        drawn[g] += 1
    assert len(drawn) == 8
    chi_squared = sum((count - 50) ** 2 / 50 for count in drawn.values())
    assert chi_squared < 24.3  # its 0.999 quantile with 7 degrees of freedom


def test_a_random_element_stays_for_the_whole_episode() -> None:
    env, plain = RandomTransformWrapper(gridworld(), GRID), gridworld()
    plain.reset(seed=5)
    env.reset(seed=5)
    for _ in range(10):
        here, _ = plain.reset()
        there, info = env.reset()
        g = info["symmetry_element"]
        np.testing.assert_array_equal(there, GRID.transform_observation(g, here))
        for action in (0, 1, 2, 3):
            here = plain.step(action)[0]
            there = env.step(int(GRID.transform_action(g, action)))[0]
            np.testing.assert_array_equal(there, GRID.transform_observation(g, here))


def test_drawing_an_element_does_not_disturb_where_the_environment_starts() -> None:
    env, plain = RandomTransformWrapper(gridworld(), GRID), gridworld()
    for seed in (0, None, None, 7, None):
        here, _ = plain.reset(seed=seed)
        there, info = env.reset(seed=seed)
        np.testing.assert_array_equal(
            there, GRID.transform_observation(info["symmetry_element"], here)
        )


def test_the_element_drawn_under_a_seed_says_nothing_about_the_start() -> None:
    # Without walls, the row of the goal is the first number that the environment draws.
    env: Any = RandomTransformWrapper(gym.make("equirl/GridWorld-v0", size=4), GRID)
    table = np.zeros((4, 8))
    for seed in range(640):
        _, info = env.reset(seed=seed)
        table[env.unwrapped.goal[0], info["symmetry_element"]] += 1
    expected = table.sum(1, keepdims=True) * table.sum(0, keepdims=True) / table.sum()
    chi_squared = ((table - expected) ** 2 / expected).sum()
    assert chi_squared < 46.8  # its 0.999 quantile with 3 · 7 degrees of freedom


def test_the_same_seed_draws_the_same_elements() -> None:
    draws = []
    for _ in range(2):
        env = RandomTransformWrapper(gridworld(), GRID)
        draws.append([env.reset(seed=seed)[1]["symmetry_element"] for seed in (3, *[None] * 20)])
    assert draws[0] == draws[1]


class Recorder(gym.Env[Any, Any]):
    """Hands out what it likes and remembers the action."""

    observation_space = gym.spaces.Box(-9, 9, (2,), np.float32)

    def __init__(self, action_space: gym.spaces.Space[Any], observation: Any) -> None:
        self.action_space, self.observation = action_space, observation

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        return self.observation, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.action = action
        return self.observation, 0.0, False, False, {}


@every_action_case
def test_actions_of_every_space_are_moved_back(case: ActionCase) -> None:
    for wrapper in (TransformWrapper, RandomTransformWrapper):
        inside = Recorder(case.space, np.zeros(2, np.float32))
        options: Any = {"g": "r²"} if wrapper is TransformWrapper else {}
        env = wrapper(inside, symmetry=case.symmetry, **options)
        env.reset(seed=3)
        case.space.seed(0)
        action = case.space.sample()
        env.step(action)
        again = case.symmetry.transform_action(env.g, inside.action)
        assert np.allclose(again, action, rtol=0, atol=1e-6)
        assert case.space.contains(inside.action)


@pytest.mark.parametrize(
    "observation",
    [
        [3, 1],
        np.array([3, 1]),
        np.array([3, 1], object),
        np.array([3, 1], np.float16),
        np.array([3, 1], ">f4"),
    ],
)
def test_whole_numbers_are_not_rounded_where_the_space_says_float(observation: Any) -> None:
    inside = Recorder(gym.spaces.Discrete(3), observation)
    (case,) = [case for case in ACTION_CASES if case.name == "discrete"]
    seen, _ = TransformWrapper(inside, "r", case.symmetry).reset()
    np.testing.assert_allclose(seen, TURN @ [3, 1], rtol=1e-6)


@pytest.mark.parametrize("action", [-1, 2, 0.5, None, np.array(-3)])
def test_an_action_that_is_none_of_the_space_is_not_played(action: Any) -> None:
    env = TransformWrapper(gym.make("CartPole-v1"), "mirror")
    env.reset(seed=0)
    with pytest.raises(EquirlError, match="is not a value of the action"):
        env.step(action)


@pytest.mark.parametrize("element", [-1, 2, 0.5, None, np.float64(1)])
def test_an_element_that_is_none_of_the_group_is_refused(element: Any) -> None:
    with pytest.raises(SymmetryError, match=r"elements are numbered 0 … 1, got"):
        TransformWrapper(gym.make("CartPole-v1"), element)


def test_an_element_of_no_such_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(GroupError, match="no element 'miror'; the elements are e, mirror"):
        TransformWrapper(gym.make("CartPole-v1"), "miror")


@pytest.mark.parametrize("angle", [60, 72, 120])
def test_a_rotated_box_is_widened_to_hold_what_is_seen(angle: int) -> None:
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    matrix = np.array([[cos, -sin], [sin, cos]])

    class Corner(gym.Env[Any, Any]):
        observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        action_space = gym.spaces.Discrete(1)

        def reset(self, **arguments: Any) -> Any:
            return self.np_random.choice([-1, 1], 2).astype(np.float32), {}

    turn = {"turn": (lambda s: (matrix @ s).astype(s.dtype), [0])}
    env = RandomTransformWrapper(Corner(), turn)
    seen = np.stack([env.reset()[0] for _ in range(200)])
    space: Any = env.observation_space
    assert all(space.contains(one) for one in seen)
    np.testing.assert_allclose(space.high, np.abs(seen).max(axis=0), rtol=1e-5)
    assert env.symmetry.observation_space == space
    twice = TransformWrapper(env, 1)
    assert twice.observation_space.contains(twice.reset()[0])


def test_a_box_that_is_kept_stays_the_same_space() -> None:
    assert TransformWrapper(gridworld(), 1).observation_space == gridworld().observation_space
