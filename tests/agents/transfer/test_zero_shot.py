"""A plain agent seen through a symmetrization along its training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN, TQC, TRPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from equirl.agents import EquivariantDQN, EvaluationCallback, SymmetricVecNormalize, from_pretrained
from equirl.agents.training.evaluation import play_episodes
from equirl.agents.transfer.zero_shot import ZeroShot
from equirl.envs import SymmetryWrapper, symmetry_of
from equirl.errors import AgentError
from shared.small_agents import SMALL, cartpole

OFF_POLICY: dict[str, Any] = {"buffer_size": 99, "learning_starts": 8, "device": "cpu"}


def pendulum() -> gym.Env[Any, Any]:
    return SymmetryWrapper(gym.make("Pendulum-v1"), {"mirror": ([1, -1, -1], [-1])})


def room() -> gym.Env[Any, Any]:
    return gym.make("equirl/GridWorld-v0", size=4, max_episode_steps=12)


@pytest.mark.parametrize("method", ["equitune", "equizero", "canonical"])
def test_it_is_what_from_pretrained_makes_of_the_saved_agent(method: str, tmp_path: Path) -> None:
    model = DQN("MlpPolicy", room(), **SMALL)
    version = ZeroShot(symmetry_of(room()), method)
    version(model)
    model.learn(200)
    model.save(tmp_path / "plain.zip")
    expected = EquivariantDQN.from_pretrained(
        tmp_path / "plain.zip", room(), method, device="cpu", buffer_size=1
    )
    actual, saved = version(model).q_net, expected.q_net
    rooms = np.stack([room().reset(seed=seed)[0] for seed in range(9)])
    observations, _ = model.policy.obs_to_tensor(rooms)
    torch.testing.assert_close(actual(observations), saved(observations), rtol=0, atol=0)


def test_its_evaluations_lie_beside_those_of_the_agent_itself(tmp_path: Path) -> None:
    model = DQN("MlpPolicy", cartpole(), **SMALL)
    version = ZeroShot(symmetry_of(cartpole()), "equitune")
    callback = EvaluationCallback(
        cartpole, tmp_path, every=100, seeds=range(4), versions={"zero_shot_equitune": version}
    )
    model.learn(200, callback=callback)
    with np.load(tmp_path / "evaluations_zero_shot_equitune.npz") as written:
        last = written["results"][-1]
        assert written["timesteps"].tolist() == [100, 200]
    np.testing.assert_array_equal(last, play_episodes(version(model), cartpole, range(4)).returns)
    with np.load(tmp_path / "evaluations.npz") as written:
        own = written["results"][-1]
    np.testing.assert_array_equal(own, play_episodes(model, cartpole, range(4)).returns)


def test_training_does_not_notice_that_it_is_watched(tmp_path: Path) -> None:
    alone = DQN("MlpPolicy", cartpole(), **SMALL).learn(300)
    watched = DQN("MlpPolicy", cartpole(), **SMALL)
    version = ZeroShot(symmetry_of(cartpole()), "equizero")
    callback = EvaluationCallback(cartpole, tmp_path, 100, range(2), versions={"v": version})
    watched.learn(300, callback=callback)
    for key, value in alone.policy.state_dict().items():
        assert torch.equal(watched.policy.state_dict()[key], value), key


def test_the_clock_stands_still_while_episodes_are_played(tmp_path: Path) -> None:
    model = DQN("MlpPolicy", cartpole(), **SMALL)
    callback = EvaluationCallback(cartpole, tmp_path, every=100, seeds=range(2))
    model.learn(300, callback=callback)
    before = callback.history[-1].spent
    first = callback.state()["spent"]
    callback.evaluate()
    callback.evaluate()
    following, last = (evaluation.spent for evaluation in callback.history[-2:])
    assert 0 < before.cpu_seconds <= first.cpu_seconds <= following.cpu_seconds
    # Episodes take milliseconds; what lies between two evaluations is a few microseconds.
    assert last.cpu_seconds - following.cpu_seconds < 0.1 * before.cpu_seconds


MAKERS: dict[str, Callable[[], BaseAlgorithm]] = {
    "sac": lambda: SAC("MlpPolicy", pendulum(), **OFF_POLICY),
    "td3": lambda: TD3("MlpPolicy", pendulum(), **OFF_POLICY),
    "ddpg": lambda: DDPG("MlpPolicy", pendulum(), **OFF_POLICY),
    "tqc": lambda: TQC("MlpPolicy", pendulum(), **OFF_POLICY),
    "ppo": lambda: PPO("MlpPolicy", pendulum(), n_steps=16, batch_size=16, device="cpu"),
    "a2c": lambda: A2C("MlpPolicy", pendulum(), device="cpu"),
    "trpo": lambda: TRPO("MlpPolicy", pendulum(), n_steps=16, batch_size=16, device="cpu"),
    "qrdqn": lambda: QRDQN("MlpPolicy", cartpole(), buffer_size=99, device="cpu"),
}


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", ["equitune", "equizero", "canonical"])
@pytest.mark.parametrize("name", MAKERS)
def test_agents_of_every_algorithm_are_seen_as_from_pretrained_makes_them(
    name: str, method: str
) -> None:
    model = MAKERS[name]()
    env: Any = model.get_env()
    symmetry = symmetry_of(env)
    states = np.stack([env.observation_space.sample() for _ in range(5)])
    version = ZeroShot(symmetry, method)
    version(model)
    model.learn(16)
    ours = from_pretrained(model, env, method, device="cpu")
    expected, _ = ours.predict(states, deterministic=True)
    np.testing.assert_array_equal(version(model).predict(states, deterministic=True)[0], expected)


def test_a_policy_that_is_equivariant_already_has_no_zero_shot_version() -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), buffer_size=9, device="cpu")
    with pytest.raises(AgentError, match="EquivariantDQNPolicy is not a plain policy"):
        ZeroShot(model.symmetry, "equizero")(model)


@pytest.mark.parametrize("cls", [VecNormalize, SymmetricVecNormalize])
def test_behind_statistics_that_are_not_symmetric_it_is_refused(cls: Any) -> None:
    model = PPO("MlpPolicy", cls(DummyVecEnv([cartpole])), n_steps=8, batch_size=8, device="cpu")
    version = ZeroShot(symmetry_of(cartpole()), "equitune")
    if cls is SymmetricVecNormalize:
        assert version(model)
        return
    with pytest.raises(AgentError, match="SymmetricVecNormalize"):
        version(model)
