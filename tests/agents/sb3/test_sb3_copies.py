"""Copies of agents, policies and networks, and their moves to other environments and devices."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from equirl.agents import EquivariantDQN, EquivariantQNetwork
from equirl.envs import SymmetryWrapper
from equirl.errors import EquirlWarning
from shared.off_policy_agents import ALGORITHMS as OFF_POLICY
from shared.off_policy_agents import agent as off_policy_agent
from shared.policy_tasks import VARIANTS, stir
from shared.sb3_agents import (
    TASKS,
    agent,
    assert_equal,
    assert_is_the_same_agent,
    each_algorithm,
    observations,
    q_values,
    trained,
)


def by_saving(module: Any, tmp_path: Path) -> Any:
    module.save(tmp_path / "module.pth")
    return type(module).load(tmp_path / "module.pth", device="cpu")


def by_pickling(module: Any, tmp_path: Path) -> Any:
    return cloudpickle.loads(cloudpickle.dumps(module))


def by_copying(module: Any, tmp_path: Path) -> Any:
    return copy.deepcopy(module)


def by_torch(module: Any, tmp_path: Path) -> Any:
    torch.save(module, tmp_path / "whole.pth")
    return torch.load(tmp_path / "whole.pth", weights_only=False)


each_way = pytest.mark.parametrize("way", [by_saving, by_pickling, by_copying, by_torch])


COPIED = [
    *(("vector", variant) for variant in VARIANTS),
    ("image", "canonical-learned"),
    ("dict", "lambda"),
]


@pytest.mark.covering(1)
@each_way
@pytest.mark.parametrize(("task", "variant"), COPIED)
def test_a_policy_and_its_networks_are_copied_each_by_itself(
    task: str, variant: str, way: Callable[[Any, Path], Any], tmp_path: Path
) -> None:
    method, *_ = VARIANTS[variant].values()
    model = agent(
        EquivariantDQN,
        task,
        method=method,
        policy_kwargs={k: v for k, v in VARIANTS[variant].items() if k != "method"},
    )
    stir(model)
    model.policy.set_training_mode(False)
    for original in (model.q_net, model.q_net_target, model.policy):
        before = q_values(model)
        copied = way(original, tmp_path)
        assert type(copied) is type(original)
        assert_equal(copied.state_dict(), original.state_dict())
        network = original if isinstance(original, EquivariantQNetwork) else original.q_net
        copied_network = copied if network is original else copied.q_net
        assert copied_network.symmetry_args == network.symmetry_args
        points = model.policy.obs_to_tensor(observations(model))[0]
        with torch.no_grad():
            expected = network(points)
            assert torch.equal(copied_network(points), expected)
            actions, _ = copied.predict(observations(model), deterministic=True)
            assert actions.tolist() == expected.argmax(dim=1).tolist()
            for parameter in copied.parameters():
                parameter.fill_(0.5)
            assert not torch.equal(copied_network(points), expected)
        assert torch.equal(q_values(model), before)  # nothing is shared


@each_algorithm
def test_a_deep_copy_is_an_agent_of_its_own(algorithm: type[DQN]) -> None:
    model = trained(algorithm)
    assert_is_the_same_agent(copy.deepcopy(model), model)


@pytest.mark.long
def test_a_deep_copy_of_a_compiling_agent_computes_its_own_losses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    model = trained(EquivariantDQN, method="equitune", compile=True)
    assert_is_the_same_agent(copy.deepcopy(model), model)


@each_algorithm
def test_an_agent_trains_on_in_another_environment(algorithm: type[DQN]) -> None:
    model = trained(algorithm)
    twin = copy.deepcopy(model)
    env = DummyVecEnv([TASKS["vector"][1]])
    model.set_env(env)
    assert model.get_env() is env
    assert model._last_obs is None
    assert_is_the_same_agent(model, twin)
    model.learn(16, reset_num_timesteps=False)
    assert model.num_timesteps == 40


@each_algorithm
def test_moving_the_policy_elsewhere_moves_all_of_it(algorithm: type[DQN]) -> None:
    model = trained(algorithm)
    for device in ("meta", "cpu"):
        policy = copy.deepcopy(model.policy)
        policy.to(device)
        assert policy.device.type == policy.q_net.device.type == device
        assert {p.device.type for p in policy.state_dict().values()} == {device}


def test_the_device_is_that_of_layers_put_in_later() -> None:
    model = trained(EquivariantDQN)
    for i in (0, -1):
        old = model.q_net.q_net[i]
        model.q_net.q_net[i] = nn.Linear(old.in_features, old.out_features)
    policy = model.policy.to("meta")
    assert policy.device.type == "meta"


@pytest.mark.parametrize("algorithm", OFF_POLICY)
def test_a_pickled_policy_of_any_algorithm_acts_as_it_did(algorithm: str, tmp_path: Path) -> None:
    model = off_policy_agent(algorithm, "canonical")
    seen = np.stack([model.observation_space.sample() for _ in range(40)])
    before, _ = model.policy.predict(seen, deterministic=True)
    copied = by_pickling(model.policy, tmp_path)
    np.testing.assert_array_equal(copied.predict(seen, deterministic=True)[0], before)


def test_an_environment_with_another_symmetry_is_said_to_have_one(tmp_path: Path) -> None:
    def env(**generators: Any) -> Any:
        return SymmetryWrapper(gym.make("CartPole-v1"), generators)

    mirror = {"mirror": (np.negative, [1, 0])}
    model = EquivariantDQN("MlpPolicy", env(**mirror), buffer_size=10)
    model.set_env(env(**mirror))
    with pytest.warns(EquirlWarning, match=r"another symmetry \(turn\) .* its own \(mirror\)"):
        model.set_env(env(turn=mirror["mirror"]))
    model.save(tmp_path / "agent.zip")
    EquivariantDQN.load(tmp_path / "agent.zip", env=env(**mirror))
    with pytest.warns(EquirlWarning, match="another symmetry"):
        EquivariantDQN.load(tmp_path / "agent.zip", env=env(turn=mirror["mirror"]))
    given = EquivariantDQN("MlpPolicy", env(**mirror), symmetry={}, buffer_size=10)
    given.set_env(env(**mirror))
