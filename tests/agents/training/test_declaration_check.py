"""A declaration that was never checked is checked on what a training plays anyway."""

from __future__ import annotations

from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN

from equirl import Symmetry
from equirl.agents.training.declaration_check import DeclarationCheckCallback


@cache
def trained(permutation: tuple[int, ...] | None) -> tuple[DQN, list[str]]:
    """CartPole, mirrored with this permutation of the actions; None checks nothing."""
    env: Any = gym.make("CartPole-v1")
    lines: list[str] = []
    model = DQN("MlpPolicy", env, seed=0, learning_starts=100, train_freq=20, device="cpu")
    callback = None
    if permutation is not None:
        symmetry = Symmetry.from_generators(
            env.observation_space, env.action_space, {"mirror": (np.negative, [*permutation])}
        )
        callback = DeclarationCheckCallback(symmetry, lines.append, at=(800,))
    model.learn(900, callback=callback)
    return model, lines


@pytest.mark.long
@pytest.mark.parametrize(("permutation", "warnings"), [((1, 0), 0), ((0, 1), 1)])
def test_a_wrong_declaration_is_said_once_and_the_training_is_the_same(
    permutation: tuple[int, ...], warnings: int
) -> None:
    model, lines = trained(permutation)
    assert len(lines) == warnings
    plain, _ = trained(None)
    for name, parameter in plain.policy.state_dict().items():
        assert torch.equal(parameter, model.policy.state_dict()[name])
