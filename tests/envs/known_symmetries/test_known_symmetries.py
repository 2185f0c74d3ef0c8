"""The known symmetries hold on the live simulators, states set by hand."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from equirl.envs import SymmetryWrapper, TransformWrapper, registered_ids, symmetry_of
from shared.tried import examples

CARTPOLE = st.tuples(
    st.floats(-2.5, 2.5), st.floats(-5, 5), st.floats(-0.22, 0.22), st.floats(-5, 5)
)
ACROBOT = st.tuples(
    st.floats(-3.14, 3.14), st.floats(-3.14, 3.14), st.floats(-12.5, 12.5), st.floats(-28, 28)
)
GRID_SYMMETRY = SymmetryWrapper(gym.make("equirl/GridWorld-v0", size=4)).symmetry


def put(env: Any, state: tuple[float, ...] | NDArray[Any]) -> None:
    """Puts a classic-control environment into a state, whatever wrappers are around it."""
    env.reset(seed=0)
    env.unwrapped.state = np.array(state, dtype=np.float64)


@settings(deadline=None, max_examples=examples(30))
@given(CARTPOLE, st.integers(0, 1))
def test_cartpole_has_its_mirror_exactly(state: tuple[float, ...], action: int) -> None:
    plain, mirrored = gym.make("CartPole-v1"), TransformWrapper(gym.make("CartPole-v1"), "mirror")
    put(plain, state)
    put(mirrored, [-entry for entry in state])
    expected, *outcome = plain.step(action)
    seen, *seen_outcome = mirrored.step(action)
    np.testing.assert_array_equal(seen, expected)
    assert seen_outcome == outcome


@settings(deadline=None, max_examples=examples(30))
@given(ACROBOT, st.integers(0, 2))
def test_acrobot_has_its_mirror(state: tuple[float, ...], action: int) -> None:
    plain, mirrored = gym.make("Acrobot-v1"), TransformWrapper(gym.make("Acrobot-v1"), "mirror")
    put(plain, state)
    put(mirrored, [-entry for entry in state])
    expected, *outcome = plain.step(action)
    seen, *seen_outcome = mirrored.step(action)
    # cos(x − π/2) rounds differently for x and −x.
    np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-5)
    assert seen_outcome == outcome


@pytest.mark.parametrize("action", [0, 1, 2])
def test_acrobot_without_moving_the_torque_is_no_symmetry(action: int) -> None:
    env = gym.make("Acrobot-v1")
    for state in np.random.default_rng(0).uniform(-1, 1, (10, 4)):
        put(env, state)
        expected = env.step(action)[0] * np.array([1, -1, 1, -1, -1, -1])
        put(env, -state)
        error = np.abs(env.step(action)[0] - expected).max()
        assert (error > 1e-3) == (action != 1)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1"])
def test_a_whole_episode_runs_in_mirror_image(env_id: str) -> None:
    plain: Any = gym.make(env_id)
    mirrored = TransformWrapper(gym.make(env_id), "mirror")
    start, _ = plain.reset(seed=3)
    put(mirrored, -np.asarray(plain.unwrapped.state))
    actions = np.random.default_rng(0).integers(plain.action_space.n, size=40)
    assert np.abs(start).max() > 0
    for action in actions:
        expected, *outcome = plain.step(action)
        seen, *seen_outcome = mirrored.step(action)
        np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-4)
        assert seen_outcome == outcome
        if outcome[1]:
            break


@settings(deadline=None, max_examples=examples(30))
@given(st.integers(0, 10_000), st.integers(0, 3))
def test_gridworld_has_the_symmetry_of_the_square_exactly(seed: int, action: int) -> None:
    env: Any = gym.make("equirl/GridWorld-v0", size=4, walls=0.25)
    symmetry = GRID_SYMMETRY
    observation, _ = env.reset(seed=seed)
    expected, *outcome = env.step(action)
    assert symmetry.group.order == 8
    for g in range(8):
        moved = symmetry.transform_observation(g, observation)
        walls, agent, goal = np.moveaxis(moved, -1, 0) > 0
        (agent_cell,), (goal_cell,) = np.argwhere(agent), np.argwhere(goal)
        env.unwrapped.set_state(tuple(agent_cell), tuple(goal_cell), walls)
        seen, *seen_outcome = env.unwrapped.step(int(symmetry.transform_action(g, action)))
        np.testing.assert_array_equal(seen, symmetry.transform_observation(g, expected))
        assert seen_outcome == outcome


@pytest.mark.parametrize(
    ("env_id", "order", "permutations"),
    [
        ("CartPole-v1", 2, [[0, 1], [1, 0]]),
        ("Acrobot-v1", 2, [[0, 1, 2], [2, 1, 0]]),
    ],
)
def test_classic_control_has_one_mirror(
    env_id: str, order: int, permutations: list[list[int]]
) -> None:
    symmetry = symmetry_of(gym.make(env_id))
    assert symmetry.group.order == order
    assert symmetry.group.names == ("e", "mirror")
    assert symmetry.permutations.tolist() == permutations


@pytest.mark.parametrize("kwargs", [{"size": 2}, {"size": 9}, {"size": 6, "walls": 0.3}])
def test_gridworld_of_every_size_has_the_dihedral_group(kwargs: dict[str, Any]) -> None:
    symmetry = symmetry_of(gym.make("equirl/GridWorld-v0", **kwargs))
    assert symmetry.group.order == 8
    size = kwargs["size"]
    assert symmetry.observation_space.shape == (size, size, 3)
    assert len({tuple(row) for row in symmetry.permutations.tolist()}) == 8


def test_the_known_ids_are_listed() -> None:
    assert {"Acrobot-v1", "CartPole-v1", "equirl/GridWorld-v0"} <= set(registered_ids())
    assert list(registered_ids()) == sorted(registered_ids())
