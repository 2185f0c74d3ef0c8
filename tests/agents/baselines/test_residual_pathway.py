"""Residual pathway priors: an equivariant and a plain Q-function added, the plain one decayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from equirl.agents import EquivariantDQN
from equirl.agents.baselines.residual_pathway import ResidualPathwayPolicy
from equirl.testing import assert_equivariant
from shared.small_agents import SMALL, cartpole


def agent(**policy_kwargs: Any) -> EquivariantDQN:
    settings = {
        **SMALL,
        "learning_rate": 1e-2,
        "policy_kwargs": {"net_arch": [16], **policy_kwargs},
    }
    return EquivariantDQN(ResidualPathwayPolicy, cartpole(), **settings)


def test_without_the_residual_it_is_equivariant_and_with_it_the_sum() -> None:
    q_net, observations = agent().q_net, torch.randn(9, 4)
    whole = q_net(observations)
    rest = q_net.residual(observations)
    symmetrized = q_net.symmetrized
    torch.testing.assert_close(whole, symmetrized(observations) + rest)
    for parameter in q_net.residual.parameters():
        torch.nn.init.zeros_(parameter)
    assert_equivariant(q_net, symmetrized.input_action, symmetrized.output_action, observations)


def test_both_learn_and_a_large_penalty_leaves_nothing_of_the_residual(tmp_path: Path) -> None:
    sizes = {}
    for penalty in (0.0, 100.0):
        model = agent(residual_penalty=penalty)
        before = [parameter.clone() for parameter in model.q_net.parameters()]
        model.learn(400)
        pairs = zip(before, model.q_net.parameters(), strict=True)
        assert all(not torch.equal(old, new) for old, new in pairs)
        sizes[penalty] = model.q_net.residual[0].weight.abs().mean().item()
    assert sizes[100.0] < 0.1 * sizes[0.0]
    model.save(tmp_path / "agent.zip")
    loaded = EquivariantDQN.load(tmp_path / "agent.zip", device="cpu")
    observations = torch.randn(5, 4)
    assert torch.equal(loaded.q_net(observations), model.q_net(observations))
    assert [g["weight_decay"] for g in loaded.policy.optimizer.param_groups] == [0, 100.0]
