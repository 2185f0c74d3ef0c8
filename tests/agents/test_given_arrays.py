"""What agents of every algorithm make of the arrays that they are given, and what is traced."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from equirl.agents import EquivariantA2C, EquivariantMaskablePPO, EquivariantPPO
from equirl.errors import SymmetryError
from shared.off_policy_agents import agent

METHODS = ("equitune", "lambda", "equizero", "canonical")
ON_POLICY: dict[str, Any] = {
    "ppo": EquivariantPPO,
    "a2c": EquivariantA2C,
    "maskable_ppo": EquivariantMaskablePPO,
}


def on_policy(algorithm: str, method: str, env: Any = "CartPole-v1") -> Any:
    small = {"n_steps": 8, "policy_kwargs": {"net_arch": [8]}, "seed": 0, "device": "cpu"}
    if algorithm != "a2c":
        small["batch_size"] = 8
    return ON_POLICY[algorithm]("MlpPolicy", env, method, **small)


class Deterministic(nn.Module):
    """What SB3's manual exports: a policy, or its actor alone."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: torch.Tensor) -> Any:
        return self.policy(observation, deterministic=True)


def assert_traced(module: nn.Module, entries: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Python numbers become constants
        traced = torch.jit.trace(module, torch.randn(1, entries), check_trace=False)
    x = torch.cat([torch.randn(7, entries), torch.zeros(1, entries)])
    with torch.no_grad():
        torch.testing.assert_close(traced(x), module(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("algorithm", "method"),
    [*(("ppo", method) for method in METHODS), ("a2c", "lambda"), ("maskable_ppo", "equizero")],
)
def test_a_traced_actor_critic_holds_for_other_states_and_batches(
    algorithm: str, method: str
) -> None:
    model = on_policy(algorithm, method)
    model.policy.set_training_mode(False)
    assert_traced(Deterministic(model.policy), 4)


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("algorithm", ["sac", "td3"])
def test_a_traced_actor_holds_alone_though_its_critic_scores_it(
    algorithm: str, method: str
) -> None:
    model: Any = agent(algorithm, method)
    model.policy.set_training_mode(False)
    actor = model.actor
    assert_traced(actor if algorithm == "td3" else Deterministic(actor), 3)
    assert_traced(Deterministic(model.policy), 3)
    assert all(parameter.requires_grad for parameter in model.critic.parameters())


GIVEN = {
    "half floats": np.array([0.5, -0.25, 1], np.float16),
    "objects": np.array([0.5, -0.25, 1], object),
    "big-endian": np.array([0.5, -0.25, 1], ">f4"),
    "list": [0.5, -0.25, 1],
}


@pytest.mark.covering(1)
@pytest.mark.parametrize("kind", GIVEN)
@pytest.mark.parametrize("algorithm", ["sac", "td3", "qrdqn"])
def test_equal_numbers_are_acted_on_alike_whatever_array_they_come_in(
    algorithm: str, kind: str
) -> None:
    model = agent(algorithm, "equizero")
    exact = np.array(GIVEN[kind], np.float32)
    tensor, _ = model.policy.obs_to_tensor(GIVEN[kind])
    assert tensor.dtype in (torch.float32, torch.float64)
    given, wanted = (model.predict(x, deterministic=True)[0] for x in (GIVEN[kind], exact))
    np.testing.assert_array_equal(given, wanted)
    with pytest.raises(SymmetryError, match="None is not a value of the observation"):
        model.predict(np.array([0.5, None, 1], object))


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("algorithm", ["sac", "td3", "tqc", "qrdqn"])
def test_an_empty_batch_gives_no_actions_of_any_method(algorithm: str, method: str) -> None:
    model = agent(algorithm, method)
    for deterministic in (True, False):
        actions = model.predict(np.zeros((0, 3), np.float32), deterministic=deterministic)[0]
        assert actions.shape == (0, *model.action_space.shape)


@pytest.mark.parametrize("method", METHODS)
def test_an_empty_batch_gives_an_actor_critic_no_actions(method: str) -> None:
    # Of Discrete actions PyTorch has no distribution for an empty batch, in SB3 as in ours.
    model = on_policy("a2c", method, gym.make("Pendulum-v1"))
    assert model.predict(np.zeros((0, 3), np.float32), deterministic=True)[0].shape == (0, 1)
