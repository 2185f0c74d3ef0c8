"""`SmallCnn`: a features extractor for boards too small for NatureCNN."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.preprocessing import preprocess_obs

from equirl.agents import EquivariantDQN, SmallCnn
from equirl.envs.boards.grid_world import GRID_WORLD_GENERATORS
from shared.small_agents import METHODS


def model_on_snake(method: Any) -> EquivariantDQN:
    extractor = {"features_dim": 32, "channels": 8}
    return EquivariantDQN(
        "CnnPolicy",
        gym.make("equirl/Snake-v0", size=6),
        method,
        policy_kwargs={
            "features_extractor_class": SmallCnn,
            "features_extractor_kwargs": extractor,
            "net_arch": [16],
        },
        buffer_size=300,
        learning_starts=100,
        train_freq=20,
        batch_size=8,
        seed=0,
        device="cpu",
    )


@pytest.mark.parametrize("shape", [(1, 3, 3), (3, 6, 6), (4, 10, 10), (10, 10, 10), (22, 5, 8)])
def test_features_have_the_asked_dimension_whatever_the_board(shape: tuple[int, ...]) -> None:
    space = spaces.Box(0, 255, shape, np.uint8)
    extractor = SmallCnn(space, features_dim=20, channels=5)
    boards = torch.from_numpy(np.stack([space.sample() for _ in range(7)]))
    features = extractor(preprocess_obs(boards, space))
    assert features.shape == (7, 20)
    assert extractor.features_dim == 20
    assert (features >= 0).all()
    features.sum().backward()
    assert all(parameter.grad is not None for parameter in extractor.parameters())


def test_it_has_the_parameters_of_two_convolutions_and_a_linear_layer() -> None:
    extractor = SmallCnn(spaces.Box(0, 255, (3, 6, 6), np.uint8), features_dim=128, channels=32)
    count = sum(parameter.numel() for parameter in extractor.parameters())
    assert count == (3 * 9 + 1) * 32 + (32 * 9 + 1) * 32 + (32 * 36 + 1) * 128


@pytest.mark.parametrize("method", METHODS)
def test_on_snake_it_trains_and_q_values_stay_symmetric(method: str) -> None:
    model = model_on_snake(method)
    assert isinstance(model.q_net.features_extractor, SmallCnn)
    assert model.observation_space.shape == (3, 6, 6)
    before = model.q_net.features_extractor.cnn[0].weight.detach().clone()
    model.learn(200)
    assert not torch.equal(model.q_net.features_extractor.cnn[0].weight, before)
    env = gym.make("equirl/Snake-v0", size=6)
    boards = [env.reset(seed=seed)[0] for seed in range(20)]

    def q_values(boards: list[Any]) -> np.ndarray:
        with torch.no_grad():
            values: np.ndarray = model.q_net(
                model.policy.obs_to_tensor(np.stack(boards))[0]
            ).numpy()
        return values

    here = q_values(boards)
    assert np.ptp(here, axis=1).max() > 1e-3
    for image_map, permutation in GRID_WORLD_GENERATORS.values():
        there = q_values([image_map(board) for board in boards])
        np.testing.assert_allclose(there[:, permutation], here, rtol=1e-5, atol=1e-5)


def test_it_serves_plain_dqn_and_survives_saving(tmp_path: Any) -> None:
    kwargs = {"features_extractor_class": SmallCnn, "net_arch": [8]}
    env = gym.make("equirl/Snake-v0", size=4)
    model = DQN("CnnPolicy", env, policy_kwargs=kwargs, buffer_size=10, device="cpu")
    model.save(tmp_path / "agent")
    loaded = DQN.load(tmp_path / "agent", device="cpu")
    boards, _ = model.policy.obs_to_tensor(np.stack([env.reset(seed=s)[0] for s in range(5)]))
    torch.testing.assert_close(loaded.q_net(boards), model.q_net(boards))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(-1, 1, (4,)), r"takes images \[channels, height, width\], got \(4,\)"),
        (spaces.Box(0, 1, (10, 10, 4), np.bool_), "looks like channels last: SB3 puts them first"),
        (spaces.Box(0, 1, (10, 10, 4), np.uint8), "looks like channels last: .* from 0 to 1"),
    ],
    ids=["vector", "bool", "ones"],
)
def test_what_is_no_image_with_channels_first_is_refused(space: spaces.Box, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmallCnn(space)
