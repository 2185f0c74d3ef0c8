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
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecNormalize,
)

from equirl.agents import EquivariantDQN, EquivariantDQNPolicy
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


@pytest.mark.parametrize("method", METHODS)
def test_our_policy_lives_a_whole_life_in_stock_dqn(method: str, tmp_path: Path) -> None:
    env = SymmetryWrapper(cartpole())
    policy_kwargs = {"symmetry": env.symmetry, "method": method, "net_arch": [16]}
    model = DQN(EquivariantDQNPolicy, env, **{**SMALL, "policy_kwargs": policy_kwargs})
    model.learn(150)
    model.save(tmp_path / "agent")
    for loaded in (
        DQN.load(tmp_path / "agent", device="cpu"),
        DQN.load(tmp_path / "agent", env=env, device="cpu"),
    ):
        assert type(loaded.policy) is EquivariantDQNPolicy
        assert torch.equal(q_values(loaded), q_values(model))
        actions, _ = loaded.predict(states(loaded), deterministic=True)
        np.testing.assert_array_equal(actions, model.predict(states(model), deterministic=True)[0])
        mirrored, _ = loaded.predict(-states(loaded), deterministic=True)
        np.testing.assert_array_equal(mirrored, 1 - actions)


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


@pytest.mark.parametrize("method", METHODS)
def test_the_callbacks_and_the_evaluation_of_sb3_work(method: str, tmp_path: Path) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), method, **SMALL)
    model.learn(
        120,
        callback=[
            EvalCallback(
                Monitor(SymmetryWrapper(cartpole())),
                n_eval_episodes=2,
                eval_freq=60,
                log_path=str(tmp_path),
                best_model_save_path=str(tmp_path),
                verbose=0,
            ),
            CheckpointCallback(60, str(tmp_path), name_prefix="agent"),
        ],
    )
    assert np.load(tmp_path / "evaluations.npz")["results"].shape == (2, 2)
    assert (tmp_path / "agent_60_steps.zip").is_file()
    last = EquivariantDQN.load(tmp_path / "agent_120_steps", device="cpu")
    assert last.num_timesteps == 120
    best = EquivariantDQN.load(tmp_path / "best_model", device="cpu")
    mean, _ = evaluate_policy(best, Monitor(cartpole()), n_eval_episodes=2)
    assert mean >= 8  # no CartPole episode is shorter


@pytest.mark.parametrize("method", METHODS)
def test_four_environments_at_once(method: str) -> None:
    envs = make_vec_env("CartPole-v1", n_envs=4, seed=0)
    model = EquivariantDQN("MlpPolicy", envs, method, **SMALL)
    before = q_values(model)
    model.learn(160)
    assert model.num_timesteps == 160
    assert model.symmetry.group.names == ("e", "mirror")
    assert not torch.equal(q_values(model), before)


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
        (cartpole(), r"SubprocVecEnv hides .*: wrap each of them, SymmetryWrapper\(env\)"),
        (NormalizeObservation(SymmetryWrapper(cartpole())), "put SymmetryWrapper outside"),
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
def test_n_step_returns_work(method: str) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), method, n_steps=3, **SMALL)
    assert isinstance(model.replay_buffer, NStepReplayBuffer)
    before = q_values(model)
    model.learn(120)
    assert not torch.equal(q_values(model), before)


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
