"""Public agents, trained by others: they act as before, and become equivariant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN
from torch import Tensor

from equirl.agents import EquivariantDQN
from equirl.agents.saving.saved_agent import read_agent
from shared.sampled import q_values
from shared.small_agents import METHODS

AGENTS = Path(__file__).parents[3] / ".." / "shared" / "data" / "rl_zoo_agents"
PUBLIC = ["CartPole-v1", "Acrobot-v1"]
needs_public_agents = pytest.mark.skipif(
    not AGENTS.is_dir(), reason=f"the public agents are not at {AGENTS}"
)


def public(env_id: str) -> tuple[Path, gym.Env[Any, Any], np.ndarray, Tensor]:
    """A public agent, its environment, states, and its Q-values there, all through SB3 alone."""
    env = gym.make(env_id)
    path = AGENTS / f"dqn-{env_id}.zip"
    model = DQN.load(
        path,
        device="cpu",
        custom_objects={
            "learning_rate": 0.0,
            "lr_schedule": lambda _: 0.0,
            "exploration_schedule": lambda _: 0.0,
            "observation_space": env.observation_space,
            "action_space": env.action_space,
            "buffer_size": 1,
        },
    )
    size = env.observation_space.shape
    assert size is not None
    states = np.random.default_rng(0).normal(size=(200, *size)).astype(np.float32)
    return path, env, states, q_values(model, states)


@needs_public_agents
@pytest.mark.parametrize("env_id", PUBLIC)
def test_a_public_agent_acts_as_sb3_says(env_id: str) -> None:
    path, env, states, expected = public(env_id)
    model = read_agent(path).build(DQN, env, buffer_size=1, device="cpu")
    assert torch.equal(q_values(model, states), expected)
    actions, _ = model.predict(states, deterministic=True)
    np.testing.assert_array_equal(actions, expected.argmax(dim=1).numpy())
    assert len(set(actions.tolist())) == expected.shape[1]


@needs_public_agents
@pytest.mark.parametrize("env_id", PUBLIC)
def test_a_public_agent_becomes_equivariant_by_the_formulas(env_id: str) -> None:
    path, env, states, plain = public(env_id)
    signs, swap = {
        "CartPole-v1": ([-1, -1, -1, -1], [1, 0]),
        "Acrobot-v1": ([1, -1, 1, -1, -1, -1], [2, 1, 0]),
    }[env_id]
    mirrored_states = states * np.array(signs, np.float32)
    sb3 = read_agent(path).build(DQN, env, buffer_size=1, device="cpu")
    other = q_values(sb3, mirrored_states)[:, swap]
    best = torch.where((plain.amax(1) >= other.amax(1))[:, None], plain, other)
    for method, expected in (("equitune", (plain + other) / 2), ("equizero", best)):
        model = EquivariantDQN.from_pretrained(path, env, method, buffer_size=1, device="cpu")
        torch.testing.assert_close(q_values(model, states), expected, rtol=1e-5, atol=1e-4)
        torch.testing.assert_close(
            q_values(model, mirrored_states)[:, swap], expected, rtol=1e-5, atol=1e-4
        )


@needs_public_agents
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("env_id", PUBLIC)
def test_greedy_actions_of_a_public_agent_are_equivariant(env_id: str, method: str) -> None:
    path, env, states, _ = public(env_id)
    model = EquivariantDQN.from_pretrained(path, env, method, buffer_size=1, device="cpu")
    actions, _ = model.predict(states, deterministic=True)
    moved, _ = model.predict(
        model.symmetry.transform_observation("mirror", states), deterministic=True
    )
    np.testing.assert_array_equal(moved, model.symmetry.transform_action("mirror", actions))
    assert len(set(actions.tolist())) > 1


@needs_public_agents
def test_a_public_agent_keeps_its_weights_and_hyper_parameters() -> None:
    path = AGENTS / "dqn-CartPole-v1.zip"
    agent = read_agent(path)
    assert agent.net_arch == [256, 256]
    assert not agent.is_equivariant
    model = EquivariantDQN.from_pretrained(path, "CartPole-v1", device="cpu")
    for key, weight in agent.weights.items():
        assert torch.equal(model.policy.state_dict()[key], weight), key
    # RL Zoo's hyper-parameters for this environment.
    assert (model.train_freq.frequency, model.gradient_steps) == (256, 128)
    assert (model.batch_size, model.gamma) == (64, 0.99)
    assert (model.buffer_size, model.learning_starts, model.target_update_interval) == (
        100_000,
        1000,
        10,
    )
