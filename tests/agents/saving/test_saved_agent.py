"""Saved agents of any architecture come back as they were, or equivariant."""

from __future__ import annotations

import base64
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

from equirl.agents import EquivariantDQN, OrbitNStepReplayBuffer
from equirl.agents.saving.saved_agent import read_agent
from equirl.envs import SymmetryWrapper, symmetry_of
from shared.sampled import Sampled, q_values, raw_observations
from shared.saved_agents import OWN, SAVED, VECTOR, rewritten, saved
from shared.small_agents import METHODS, SMALL, cartpole


@pytest.mark.parametrize("name", sorted(set(SAVED) - OWN))
def test_a_saved_agent_of_any_architecture_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    model, path, env = saved(name, tmp_path)
    seen = raw_observations(env.observation_space)
    built = read_agent(path).build(DQN, env, device="cpu")
    assert torch.equal(q_values(built, seen), q_values(model, seen))
    assert built.policy.net_arch == model.policy.net_arch
    assert (built.gamma, built.batch_size, built.learning_rate) == (0.9, 17, 3e-3)


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", sorted(set(SAVED) - OWN))
def test_a_saved_agent_of_any_architecture_becomes_equivariant(
    name: str, method: str, tmp_path: Path
) -> None:
    model, path, env = saved(name, tmp_path)
    equivariant = EquivariantDQN.from_pretrained(path, env, method, device="cpu")
    own = equivariant.policy.state_dict()
    for key, weight in model.policy.state_dict().items():
        assert torch.equal(own[key], weight), key
    seen = raw_observations(env.observation_space)
    here = q_values(equivariant, seen)
    there = q_values(equivariant, env.symmetry.transform_observation("mirror", seen))
    torch.testing.assert_close(there[:, [1, 0]], here, rtol=1e-5, atol=1e-5)
    if method == "equitune":
        moved = q_values(model, env.symmetry.transform_observation("mirror", seen))
        expected = (q_values(model, seen) + moved[:, [1, 0]]) / 2
        torch.testing.assert_close(here, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_an_equivariant_agent_made_from_a_plain_one_trains_saves_and_loads(
    method: str, tmp_path: Path
) -> None:
    _, path, env = saved("one-layer", tmp_path)
    model = EquivariantDQN.from_pretrained(path, env, method, learning_starts=20, device="cpu")
    before = model.q_net.q_net[0].weight.detach().clone()
    model.learn(40)
    assert not torch.equal(model.q_net.q_net[0].weight, before)
    model.save(tmp_path / "tuned")
    loaded = EquivariantDQN.load(tmp_path / "tuned", device="cpu")
    seen = raw_observations(env.observation_space)
    assert torch.equal(q_values(loaded, seen), q_values(model, seen))


def test_what_the_caller_gives_counts_before_the_file(tmp_path: Path) -> None:
    _, path, env = saved("one-layer", tmp_path)
    model = EquivariantDQN.from_pretrained(
        path,
        env,
        learning_rate=1e-5,
        batch_size=8,
        seed=4,
        policy_kwargs={"activation_fn": nn.Tanh},
        device="cpu",
    )
    assert (model.learning_rate, model.batch_size, model.seed, model.gamma) == (1e-5, 8, 4, 0.9)
    assert model.policy.activation_fn is nn.Tanh


@pytest.mark.parametrize("train_freq", [7, (2, "episode")])
def test_how_often_to_train_is_taken_over_together_with_how_much(
    train_freq: Any, tmp_path: Path
) -> None:
    env = Sampled(VECTOR)
    kwargs: dict[str, Any] = {"train_freq": train_freq, "gradient_steps": 5, "buffer_size": 1}
    model = DQN("MlpPolicy", env, device="cpu", **kwargs)
    model.save(tmp_path / "agent.zip")
    built = read_agent(tmp_path / "agent.zip").build(DQN, env, device="cpu")
    assert (built.train_freq, built.gradient_steps) == (model.train_freq, 5)
    # One without the other would train many times as much as meant.
    data = json.loads(zipfile.ZipFile(tmp_path / "agent.zip").read("data"))
    data["train_freq"][":serialized:"] = base64.b64encode(pickle.dumps(Path)).decode()
    unreadable = rewritten(tmp_path / "agent.zip", data=json.dumps(data).encode())
    (tmp_path / "other.zip").write_bytes(unreadable)
    other = read_agent(tmp_path / "other.zip").build(DQN, env, device="cpu")
    assert (other.train_freq.frequency, other.gradient_steps) == (4, 1)


def test_the_suffix_may_be_left_out_and_the_environment_given_by_its_id(tmp_path: Path) -> None:
    DQN("MlpPolicy", "CartPole-v1", buffer_size=1).save(tmp_path / "agent")
    model = EquivariantDQN.from_pretrained(tmp_path / "agent", "CartPole-v1")
    assert model.symmetry.group.names == ("e", "mirror")
    again = EquivariantDQN.from_pretrained(str(tmp_path / "agent.zip"), "CartPole-v1")
    assert torch.equal(again.q_net.q_net[0].weight, model.q_net.q_net[0].weight)


@pytest.mark.parametrize("method", METHODS)
def test_the_network_inside_an_equivariant_agent_can_change_its_method(
    method: str, tmp_path: Path
) -> None:
    _, _, env = saved("one-layer", tmp_path)
    kwargs: dict[str, Any] = {"buffer_size": 1, "device": "cpu"}
    EquivariantDQN("MlpPolicy", env, "equitune", **kwargs).save(tmp_path / "equitune")
    agent = read_agent(tmp_path / "equitune.zip")
    assert agent.is_equivariant
    model = EquivariantDQN.from_pretrained(agent.path, env, method, **kwargs)
    assert model.q_net.symmetrized.method.name == method
    assert type(agent.build(DQN, env, **kwargs).policy).__name__ == "DQNPolicy"


def test_a_dict_agent_without_images_is_known_by_its_space(tmp_path: Path) -> None:
    space = spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Box(-1, 1, (3,)))
    env = SymmetryWrapper(Sampled(space), {"mirror": ({"a": [-1, 1], "b": None}, [1, 0])})
    DQN("MultiInputPolicy", env, buffer_size=50, device="cpu").save(tmp_path / "dict.zip")
    built = EquivariantDQN.from_pretrained(tmp_path / "dict.zip", env, device="cpu")
    assert isinstance(built.observation_space, spaces.Dict)


def test_optimiser_steps_and_schedule_are_taken_over(tmp_path: Path) -> None:
    model = DQN(
        "MlpPolicy",
        Sampled(VECTOR),
        learning_rate=lambda _: 3e-3,
        n_steps=3,
        buffer_size=50,
        policy_kwargs={"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {"momentum": 0.9}},
        device="cpu",
    )
    model.save(tmp_path / "agent.zip")
    built = read_agent(tmp_path / "agent.zip").build(DQN, Sampled(VECTOR), device="cpu")
    assert (built.learning_rate, built.n_steps) == (3e-3, 3)
    assert isinstance(built.policy.optimizer, torch.optim.SGD)
    assert built.policy.optimizer.defaults["momentum"] == 0.9


def test_a_run_directory_stands_for_its_best_model(tmp_path: Path) -> None:
    saved("default", tmp_path)
    (tmp_path / "agent.zip").rename(tmp_path / "best_model.zip")
    assert read_agent(tmp_path).path == tmp_path / "best_model.zip"


def test_a_learning_rate_that_falls_begins_anew(tmp_path: Path) -> None:
    schedule = LinearSchedule(2e-3, 0.0, 1.0)
    model = DQN("MlpPolicy", cartpole(), **{**SMALL, "learning_rate": schedule}).learn(60)
    model.save(tmp_path / "agent")
    built = read_agent(tmp_path / "agent.zip").build(DQN, cartpole())
    assert built.lr_schedule(1.0) == 2e-3
    assert built.lr_schedule(0.25) == pytest.approx(5e-4)


def test_returns_of_several_steps_that_only_the_replay_buffer_knew_of(tmp_path: Path) -> None:
    model = DQN(
        "MlpPolicy",
        cartpole(),
        replay_buffer_class=OrbitNStepReplayBuffer,
        replay_buffer_kwargs={"n_steps": 3, "gamma": 0.9, "symmetry": symmetry_of(cartpole())},
        **SMALL,
    )
    model.save(tmp_path / "agent")
    assert read_agent(tmp_path / "agent.zip").build(DQN, cartpole()).n_steps == 3
