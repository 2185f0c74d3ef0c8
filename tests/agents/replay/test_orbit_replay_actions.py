"""Orbit replay moves actions of every space, and takes a symmetry in every form."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import DictReplayBuffer

from equirl import Symmetry
from equirl.agents import OrbitDictReplayBuffer, OrbitReplayBuffer
from equirl.agents.policy_spaces import check_policy_spaces, for_policy
from equirl.envs import SymmetryWrapper, symmetry_of
from equirl.errors import SymmetryError
from shared.action_cases import ACTION_CASES, ActionCase
from shared.symmetry_cases import FLOATS

PENDULUM = {"mirror": ([1, -1, -1], [-1])}
stored = [
    case
    for case in ACTION_CASES
    if case.space.shape is not None
    and case.name not in ("scalar", "unbounded", "bytes", "discrete-int32", "multi-discrete")
]


@pytest.mark.parametrize("case", stored, ids=lambda case: case.name)
def test_observations_and_actions_are_moved_by_one_element(case: ActionCase) -> None:
    symmetry, space = case.symmetry, case.space
    buffer = OrbitReplayBuffer(
        4, symmetry.observation_space, space, device="cpu", symmetry=symmetry
    )
    space.seed(0)
    action = space.sample()
    scaled = action
    if isinstance(space, spaces.Box):  # as SB3's off-policy algorithms store them
        scaled = 2 * (action - space.low) / (space.high - space.low) - 1
    state = np.array([1.0, 2.0], np.float32)
    buffer.add(state[None], state[None], np.asarray(scaled)[None], np.zeros(1), np.zeros(1), [{}])
    samples = buffer.sample(60)
    elements = set()
    for row in range(60):
        apart = symmetry.orbit(state) - samples.observations[row].numpy()
        g = int(np.abs(apart).max(axis=1).argmin())
        elements.add(g)
        expected = symmetry.transform_action(g, action)
        if isinstance(space, spaces.Box):
            expected = 2 * (expected - space.low) / (space.high - space.low) - 1
        assert np.allclose(samples.actions[row].numpy(), np.ravel(expected), atol=1e-5)
    assert len(elements) == 6


def test_generators_and_ids_are_symmetries_too() -> None:
    env = gym.make("CartPole-v1")
    known = symmetry_of(env)
    for given in (known, "CartPole-v1", {"mirror": (np.negative, [1, 0])}):
        buffer = OrbitReplayBuffer(
            9, env.observation_space, env.action_space, device="cpu", symmetry=given
        )
        assert buffer.symmetry == known


@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.Box(-1, 1, (2,))])
def test_a_symmetry_of_other_actions_is_refused(space: spaces.Space[Any]) -> None:
    known = symmetry_of(gym.make("CartPole-v1"))
    with pytest.raises(SymmetryError, match="replay buffer holds"):
        OrbitReplayBuffer(9, known.observation_space, space, device="cpu", symmetry=known)


def test_stock_sac_learns_from_it() -> None:
    env = SymmetryWrapper(gym.make("Pendulum-v1"), PENDULUM)
    model = SAC(
        "MlpPolicy",
        env,
        learning_starts=10,
        batch_size=8,
        buffer_size=50,
        replay_buffer_class=OrbitReplayBuffer,
        replay_buffer_kwargs={"symmetry": env.symmetry},
        policy_kwargs={"net_arch": [8]},
        device="cpu",
    )
    model.learn(20)


def test_a_discrete_observation_in_a_buffer_keeps_its_column() -> None:
    space = spaces.Discrete(4)
    turn = Symmetry.from_generators(space, spaces.Discrete(2), {"r": ([1, 2, 3, 0], [0, 1])})
    column = torch.tensor([[0], [3]])
    with pytest.raises(SymmetryError, match="shape"):
        turn.transform_observation("r", column)
    carried = for_policy(turn, space)
    assert carried.transform_observation("r", column).tolist() == [[1], [0]]
    assert carried.orbit(column).shape == (4, 2, 1)
    assert carried.transform_observation("r", torch.tensor([0, 3])).tolist() == [1, 0]
    part = Symmetry.from_generators(
        spaces.Dict(a=space, b=FLOATS),
        spaces.Discrete(2),
        {"r": ({"a": [1, 2, 3, 0], "b": None}, [0, 1])},
    )
    buffer = OrbitDictReplayBuffer(
        3, part.observation_space, part.action_space, device="cpu", symmetry=part
    )
    assert isinstance(buffer, DictReplayBuffer)


@pytest.mark.parametrize(
    ("observations", "actions", "remedy"),
    [
        (spaces.Discrete(19, start=2), spaces.Discrete(2), r"Discrete\(19\)"),
        (spaces.Dict(a=spaces.Discrete(3, start=-1)), spaces.Discrete(2), r"\['a'\]"),
        (spaces.MultiDiscrete([[2, 3], [4, 5]]), spaces.Discrete(2), r"MultiDiscrete\(\[2 3 4 5\]"),
        (spaces.MultiDiscrete([2, 3], start=[0, 1]), spaces.Discrete(2), "TransformObservation"),
        (FLOATS, spaces.Discrete(2, start=1), "TransformAction"),
        (FLOATS, spaces.MultiDiscrete([[2, 3]]), "TransformAction"),
        (FLOATS, spaces.MultiBinary((2, 3)), r"MultiBinary\(6\)"),
    ],
)
def test_spaces_that_sb3_fails_on_later_are_refused_with_the_remedy(
    observations: spaces.Space[Any], actions: spaces.Space[Any], remedy: str
) -> None:
    with pytest.raises(SymmetryError, match=remedy) as caught:
        check_policy_spaces(observations, actions)
    assert "\n" not in str(caught.value)
