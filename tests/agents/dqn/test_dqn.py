"""Everything SB3 does with a model: saving, training on, callbacks, processes, images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import (
    NormalizeObservation,
    RecordEpisodeStatistics,
)
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecNormalize,
)

from equirl.agents import EquivariantDQN
from equirl.agents.training.callbacks import EquivarianceCallback
from equirl.envs import SymmetryWrapper
from equirl.errors import SymmetryError
from shared.hardware import needs_cuda
from shared.small_agents import METHODS, SMALL, cartpole


def states(model: DQN, count: int = 64) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)


def q_values(model: DQN) -> torch.Tensor:
    with torch.no_grad():
        return model.q_net(model.policy.obs_to_tensor(states(model))[0])


def test_training_on_moves_the_weights_of_the_loaded_lambda_and_its_target(tmp_path: Path) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), "lambda", target_update_interval=20, **SMALL)
    model.learn(100)
    model.save(tmp_path / "agent")
    loaded = EquivariantDQN.load(tmp_path / "agent", env=cartpole(), device="cpu")
    weighting = loaded.q_net.symmetrized.weighting
    beta, spread = weighting.beta.item(), weighting.running_score_spread.item()
    assert beta != 0
    assert spread == model.q_net.symmetrized.weighting.running_score_spread.item() > 0
    loaded.learn(100, reset_num_timesteps=False)
    assert weighting.beta.item() != beta
    target = loaded.q_net_target.symmetrized.weighting
    loaded._n_calls = 19
    loaded._on_step()
    for key, value in weighting.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key
    assert target.running_score_spread.item() != spread


def in_a_process(env: gym.Env[Any, Any]) -> Callable[[], gym.Env[Any, Any]]:
    """Makes the same environment in a process that cannot import this module."""
    return partial(gym.make, env.spec)


@pytest.mark.long
@pytest.mark.parametrize(
    "env",
    [pytest.param(SymmetryWrapper(cartpole()), marks=pytest.mark.slow), cartpole()],
    ids=["declared", "registered"],
)
def test_environments_in_processes_of_their_own(env: gym.Env[Any, Any]) -> None:
    envs = SubprocVecEnv([in_a_process(env)] * 2)
    try:
        model = EquivariantDQN("MlpPolicy", envs, "lambda", **SMALL)
        assert model.symmetry == SymmetryWrapper(cartpole()).symmetry
        model.learn(160)
        mean, _ = evaluate_policy(model, envs, n_eval_episodes=4, warn=False)
    finally:
        envs.close()
    assert model.num_timesteps == 160
    assert mean >= 8


@pytest.mark.long
@pytest.mark.parametrize(
    ("env", "message"),
    [
        (NormalizeObservation(cartpole()), r"may change it: wrap each .*, SymmetryWrapper\(env\)"),
        (NormalizeObservation(SymmetryWrapper(cartpole())), "put SymmetryWrapper outside"),
    ],
    ids=["registered", "declared"],
)
def test_a_symmetry_that_cannot_be_seen_in_another_process_is_refused(
    env: gym.Env[Any, Any], message: str
) -> None:
    envs = SubprocVecEnv([in_a_process(env)])
    try:
        with pytest.raises(SymmetryError, match=message):
            EquivariantDQN("MlpPolicy", envs, **SMALL)
    finally:
        envs.close()


@pytest.mark.parametrize(
    "env",
    [
        "CartPole-v1",
        gym.make("CartPole-v1"),
        SymmetryWrapper(gym.make("CartPole-v1")),
        RecordEpisodeStatistics(gym.make("CartPole-v1")),
        DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2),
        VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]), norm_obs=False),
    ],
    ids=["id", "bare", "wrapped", "monitored", "vectorized", "rewards-normalised"],
)
def test_the_symmetry_is_read_off_the_environment(env: Any) -> None:
    model = EquivariantDQN("MlpPolicy", env, **SMALL)
    assert model.symmetry.group.names == ("e", "mirror")
    assert model.symmetry.permutations.tolist() == [[0, 1], [1, 0]]
    model.learn(60)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("method", METHODS)
def test_an_agent_trained_on_a_gpu_acts_the_same_on_a_cpu(method: str, tmp_path: Path) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), method, **{**SMALL, "device": "cuda"})
    model.learn(100, callback=EquivarianceCallback(every=50))
    model.save(tmp_path / "agent")
    loaded = EquivariantDQN.load(tmp_path / "agent", device="cpu")
    torch.testing.assert_close(q_values(loaded), q_values(model).cpu(), rtol=1e-4, atol=1e-5)
