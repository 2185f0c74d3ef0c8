"""Agents of Dict observations, restored where the keys stand in another order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC

from equirl.agents import EquivariantDQN, EquivariantPPO, EquivariantSAC, from_pretrained
from equirl.agents.saving.restore import restore
from equirl.agents.saving.saved_agent import read_agent
from equirl.envs import SymmetryWrapper
from shared.off_policy_agents import Random

PARTS = {"b": spaces.Box(-1, 1, (3,)), "a": spaces.Box(-1, 1, (2,)), "c": spaces.Discrete(3)}
MOVED = {"b": [-1, 1, -1], "a": [1, 0], "c": [2, 1, 0]}


def environment(order: str, is_discrete: bool) -> Any:
    space = spaces.Dict([(key, PARTS[key]) for key in order])
    actions = spaces.Discrete(2) if is_discrete else spaces.Box(-1, 1, (2,))
    moved = [1, 0] if is_discrete else [-1, -1]
    return SymmetryWrapper(Random(space, actions), {"mirror": (MOVED, moved)})


@pytest.mark.covering(1)
@pytest.mark.parametrize("hidden", [[], [16]])
@pytest.mark.parametrize("method", ["canonical", "lambda", "relaxed"])
@pytest.mark.parametrize("cls", [EquivariantDQN, EquivariantPPO, EquivariantSAC])
def test_an_equivariant_agent_acts_as_it_did(
    cls: Any, method: str, hidden: list[int], tmp_path: Path
) -> None:
    rollouts = {"n_steps": 8, "batch_size": 8} if cls is EquivariantPPO else {"buffer_size": 9}
    env = environment("bac", cls is not EquivariantSAC)
    model = cls(
        "MultiInputPolicy",
        env,
        method,
        policy_kwargs={"net_arch": hidden},
        device="cpu",
        **rollouts,
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    model.save(tmp_path / "agent.zip")
    saved = read_agent(tmp_path / "agent.zip")
    env.observation_space.seed(0)
    points = [env.observation_space.sample() for _ in range(64)]
    seen = {key: np.stack([point[key] for point in points]) for key in "acb"}
    expected = model.predict(seen, deterministic=True)[0]
    again = restore(saved, environment("cab", cls is not EquivariantSAC), "cpu")
    np.testing.assert_array_equal(again.predict(seen, deterministic=True)[0], expected)


def test_a_plain_agent_trains_on_with_its_temperature_and_moments(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"learning_starts": 8, "batch_size": 4, "buffer_size": 99}
    settings |= {"policy_kwargs": {"net_arch": [8]}, "learning_rate": 0.01, "device": "cpu"}
    model = SAC("MultiInputPolicy", environment("bac", False), seed=0, **settings).learn(32)
    model.save(tmp_path / "agent.zip")
    ours: Any = from_pretrained(tmp_path / "agent.zip", environment("cab", False), device="cpu")
    assert torch.equal(ours.log_ent_coef, model.log_ent_coef)
    b, a, c = model.actor.optimizer.state[model.actor.latent_pi[0].weight]["exp_avg"].split(
        [3, 2, 3], dim=1
    )
    now = ours.actor.optimizer.state[ours.actor.latent_pi[0].weight]["exp_avg"]
    assert torch.equal(now, torch.cat([c, a, b], dim=1))
    assert torch.equal(
        ours.actor.optimizer.state[ours.actor.mu.weight]["exp_avg"],
        model.actor.optimizer.state[model.actor.mu.weight]["exp_avg"],
    )
