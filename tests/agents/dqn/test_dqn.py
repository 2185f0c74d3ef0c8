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
from equirl.symmetrize import resolve
from shared.hardware import needs_cuda
from shared.small_agents import METHODS, SMALL, cartpole


def states(model: DQN, count: int = 64) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)


def q_values(model: DQN) -> torch.Tensor:
    with torch.no_grad():
        return model.q_net(model.policy.obs_to_tensor(states(model))[0])


@pytest.mark.parametrize("variant", [
    {"method": "equitune"},
    {"method": "lambda", "init": "equizero"},
    {"method": "equizero", "gradient": "straight_through"},
    {"method": "canonical", "canonical_score": "learned", "gradient": "straight_through"},
], ids=METHODS)  # fmt: skip
def test_a_loaded_agent_acts_as_before_and_trains_on(
    variant: dict[str, Any], tmp_path: Path
) -> None:
    model = EquivariantDQN("MlpPolicy", SymmetryWrapper(cartpole()), **variant, **SMALL)
    model.learn(150)
    model.save(tmp_path / "agent")
    with_env = EquivariantDQN.load(tmp_path / "agent", env=cartpole(), device="cpu")
    without_env = EquivariantDQN.load(tmp_path / "agent", device="cpu")
    for loaded in (with_env, without_env):
        assert loaded.symmetry == model.symmetry
        heeded = resolve(**variant).options  # and nothing else is saved
        assert {**loaded.policy_kwargs, "symmetry": None} == {
            "method": variant["method"],
            **heeded,
            "net_arch": [16],
            "symmetry": None,
        }
        assert torch.equal(q_values(loaded), q_values(model))
    without_env.set_env(SymmetryWrapper(cartpole()))
    for loaded in (with_env, without_env):
        before = q_values(loaded)
        loaded.learn(100, reset_num_timesteps=False)
        assert loaded.num_timesteps >= 250
        assert not torch.equal(q_values(loaded), before)
        left, right = loaded.q_net(torch.zeros(1, 4))[0].tolist()
        assert left == pytest.approx(right, abs=1e-6)


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


@pytest.mark.parametrize("method", METHODS)
def test_predict_takes_one_observation_and_many(method: str) -> None:
    model = EquivariantDQN("MlpPolicy", "CartPole-v1", method, **SMALL)
    many, _ = model.predict(states(model), deterministic=True)
    assert many.shape == (64,)
    assert set(many.tolist()) == {0, 1}
    for observation, action in zip(states(model), many, strict=True):
        one, _ = model.predict(observation, deterministic=True)
        assert one.shape == ()
        assert one == action


def in_a_process(env: gym.Env[Any, Any]) -> Callable[[], gym.Env[Any, Any]]:
    """Makes the same environment in a process that cannot import this module."""
    return partial(gym.make, env.spec)


def test_environments_in_processes_of_their_own() -> None:
    envs = SubprocVecEnv([in_a_process(SymmetryWrapper(cartpole()))] * 4)
    try:
        model = EquivariantDQN("MlpPolicy", envs, "lambda", **SMALL)
        assert model.symmetry == SymmetryWrapper(cartpole()).symmetry
        model.learn(160)
        mean, _ = evaluate_policy(model, envs, n_eval_episodes=4, warn=False)
    finally:
        envs.close()
    assert model.num_timesteps == 160
    assert mean >= 8


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (cartpole(), r"hides what is in its processes: wrap each .*, SymmetryWrapper\(env\)"),
        (
            NormalizeObservation(SymmetryWrapper(cartpole())),
            r"SymmetryWrapper\(NormalizeObservation\(…\), symmetry\)",
        ),
    ],
    ids=["unwrapped", "normalised"],
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


@pytest.mark.parametrize("method", METHODS)
def test_images_train_through_the_aliases(method: str) -> None:
    env = gym.make("equirl/GridWorld-v0", size=36)
    kwargs = {**SMALL, "buffer_size": 100, "learning_starts": 20, "batch_size": 4}
    kwargs["policy_kwargs"] = {"features_extractor_kwargs": {"features_dim": 16}}
    model = EquivariantDQN("CnnPolicy", env, method, **kwargs)
    before = model.q_net.q_net[0].weight.detach().clone()
    model.learn(30)
    assert model.symmetry.group.order == 8
    assert model.observation_space.shape == (3, 36, 36)
    assert not torch.equal(model.q_net.q_net[0].weight, before)
    observation, _ = env.reset(seed=0)
    action, _ = model.predict(observation, deterministic=True)
    for g in range(8):
        moved = model.symmetry.transform_observation(g, observation)
        assert model.predict(moved, deterministic=True)[0] == model.symmetry.transform_action(
            g, action
        )


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
