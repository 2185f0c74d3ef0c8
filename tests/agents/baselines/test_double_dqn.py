"""Double DQN: its target, for plain DQN and for every equivariant method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN

from equirl.agents import DoubleDQN, EquivariantDQN
from equirl.agents.dqn.dqn import value_of_best
from equirl.envs import SymmetryWrapper
from shared.policy_tasks import VARIANTS
from shared.rarely import rarely
from shared.small_agents import METHODS, SMALL, cartpole
from shared.stock_twins import agent, assert_trained_alike, square_env, stock_twin


def test_the_value_is_that_of_the_action_which_the_other_network_chooses() -> None:
    choosing = torch.tensor([[1.0, 3.0, 2.0], [5.0, -1.0, 0.0]])
    valuing = torch.tensor([[10.0, 20.0, 30.0], [-7.0, 8.0, 9.0]])
    assert torch.equal(value_of_best(choosing, valuing), torch.tensor([[20.0], [-7.0]]))


def test_actions_that_tie_up_to_rounding_share_the_value() -> None:
    choosing = torch.tensor([[2.0, 2.0 + 1e-6, 1.0]])
    valuing = torch.tensor([[10.0, 20.0, 90.0]])
    assert torch.equal(value_of_best(choosing, valuing), torch.tensor([[15.0]]))


def trained(model: DQN, steps: int = 300) -> dict[str, torch.Tensor]:
    return model.learn(steps).policy.state_dict()


def assert_same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[key], expected[key]) for key in expected)


def test_without_double_q_it_is_stock_dqn_bit_for_bit() -> None:
    stock = trained(DQN("MlpPolicy", cartpole(), **SMALL))
    assert_same(trained(DoubleDQN("MlpPolicy", cartpole(), double_q=False, **SMALL)), stock)


def test_while_both_networks_are_the_same_it_is_stock_dqn() -> None:
    always = {**SMALL, "target_update_interval": 1}
    stock = trained(DQN("MlpPolicy", cartpole(), **always))
    double = trained(DoubleDQN("MlpPolicy", cartpole(), **always))
    for key, value in stock.items():
        torch.testing.assert_close(double[key], value, rtol=1e-3, atol=1e-5)


def test_once_they_differ_it_is_another_algorithm() -> None:
    fixed = {**SMALL, "target_update_interval": 10**6, "learning_rate": 1e-2}
    stock = trained(DQN("MlpPolicy", cartpole(), **fixed))
    double = trained(DoubleDQN("MlpPolicy", cartpole(), **fixed))
    assert any(not torch.allclose(double[key], value, rtol=1e-2) for key, value in stock.items())


@pytest.mark.parametrize("method", rarely(METHODS, *METHODS[:-1]))
def test_with_the_trivial_group_it_is_double_dqn_bit_for_bit(method: str) -> None:
    env = SymmetryWrapper(cartpole(), {})
    plain = trained(DoubleDQN("MlpPolicy", cartpole(), **SMALL))
    assert_same(trained(EquivariantDQN("MlpPolicy", env, method, double_q=True, **SMALL)), plain)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_training_with_shortcuts_is_double_dqn_on_the_same_policy(variant: dict[str, Any]) -> None:
    model = agent(variant, square_env(), double_q=True)
    assert_trained_alike(model, stock_twin(model, "MlpPolicy", square_env()), 5, 16)


def test_the_target_does_not_know_how_states_lie() -> None:
    model = agent({"method": "equizero"}, square_env(), double_q=True)
    samples = model.replay_buffer.sample(32)
    fixed = torch.zeros_like(samples.next_observations[:1])  # by every element
    following = torch.cat([samples.next_observations[1:], fixed])
    samples = samples._replace(next_observations=following)
    expected = model.targets(samples)
    for g in range(model.symmetry.group.order):
        moved = model.symmetry.transform_observation(g, following)
        torch.testing.assert_close(
            model.targets(samples._replace(next_observations=moved)), expected, rtol=0, atol=1e-5
        )


def test_what_is_saved_goes_on_as_what_it_was(tmp_path: Path) -> None:
    model = DoubleDQN("MlpPolicy", cartpole(), double_q=False, **SMALL).learn(100)
    model.save(tmp_path / "agent.zip")
    assert DoubleDQN.load(tmp_path / "agent.zip").double_q is False
    stock = DQN.load(tmp_path / "agent.zip")
    observations = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    expected, _ = model.predict(observations, deterministic=True)
    np.testing.assert_array_equal(stock.predict(observations, deterministic=True)[0], expected)
