"""Symmetries found from nothing but random play."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from equirl import Symmetry
from equirl.envs import symmetry_of
from equirl.errors import SymmetryError
from equirl.verification.discovery import as_generators, discover_symmetries
from equirl.verification.statistical import Play, collect


@pytest.mark.parametrize(
    "env_id",
    [
        "CartPole-v1",
        pytest.param("Acrobot-v1", marks=pytest.mark.slow),
        pytest.param("LunarLander-v3", marks=pytest.mark.slow),
    ],
)
def test_the_known_mirror_is_found_from_nothing(env_id: str) -> None:
    try:
        env: Any = gym.make(env_id)
    except gym.error.DependencyNotInstalled:
        pytest.skip('needs pip install "equirl[box2d]"')
    found = discover_symmetries(collect(env, 30_000, seed=0), int(env.action_space.n))
    assert len(found) == 1
    declared = Symmetry.from_generators(
        env.observation_space, env.action_space, as_generators(found)
    )
    known = symmetry_of(env)
    states = np.stack([env.observation_space.sample() for _ in range(20)])
    states = np.clip(states, -9, 9)
    assert np.allclose(
        declared.transform_observation("mirror", states), known.transform_observation(1, states)
    )
    assert np.array_equal(declared.permutations, known.permutations)


def test_mountain_car_has_none() -> None:
    assert discover_symmetries(collect(gym.make("MountainCar-v0"), 30_000, seed=0), 3) == []


def test_two_dimensional_noise_with_a_turn_has_the_whole_group() -> None:
    """A walker in the plane, pushed in the four directions: the symmetries of the square."""
    generator = np.random.default_rng(0)
    pushes = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    states = generator.normal(size=(5000, 2))
    actions = generator.integers(4, size=5000)
    following = 0.9 * states + pushes[actions] + 0.1 * generator.normal(size=(5000, 2))
    played = Play(
        states,
        actions,
        following,
        -np.square(states).sum(axis=1),
        np.zeros(5000, dtype=bool),
        np.repeat(np.arange(100), 50),
    )
    found = discover_symmetries(played, 4)
    assert len(found) == 7  # all of the group of order 8 but the identity


def test_images_are_refused() -> None:
    env = gym.make("equirl/GridWorld-v0")
    with pytest.raises(SymmetryError, match="vectors"):
        discover_symmetries(collect(env, 2000, seed=0), 4)
