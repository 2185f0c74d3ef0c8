"""Which algorithm and networks a file holds, of every algorithm of SB3 and sb3-contrib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3
import torch
from torch import nn

from equirl.agents import EquivariantMaskablePPO
from equirl.agents.saving.architecture import algorithm_of, in_todays_layout
from equirl.agents.saving.reading.saved_normalisation import was_normalised
from equirl.agents.saving.restore import restore
from equirl.agents.saving.saved_agent import read_agent
from equirl.errors import AgentError
from shared.saved_agents import saved

AGENTS = Path(__file__).parents[3] / ".." / "shared" / "data" / "rl_zoo_agents"
PENDULUM, CARTPOLE = "Pendulum-v1", "CartPole-v1"
MADE: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("DQN", CARTPOLE, {}, {"net_arch": [8]}),
    ("QRDQN", CARTPOLE, {}, {"net_arch": [8, 4], "n_quantiles": 7}),
    ("PPO", CARTPOLE, {}, {"net_arch": {"pi": [8], "vf": [4, 4]}}),
    ("A2C", PENDULUM, {"use_sde": True}, {"log_std_init": -1.0, "full_std": False}),
    ("PPO", PENDULUM, {}, {"net_arch": [], "activation_fn": nn.ELU}),
    ("TRPO", CARTPOLE, {}, {"share_features_extractor": False}),
    ("MaskablePPO", CARTPOLE, {}, {}),
    ("SAC", PENDULUM, {"use_sde": True}, {"net_arch": {"pi": [8], "qf": [4]}, "n_critics": 3}),
    ("TQC", PENDULUM, {"top_quantiles_to_drop_per_net": 1}, {"net_arch": [8], "n_quantiles": 5}),
    ("TD3", PENDULUM, {}, {"net_arch": [8]}),
    ("DDPG", PENDULUM, {}, {"net_arch": [8]}),
]
NAMES = {"MaskablePPO": "maskable_ppo"}


@pytest.mark.parametrize(("name", "env", "kwargs", "policy_kwargs"), MADE)
def test_the_networks_of_an_agent_are_those_that_its_policy_is_rebuilt_with(
    name: str, env: str, kwargs: dict[str, Any], policy_kwargs: dict[str, Any], tmp_path: Path
) -> None:
    cls: Any = getattr(stable_baselines3, name, None) or getattr(sb3_contrib, name)
    task = gym.make(env)
    model = cls("MlpPolicy", task, policy_kwargs=policy_kwargs, device="cpu", **kwargs)
    model.save(tmp_path / "agent.zip")
    agent = read_agent(tmp_path / "agent.zip")
    found = agent.architecture
    assert found.algorithm == NAMES.get(name, name.lower())
    again = cls("MlpPolicy", task, policy_kwargs=agent.policy_kwargs({}), device="cpu", **kwargs)
    again.policy.load_state_dict(agent.weights)
    for key, weight in model.policy.state_dict().items():
        assert torch.equal(again.policy.state_dict()[key], weight), key
    assert found.activation == str(model.policy.activation_fn)
    assert found.use_sde == kwargs.get("use_sde", False)
    assert found.squash_output == model.policy.squash_output
    assert found.n_critics == (getattr(getattr(model, "critic", None), "n_critics", 0))
    assert found.n_quantiles == policy_kwargs.get("n_quantiles", 0)
    assert found.top_quantiles_to_drop_per_net == kwargs.get("top_quantiles_to_drop_per_net", 0)
    assert set(found.first_layers) <= set(agent.weights)
    assert len(found.first_layers) >= 2
    agent.check_spaces(task.observation_space, task.action_space)


def test_an_agent_that_plays_by_masks_is_read_as_one(tmp_path: Path) -> None:
    model = EquivariantMaskablePPO("MlpPolicy", CARTPOLE, n_steps=8, batch_size=8, device="cpu")
    model.save(tmp_path / "agent.zip")
    agent = read_agent(tmp_path / "agent.zip")
    described = agent.data["policy_class"]
    policies_of_ones_own = {**agent.data, "policy_class": {**described, "__module__": "mine"}}
    for data in (agent.data, policies_of_ones_own):
        assert algorithm_of(data, agent.weights) == "maskable_ppo"
    restored: Any = restore(agent, device="cpu")
    observations = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    for allowed in (0, 1):
        masks = np.arange(2) == np.full((20, 1), allowed)
        actions, _ = restored.predict(observations, action_masks=masks)
        assert (actions == allowed).all()


@pytest.mark.skipif(not AGENTS.is_dir(), reason=f"the public agents are not at {AGENTS}")
@pytest.mark.parametrize("path", sorted(AGENTS.glob("*.zip")), ids=lambda path: path.stem)
def test_a_public_agent_says_its_algorithm_spaces_and_normalisation(path: Path) -> None:
    agent = read_agent(path)
    assert agent.architecture.algorithm == path.stem.partition("-")[0]
    assert agent.observation_space.space is not None
    assert agent.action_space.space is not None
    assert all(len(widths) == 2 for widths in agent.architecture.net_arch.values())
    assert "net_arch" in agent.policy_kwargs({})
    assert was_normalised(agent.data) == path.with_suffix(".vecnormalize.pkl").is_file()


def test_layers_that_policy_and_value_shared_become_the_first_of_each() -> None:
    torch.manual_seed(0)
    shared, policy, value = nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(4, 6)
    old = {}
    for name, layer in (("shared_net", shared), ("policy_net", policy), ("value_net", value)):
        for kind, weight in layer.state_dict().items():
            old[f"mlp_extractor.{name}.0.{kind}"] = weight
    new = in_todays_layout(old)
    for name, own in (("policy_net", policy), ("value_net", value)):
        assert torch.equal(new[f"mlp_extractor.{name}.0.weight"], shared.weight)
        assert torch.equal(new[f"mlp_extractor.{name}.2.weight"], own.weight)
    assert not any("shared_net" in key for key in new)


def test_the_one_features_extractor_of_an_old_actor_critic_is_known_by_three_names() -> None:
    weight = torch.ones(1)
    new = in_todays_layout({"features_extractor.cnn.0.weight": weight, "action_net.weight": weight})
    assert set(new) == {
        "features_extractor.cnn.0.weight",
        "pi_features_extractor.cnn.0.weight",
        "vf_features_extractor.cnn.0.weight",
        "action_net.weight",
    }


def test_an_algorithm_that_is_not_known_is_refused(tmp_path: Path) -> None:
    sb3_contrib.ARS("LinearPolicy", "Pendulum-v1").save(tmp_path / "agent.zip")
    with pytest.raises(AgentError, match="ars"):
        read_agent(tmp_path / "agent.zip")


def test_images_and_dicts_are_told_by_the_weights_and_spaces(tmp_path: Path) -> None:
    for name, policy in (("default", "Mlp"), ("images", "Cnn"), ("dict", "MultiInput")):
        _, path, _ = saved(name, tmp_path)
        assert read_agent(path).architecture.policy == f"{policy}Policy"
