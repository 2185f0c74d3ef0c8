"""Which policy of SB3 a training takes where none is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import A2C, DQN
from stable_baselines3.dqn.policies import MultiInputPolicy

from equirl.commands.training.model import flattens_images
from equirl.configs.algorithms import ALGORITHMS
from equirl.configs.schema import TrainConfig
from shared.refusals import SHORT, TRAIN, Refused
from shared.short_training import train


def dict_env() -> gym.Env[Any, Any]:
    env = gym.make("CartPole-v1")
    keyed = spaces.Dict(all=env.observation_space)
    return gym.wrappers.TransformObservation(env, lambda x: {"all": x}, keyed)


gym.register("equirl-test/KeyedCartPole-v0", dict_env)


def test_dicts_get_the_policy_for_them_without_being_asked(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    keys = ("env.id=equirl-test/KeyedCartPole-v0", "method=plain", "total_timesteps=64")
    train(equirl_command, tmp_path / "run", *keys, "eval.every=64", "eval.episodes=1")
    model = DQN.load(tmp_path / "run" / "final_model.zip", device="cpu")
    assert isinstance(model.policy, MultiInputPolicy)


@pytest.mark.parametrize(
    ("shape", "dtype", "flattened"),
    [
        ((40, 40, 3), np.uint8, True),
        ((4, 84, 84), np.uint8, True),
        ((7, 7, 3), np.uint8, False),  # which the CNN of SB3 is too large for
        ((40, 40, 3), np.float32, False),
    ],
)
def test_only_images_that_a_cnn_could_read_are_said_to_be_flattened(
    shape: tuple[int, ...], dtype: Any, flattened: bool
) -> None:
    settings = TrainConfig(algorithm=ALGORITHMS["dqn"]())
    assert flattens_images(settings, spaces.Box(0, 255, shape, dtype)) is flattened


def test_pretrained_takes_no_agent_of_another_algorithm(refused: Refused, tmp_path: Path) -> None:
    agent = tmp_path / "agent.zip"
    A2C("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8]}, device="cpu").save(agent)
    line = refused(*TRAIN, *SHORT, f"pretrained={agent}")
    assert line == f"pretrained: {agent} must be an agent of dqn, as what is trained, got a2c"
