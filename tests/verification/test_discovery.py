"""Symmetries found from nothing but random play."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from equirl.envs import symmetry_of
from equirl.errors import SymmetryError
from equirl.verification.discovery import discover_symmetries
from equirl.verification.discovery.couplings import Couplings, couplings_of
from equirl.verification.discovery.signed_search import signed_permutations
from equirl.verification.play import Play, collect

sys.path.insert(0, str(Path(__file__).parent))
from thrusters import Thrusters


@pytest.mark.long
@pytest.mark.parametrize(
    "env_id",
    [
        "CartPole-v1",
        pytest.param("Acrobot-v1", marks=pytest.mark.slow),
        pytest.param("Pendulum-v1", marks=pytest.mark.slow),
        pytest.param("Walker2d-v5", marks=pytest.mark.slow),
    ],
)
def test_the_known_mirror_is_found_from_nothing(env_id: str) -> None:
    try:
        env: Any = gym.make(env_id)
    except gym.error.DependencyNotInstalled:
        pytest.skip('needs pip install "equirl[mujoco]"')
    count = 6000 if env_id == "CartPole-v1" else 40_000
    found = discover_symmetries(
        collect(env, count, seed=0), env.action_space, measure_sensitivity=False
    ).symmetry
    known = symmetry_of(env)
    assert found.group.order == known.group.order == 2
    states = np.random.default_rng(0).normal(size=(20, *env.observation_space.shape))
    np.testing.assert_allclose(
        found.transform_observation(1, states), known.transform_observation(1, states)
    )
    actions = np.stack([env.action_space.sample() for _ in range(20)])
    np.testing.assert_allclose(
        found.transform_action(1, actions), known.transform_action(1, actions)
    )


def test_mountain_car_has_none() -> None:
    env = gym.make("MountainCar-v0")
    found = discover_symmetries(collect(env, 6000, seed=0), env.action_space)
    assert found.symmetry.group.order == 1
    assert not found.generators


@pytest.mark.long
@pytest.mark.parametrize("discrete", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_three_thrusters_turn_by_thirds(discrete: bool) -> None:
    env = gym.wrappers.TimeLimit(Thrusters(discrete), 40)
    found = discover_symmetries(
        collect(env, 6000, seed=0), env.action_space, measure_sensitivity=False
    ).symmetry
    assert found.group.order == 6  # with the mirror


@pytest.mark.long
def test_a_wind_leaves_the_thrusters_only_the_mirror_along_it() -> None:
    env = gym.wrappers.TimeLimit(Thrusters(wind=0.2), 40)
    found = discover_symmetries(
        collect(env, 6000, seed=0), env.action_space, measure_sensitivity=False
    )
    assert found.symmetry.group.order == 2
    np.testing.assert_array_equal(
        found.symmetry.transform_observation(1, np.ones(4)), [1, -1, 1, -1]
    )


@pytest.mark.long
def test_two_dimensional_noise_with_a_turn_has_the_whole_group() -> None:
    """A walker in the plane, pushed in the four directions: the symmetries of the square."""
    generator = np.random.default_rng(0)
    pushes = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    states = generator.normal(size=(3000, 2))
    actions = generator.integers(4, size=3000)
    following = 0.9 * states + pushes[actions] + 0.1 * generator.normal(size=(3000, 2))
    played = _play(states, actions, following, -np.square(states).sum(axis=1))
    assert (
        discover_symmetries(
            played, spaces.Discrete(4), measure_sensitivity=False
        ).symmetry.group.order
        == 8
    )


@pytest.mark.parametrize("start", [-1, 0, 5])
def test_discrete_actions_may_begin_anywhere(start: int) -> None:
    generator = np.random.default_rng(0)
    states, actions = generator.normal(size=(3000, 1)), generator.integers(2, size=3000)
    following = 0.9 * states + (2 * actions - 1)[:, None] + 0.1 * generator.normal(size=(3000, 1))
    played = _play(states, actions + start, following, np.cos(states[:, 0]))
    space = spaces.Discrete(2, start=start)
    found = discover_symmetries(played, space, measure_sensitivity=False)
    assert found.symmetry.transform_action(1, np.array([start, start + 1])).tolist() == [
        start + 1,
        start,
    ]


def test_a_level_at_which_nothing_can_be_tested_is_refused() -> None:
    generator = np.random.default_rng(0)
    states, actions = generator.normal(size=(3000, 1)), generator.integers(2, size=3000)
    following = 0.9 * states + (2 * actions - 1)[:, None] + 0.1 * generator.normal(size=(3000, 1))
    played = _play(states, actions, following, np.cos(states[:, 0]))
    with pytest.raises(
        SymmetryError, match=r"at a level of 0\.0001, but at one of 0\.0005 and more"
    ):
        discover_symmetries(played, spaces.Discrete(2), 1e-4)


def test_what_never_varies_is_left_alone_and_named() -> None:
    generator = np.random.default_rng(1)
    states = np.hstack([generator.normal(size=(3000, 1)), np.full((3000, 1), 7.0)])
    actions = generator.uniform(-1, 1, size=(3000, 1))
    following = states + np.hstack([actions, np.zeros_like(actions)])
    found = discover_symmetries(_play(states, actions, following), spaces.Box(-1, 1, (1,)))
    assert found.unseen == (1,)
    np.testing.assert_array_equal(
        found.symmetry.transform_observation(1, np.array([1.0, 7.0])), [-1.0, 7.0]
    )
    lopsided = discover_symmetries(_play(states, actions, following), spaces.Box(-1, 2, (1,)))
    assert lopsided.symmetry.group.order == 1  # a sign would lead out of the box


@st.composite
def mirrored_systems(draw: st.DrawFn) -> tuple[Any, Any, Any, int]:
    """An involution of 5 observations and 2 actions by signs, and a linear system that has it."""
    swapped = draw(st.lists(st.booleans(), min_size=3, max_size=3))
    order = np.arange(7)
    for i, j, is_swapped in zip((0, 2, 5), (1, 3, 6), swapped, strict=True):
        if is_swapped:
            order[[i, j]] = [j, i]
    signs = np.array(draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=7, max_size=7)))
    signs = np.where(order < np.arange(7), signs[order], signs)  # so that it is an involution
    mirror = signs[:, None] * np.eye(7)[order]
    seed = draw(st.integers(0, 2**16))
    effects = np.random.default_rng(seed).normal(size=(5, 7))
    effects = (effects + mirror[:5, :5] @ effects @ mirror.T) / 2
    return order, signs, effects, seed


@given(mirrored_systems())
@settings(max_examples=15, deadline=None)
def test_the_involution_of_a_linear_system_is_among_the_candidates(system: Any) -> None:
    order, signs, effects, seed = system
    found = [(o.tolist(), s.tolist()) for o, s in signed_permutations(_couplings(effects, seed))]
    identity = order.tolist() == list(range(7)) and (signs > 0).all()
    assert identity or (order.tolist(), signs.tolist()) in found


def test_an_effect_a_tenth_weaker_on_one_side_is_seen() -> None:
    effects = np.zeros((5, 7))
    effects[0, 5], effects[1, 6], effects[2:, 0], effects[2:, 1] = 1.0, 1.0, 0.5, 0.5
    swap = [1, 0, 2, 3, 4, 6, 5]
    even, weaker = _couplings(effects, 0), effects.copy()
    weaker[1, 6] = 0.9
    assert not even.contradict(np.eye(7)[swap])
    assert _couplings(weaker, 0).contradict(np.eye(7)[swap])


def noisy_decay(seed: int, lean: float = 0.0) -> Play:
    """s' = 0.9 s + a + noise, which the sign has, less a lean to one side."""
    generator = np.random.default_rng(seed)
    states = generator.normal(size=(3000, 1))
    actions = generator.uniform(-1, 1, size=(3000, 1))
    following = 0.9 * states + actions + lean + 0.1 * generator.normal(size=(3000, 1))
    return _play(states, actions, following)


@pytest.mark.long
@pytest.mark.parametrize("leans_again", [False, True])
def test_what_the_test_refuses_is_missed_only_if_refused_on_fresh_play_too(
    leans_again: bool,
) -> None:
    played = noisy_decay(0)
    # The half that tests leans, as by a stretch of bad luck; the half that proposes does not.
    half = np.random.default_rng(0).permutation(int(played.episodes.max()) + 1) % 2
    played.next_observations[half[played.episodes] == 1] += 0.1
    fresh = noisy_decay(1, 0.1 if leans_again else 0.0)
    found = discover_symmetries(
        played, spaces.Box(-1, 1, (1,)), measure_sensitivity=False, play_again=lambda: fresh
    )
    if leans_again:
        (one,) = found.unconfirmed
        assert not found.generators
        assert len(one.p_values) == 2
        assert max(one.p_values) < 0.05
        assert "on fresh play refused" in one.reason
        np.testing.assert_array_equal(
            one.symmetry.transform_observation("candidate", np.ones(1)), [-1]
        )
    else:
        assert found.symmetry.group.order == 2
        assert found.second_tests["mirror"] < 0.05
        assert {verdict.generator for verdict in found.verdicts} == {"mirror"}


def _couplings(effects: Any, seed: int) -> Couplings:
    generator = np.random.default_rng(seed)
    z = generator.normal(size=(4000, 7))
    following = z[:, :5] + z @ effects.T + 0.1 * generator.normal(size=(4000, 5))
    return couplings_of(_play(z[:, :5], z[:, 5:], following), z[:, 5:], are_choices=False)


def _play(states: Any, actions: Any, following: Any, rewards: Any = None) -> Play:
    """In episodes of 20 steps."""
    count = len(states)
    rewards = np.zeros(count) if rewards is None else rewards
    episodes = np.arange(count) // 20
    return Play(states, actions, following, rewards, np.zeros(count, dtype=bool), episodes)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_entry_that_is_not_a_finite_number_is_refused_by_name(bad: float) -> None:
    states = np.random.default_rng(0).normal(size=(40, 2))
    following = states.copy()
    following[7, 1] = bad
    with pytest.raises(SymmetryError, match=r"s\[1\] is NaN or infinite in 1 of 40 transitions"):
        discover_symmetries(_play(states, states, following), spaces.Discrete(2))


def test_what_is_not_a_vector_or_has_other_actions_is_refused() -> None:
    env = gym.make("equirl/GridWorld-v0")
    played = collect(env, 300, seed=0)
    with pytest.raises(SymmetryError, match="vectors"):
        discover_symmetries(played, env.action_space)
    states = np.zeros((40, 2))
    with pytest.raises(SymmetryError, match="Discrete or a Box"):
        discover_symmetries(_play(states, states, states), spaces.MultiBinary(2))
