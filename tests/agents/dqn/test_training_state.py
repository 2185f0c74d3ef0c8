"""What training keeps beside the gradient steps: the target network, layers, flags."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from torch import nn

from equirl.agents import EquivariantDQN
from equirl.envs import SymmetryWrapper
from shared.sampled import Sampled
from shared.small_agents import METHODS
from shared.stock_twins import (
    GENTLE,
    agent,
    assert_close,
    assert_trained_alike,
    hand_out,
    logged,
    moments,
    square_env,
    stock_twin,
)


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("tau", [1.0, 0.05])
def test_learning_in_turns_with_target_updates_stays_with_stock_dqn(
    method: str, tau: float
) -> None:
    model = agent({"method": method}, square_env(), tau=tau, learning_rate=1e-3)
    twin = stock_twin(model, "MlpPolicy", square_env())
    rows = np.random.default_rng(5).integers(0, model.replay_buffer.size(), 3 * 4 * 16)
    for learner in (model, twin):
        hand_out(learner, rows)
        learner.target_update_interval = 1
    for _ in range(3):
        model.train(4, 16)
        model._on_step()
        DQN.train(twin, 4, 16)
        DQN._on_step(twin)
    assert_close(model.policy.state_dict(), twin.policy.state_dict())
    assert_close(moments(model), moments(twin))


def test_an_agent_saved_between_steps_goes_on_bit_for_bit(tmp_path: Any) -> None:
    model = agent({"method": "lambda"}, square_env())
    rows = np.random.default_rng(5).integers(0, 96, 2 * 8 * 16)
    hand_out(model, rows[: 8 * 16])
    for _ in range(2):
        model.train(4, 16)
    model.save(tmp_path / "agent")
    resumed = EquivariantDQN.load(tmp_path / "agent", env=square_env(), device="cpu")
    resumed.replay_buffer = copy.copy(model.replay_buffer)
    resumed._setup_learn(100)
    for learner in (model, resumed):
        hand_out(learner, rows[8 * 16 :])
        learner.train(8, 16)
    states = [{**m.policy.state_dict(), **moments(m)} for m in (model, resumed)]
    for key, value in states[0].items():
        assert torch.equal(states[1][key], value), key


def test_parameters_that_are_frozen_stay_as_they_are() -> None:
    model = agent({"method": "equitune"}, square_env())
    twin = stock_twin(model, "MlpPolicy", square_env())
    for learner in (model, twin):
        learner.q_net.q_net[0].requires_grad_(False)
    frozen = model.q_net.q_net[0].weight.clone()
    assert_trained_alike(model, twin, 3, 16)
    assert torch.equal(model.q_net.q_net[0].weight, frozen)


@pytest.mark.parametrize("method", ["equitune", "canonical"])
def test_a_layer_that_is_replaced_is_trained_as_in_stock_dqn(method: str) -> None:
    model = agent({"method": method}, square_env(), tau=0.5)
    twin = stock_twin(model, "MlpPolicy", square_env())
    twin.tau = 0.5
    for learner in (model, twin):  # as for fine-tuning with a new last layer
        torch.manual_seed(3)
        learner.q_net.q_net[-1] = nn.Linear(16, 4)
        learner.q_net_target.q_net[-1] = nn.Linear(16, 4)
        learner.policy.optimizer = torch.optim.Adam(learner.q_net.parameters(), eps=GENTLE)
    assert_trained_alike(model, twin, 3, 16)
    model.target_update_interval = twin.target_update_interval = 1
    model._on_step()
    DQN._on_step(twin)
    assert_close(model.policy.state_dict(), twin.policy.state_dict())


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_actions_of_any_integer_dtype_are_learned_from_as_in_stock_dqn(dtype: Any) -> None:
    def make_env() -> gym.Env[Any, Any]:
        env = Sampled(spaces.Box(-1, 1, (4,)), 2)
        env.action_space = spaces.Discrete(2, dtype=dtype)
        return SymmetryWrapper(env, {"mirror": (np.negative, [1, 0])})

    model = agent({"method": "equitune"}, make_env())
    assert model.replay_buffer.actions.dtype == dtype
    assert_trained_alike(model, stock_twin(model, "MlpPolicy", make_env()), 3, 16)


def test_a_loaded_agent_trains_on_as_in_stock_dqn(tmp_path: Any) -> None:
    first = agent({"method": "lambda"}, square_env())
    first.train(2, 8)
    first.save(tmp_path / "agent")
    model = EquivariantDQN.load(tmp_path / "agent", env=square_env(), device="cpu")
    model.replay_buffer = first.replay_buffer
    model._setup_learn(100)
    twin = stock_twin(model, "MlpPolicy", square_env())
    twin.policy.optimizer.load_state_dict(copy.deepcopy(first.policy.optimizer.state_dict()))
    twin.policy.optimizer.param_groups[0]["fused"] = False
    twin._n_updates = model._n_updates = 0
    assert_trained_alike(model, twin, 3, 8)


@pytest.mark.parametrize("method", METHODS)
def test_the_trivial_group_is_left_to_stock_training(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = SymmetryWrapper(Sampled(spaces.Box(-1, 1, (4,)), 4), {})
    model = agent({"method": method}, env)
    twin = copy.deepcopy(model)
    for learner in (model, twin):
        hand_out(learner, np.arange(96))

    def never(*_: Any) -> None:
        raise AssertionError("not SB3's own path")

    monkeypatch.setattr(EquivariantDQN, "_take_steps", never)
    model.target_update_interval = twin.target_update_interval = 1
    model.train(6, 16)
    model._on_step()
    DQN.train(twin, 6, 16)
    DQN._on_step(twin)
    for key, value in twin.policy.state_dict().items():
        assert torch.equal(value, model.policy.state_dict()[key]), key
    assert logged(model)["train/loss"] == logged(twin)["train/loss"]


def subnormals_are_flushed() -> bool:
    return float(torch.tensor(1e-40, dtype=torch.float32) * 1) == 0


@pytest.fixture
def flush_state() -> Iterator[None]:
    already = subnormals_are_flushed()
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush")
    yield
    torch.set_flush_denormal(already)


class Failure(Exception):
    """What training is interrupted by."""


@pytest.mark.usefixtures("flush_state")
@pytest.mark.parametrize("already", [False, True], ids=["were-kept", "were-flushed"])
@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_subnormal_numbers_are_flushed_in_training_and_then_as_before(
    already: bool, fails: bool, dtype: torch.dtype
) -> None:
    model = agent({"method": "equitune"}, square_env())
    seen: list[bool] = []
    of_rows = model.replay_buffer._get_samples

    def watched(*given: Any, **kwargs: Any) -> Any:
        seen.append(subnormals_are_flushed())
        if fails:
            raise Failure
        return of_rows(*given, **kwargs)

    model.replay_buffer._get_samples = watched
    torch.set_flush_denormal(already)
    torch.set_default_dtype(dtype)
    try:
        with pytest.raises(Failure) if fails else nullcontext():
            model.train(1, 8)
    finally:
        torch.set_default_dtype(torch.float32)
    assert seen == [True]
    assert subnormals_are_flushed() == already
