"""Environments with a known break: the parent's where it is not, and broken where they say so."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from equirl.envs import symmetry_of
from equirl.envs.boards.grid_world import GridWorld
from equirl.envs.broken.cartpole import BrokenCartPole
from equirl.envs.broken.grid_world import BrokenGridWorld
from equirl.envs.broken.snake import BrokenSnake
from equirl.envs.broken.space_invaders import BrokenSpaceInvaders
from equirl.envs.registry import registered_state_maps

PARENTS = {
    "equirl/BrokenGridWorld-v0": "equirl/GridWorld-v0",
    "equirl/BrokenSnake-v0": "equirl/Snake-v0",
    "equirl/BrokenCartPole-v0": "CartPole-v1",
    "equirl/BrokenLunarLander-v0": "LunarLander-v3",
    "equirl/BrokenSpaceInvaders-v0": "MinAtar/SpaceInvaders-v1",
}


def made(env_id: str, **kwargs: Any) -> gym.Env[Any, Any]:
    if "Invaders" in env_id:
        pytest.importorskip("minatar.gym", reason='needs pip install "equirl[minatar]"')
        if "MinAtar/SpaceInvaders-v1" not in gym.registry:
            importlib.import_module("minatar.gym").register_envs()
    try:
        return gym.make(env_id, **kwargs)
    except gym.error.DependencyNotInstalled:
        pytest.skip('needs pip install "equirl[box2d]"')


@pytest.mark.parametrize("env_id", PARENTS)
def test_a_share_of_zero_is_the_parent(env_id: str) -> None:
    start = {"even_start": False} if "Invaders" in env_id else {}
    broken, parent = made(env_id, share=0.0, **start), made(PARENTS[env_id])
    for seed in range(3):
        first, _ = broken.reset(seed=seed)
        np.testing.assert_array_equal(first, parent.reset(seed=seed)[0])
        broken.action_space.seed(seed)
        for _ in range(40):
            action = broken.action_space.sample()
            ours, theirs = broken.step(action), parent.step(action)
            np.testing.assert_array_equal(ours[0], theirs[0])
            assert ours[1:4] == theirs[1:4]
            assert not ours[4]["is_broken"]
            if ours[2] or ours[3]:
                break
    if "Invaders" not in env_id:  # whose parent has no symmetry
        assert symmetry_of(broken) == symmetry_of(parent)


@pytest.mark.parametrize("broken_by", ["wall", "slope"])
@pytest.mark.parametrize("share", [0.2, 0.4, 1.0])
def test_a_room_differs_from_gridworld_in_the_cells_that_it_says(
    broken_by: str, share: float
) -> None:
    ours, exact = BrokenGridWorld(broken_by, share, size=5), GridWorld(size=5)
    broken, said = set(), set()
    for agent in np.ndindex(5, 5):
        for goal in np.ndindex(5, 5):
            if agent == goal:
                continue
            for action in range(4):
                ours.set_state(agent, goal)
                exact.set_state(agent, goal)
                if ours.is_broken:
                    said.add(agent)
                step, expected = ours.step(action), exact.step(action)
                if ours.agent != exact.agent:
                    broken.add(agent)
                else:
                    assert step[1:4] == expected[1:4]
    assert broken <= said
    assert said == broken or broken_by == "slope"  # at the bottom nothing slides further
    most = 2 * 4 if broken_by == "wall" else 25
    assert len(said) == min(most, 2 * round(share * 25 / 2) if broken_by == "wall" else share * 25)


@pytest.mark.parametrize("walls", [0.0, 0.3])
def test_every_goal_is_reached_and_none_through_the_unseen_wall(walls: float) -> None:
    env = BrokenGridWorld("wall", 0.32, size=5, walls=walls)
    for seed in range(30):
        env.reset(seed=seed)
        walk, frontier = {env.agent}, [env.agent]
        while frontier:
            agent = frontier.pop()
            for action in range(4):
                env.set_state(agent, env.goal, env.walls)
                done = env.step(action)[2]
                crossed = {agent[1], env.agent[1]} == {2, 3}
                assert not (crossed and agent[0] < 4)
                assert done == (env.agent == env.goal)
                if env.agent not in walk:
                    walk.add(env.agent)
                    frontier += [] if done else [env.agent]
        assert env.goal in walk


def test_pushes_to_the_right_are_weaker_on_the_right_only() -> None:
    env = BrokenCartPole(share=0.25, push=0.5)
    env.reset(seed=0)
    speeds = {}
    for x in (0.0, 1.3):
        for action in (0, 1):
            env.state = np.array([x, 0.0, 0.0, 0.0])
            assert env.is_broken == (x > 1)
            speeds[x, action] = env.step(action)[0][1]
    assert speeds[0.0, 1] == -speeds[0.0, 0] == -speeds[1.3, 0]
    assert speeds[1.3, 1] == pytest.approx(speeds[0.0, 1] / 2)


@pytest.mark.parametrize("continuous", [False, True])
def test_crossed_engines_fire_for_each_other_on_the_right_only(continuous: bool) -> None:
    kwargs = {"broken_by": "engines", "continuous": continuous}
    everywhere, there = (
        made("equirl/BrokenLunarLander-v0", share=share, **kwargs) for share in (1.0, 0.4)
    )
    exact = made("LunarLander-v3", continuous=continuous)
    met = set()
    for seed in range(4):
        for env in (everywhere, there, exact):
            env.reset(seed=seed)
        exact.action_space.seed(seed)
        for _ in range(60):
            action = exact.action_space.sample()
            crossed = action * np.float32([1, -1]) if continuous else [0, 3, 2, 1][action]
            lander: Any = there.unwrapped
            broken = lander.is_broken
            met.add(broken)
            assert broken == (lander.lander.position.x > 0.6 * 20)  # 20 is the whole width
            observation, *expected, _ = exact.step(crossed)
            for env, given in ((everywhere, action), (there, action if broken else crossed)):
                step = env.step(given)
                np.testing.assert_array_equal(step[0], observation)
                assert list(step[1:4]) == expected
                assert step[4]["is_broken"] == (env is everywhere or broken)
            if any(expected[1:]):
                break
    assert met == {True, False}


def test_poisoned_fruit_costs_does_not_feed_and_vanishes() -> None:
    env = BrokenSnake(size=6, share=0.25, poison=0.5)
    env.reset(seed=0)
    env.set_state([(0, 3), (0, 4), (0, 5)], (0, 2))
    _, reward, terminated, _, info = env.step(3)
    assert (reward, terminated, info["fruit"], info["is_broken"]) == (-0.5, False, 0, True)
    assert env.snake == [(0, 2), (0, 3), (0, 4)]
    vanished = 0
    for _ in range(300):
        env.set_state([(3, 3), (3, 4), (3, 5)], (0, 2))
        env.step(0)
        vanished += env.fruit != (0, 2)
    assert 30 < vanished < 70  # one in six
    env.set_state([(3, 3), (3, 4), (3, 5)], (3, 2))
    assert env.step(3)[1] == 1


def test_a_jammed_gun_fires_nothing_and_costs() -> None:
    env = made("equirl/BrokenSpaceInvaders-v0", share=0.2, cost=0.5, sticky_action_prob=0)
    for column in range(10):
        env.reset(seed=0)
        game: Any = env.unwrapped.game.env  # type: ignore[attr-defined]
        game.pos = column
        observation, reward, _, _, info = env.step(3)
        jammed = column >= 8
        assert (observation[..., 4].sum(), reward, info["is_broken"]) == (
            (0, -0.5, True) if jammed else (1, 0, False)
        )


def test_half_of_the_games_begin_mirrored() -> None:
    env = made("equirl/BrokenSpaceInvaders-v0")
    first = [env.reset(seed=seed)[0] for seed in range(60)]
    columns = [int(start[9, :, 0].argmax()) for start in first]
    assert 15 < columns.count(4) < 45
    assert set(columns) == {4, 5}
    left, right = (first[columns.index(column)] for column in (4, 5))
    moved = symmetry_of(env).transform_observation("mirror", left)
    np.testing.assert_array_equal(moved, right)


@pytest.mark.long
def test_the_breach_of_space_invaders_itself_is_which_of_two_near_aliens_shoots() -> None:
    env = made("equirl/BrokenSpaceInvaders-v0", share=0.0)
    mirror = registered_state_maps("equirl/BrokenSpaceInvaders-v0")["mirror"]
    env.action_space.seed(0)
    for gap, differ in ([], False), ([5], True):
        env.reset(seed=0)
        env.unwrapped.game.env.alien_map[:, gap] = 0  # type: ignore[attr-defined]
        bullets = 0
        for step in range(40):
            twin: Any = copy.deepcopy(env)
            mirror(twin.unwrapped)
            action = 0 if differ and step < 12 else int(env.action_space.sample())
            ours, theirs = env.step(action), twin.step([0, 2, 1, 3][action])
            assert ours[1:4] == theirs[1:4]
            moved = symmetry_of(env).transform_observation("mirror", theirs[0])
            different = ours[0] != moved
            assert not different[..., :5].any()
            bullets += different.sum()
            if ours[2]:
                break
        assert (bullets > 0) == differ
        assert step > 15


@pytest.mark.parametrize(
    ("cls", "kwargs", "named"),
    [
        (BrokenGridWorld, {"broken_by": "fog"}, "broken_by is 'fog'"),
        (BrokenGridWorld, {"share": 2}, "share is 2"),
        (BrokenCartPole, {"push": -1}, "push is -1"),
        (BrokenCartPole, {"push": [1]}, r"push is \[1\], expected a fraction"),
        (BrokenGridWorld, {"size": 2, "share": 0.5}, "size is 2, expected at least 3"),
        ("equirl/BrokenLunarLander-v0", {"broken_by": "slope"}, "broken_by is 'slope'"),
        ("equirl/BrokenLunarLander-v0", {"wind": np.nan}, "wind is nan, expected a finite number"),
        ("equirl/BrokenLunarLander-v0", {"share": "a"}, "share is 'a', expected a fraction"),
        (BrokenSnake, {"poison": -1}, "poison is -1"),
        (BrokenSpaceInvaders, {"share": -0.1}, "share is -0.1"),
        (BrokenSpaceInvaders, {"cost": -1}, "cost is -1"),
        (
            BrokenSpaceInvaders,
            {"use_minimal_action_set": False},
            "use_minimal_action_set is False, expected True",
        ),
        ("equirl/PointMass-v0", {"damping": "0.1"}, "damping is '0.1', expected a fraction"),
        ("equirl/PointMass-v0", {"damping": 1.5}, "damping is 1.5, expected a fraction"),
        (BrokenSpaceInvaders, {"even_start": "no"}, "even_start is 'no', expected True or False"),
    ],
)
def test_values_out_of_range_are_refused_by_name(cls: Any, kwargs: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        made(cls, **kwargs) if isinstance(cls, str) else cls(**kwargs)
