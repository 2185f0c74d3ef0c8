"""Training steps taken several at once draw what steps taken one by one draw."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env

from equirl.agents import EquivariantDQN


def trained(n_envs: int, shortcuts: bool) -> EquivariantDQN:
    settings: dict[str, Any] = {"learning_starts": 16, "batch_size": 8, "buffer_size": 200}
    settings |= {"train_freq": 2, "gradient_steps": 4, "policy_kwargs": {"net_arch": [16]}}
    env = make_vec_env("CartPole-v1", n_envs, seed=0)
    model = EquivariantDQN("MlpPolicy", env, shortcuts=shortcuts, **settings, seed=0, device="cpu")
    return model.learn(80)


@pytest.mark.parametrize("n_envs", [1, 2])
def test_however_many_environments_there_are(n_envs: int) -> None:
    ours, reference = (trained(n_envs, shortcuts) for shortcuts in (True, False))
    for key, value in reference.policy.state_dict().items():
        torch.testing.assert_close(ours.policy.state_dict()[key], value, rtol=1e-4, atol=1e-6)


def test_a_sample_of_the_buffers_own_is_asked_for_each_minibatch() -> None:
    model, asked = trained(1, True), []
    buffer: Any = model.replay_buffer
    sample = buffer.sample
    buffer.sample = lambda count, env=None: asked.append(count) or sample(count, env=env)
    model.train(4, 8)
    assert asked == [8] * 4
