"""A plain agent seen through a symmetrization along its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN

from equirl.agents import EquivariantDQN, EvaluationCallback
from equirl.agents.training.evaluation import play_episodes
from equirl.agents.transfer.zero_shot import ZeroShot
from equirl.envs import symmetry_of
from shared.small_agents import SMALL, cartpole


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
