"""Parameters taken out of one agent and put into another, as SB3's own tests do it."""

from __future__ import annotations

import copy

import pytest
import torch
from stable_baselines3 import DQN

from shared.sb3_agents import (
    agent,
    assert_equal,
    assert_is_the_same_agent,
    assert_trains_on,
    each_algorithm,
    each_task,
    q_values,
    saved,
    trained,
)


@pytest.mark.covering(1)
@each_task
@each_algorithm
def test_set_parameters_takes_what_get_parameters_gives(algorithm: type[DQN], task: str) -> None:
    model, other = trained(algorithm, task), agent(algorithm, task, seed=1)
    other.replay_buffer = model.replay_buffer
    given = copy.deepcopy(model.get_parameters())
    assert set(given) == {"policy", "policy.optimizer"}
    other.set_parameters(given, exact_match=True, device="cpu")
    assert_is_the_same_agent(other, model)
    other.set_parameters(given, exact_match=True, device="cpu")  # the dict is as it was
    assert_equal(other.policy.state_dict(), given["policy"])


@each_algorithm
def test_set_parameters_reads_files(algorithm: type[DQN]) -> None:
    model, other = trained(algorithm), trained(algorithm, seed=1)
    other.set_parameters(saved(model), device="cpu")
    other.replay_buffer = model.replay_buffer
    assert_is_the_same_agent(other, model)


@each_algorithm
def test_an_exact_match_takes_no_less_and_no_more(algorithm: type[DQN]) -> None:
    model = trained(algorithm)
    given = copy.deepcopy(model.get_parameters())
    some = {"policy": {"q_net.q_net.0.bias": torch.full((8,), 3.0)}}
    with pytest.raises(RuntimeError, match="Missing key"):
        model.set_parameters({**given, **some}, exact_match=True, device="cpu")
    with pytest.raises(ValueError, match="do not match agents' parameters"):
        model.set_parameters({"policy": given["policy"]}, exact_match=True, device="cpu")
    with pytest.raises(ValueError, match="invalid object name"):
        model.set_parameters({**given, "critic": {}}, exact_match=False, device="cpu")
    model.set_parameters(some, exact_match=False, device="cpu")
    assert model.q_net.q_net[0].bias.tolist() == [3.0] * 8
    unchanged = {key: v for key, v in given["policy"].items() if key not in some["policy"]}
    now = model.policy.state_dict()
    assert_equal({key: now[key] for key in unchanged}, unchanged)
    twin = agent(algorithm, seed=2)
    twin.set_parameters(copy.deepcopy(model.get_parameters()), device="cpu")
    assert_trains_on(twin, model)


@each_algorithm
def test_a_saved_optimiser_that_is_not_fused_is_taken_over(algorithm: type[DQN]) -> None:
    model = trained(algorithm)
    given = copy.deepcopy(model.get_parameters())
    (group,) = given["policy.optimizer"]["param_groups"]
    assert group["fused"]
    group["fused"] = None  # as plain DQN writes it
    other = agent(algorithm, seed=1)
    other.set_parameters(given, device="cpu")
    other.replay_buffer = model.replay_buffer
    other._setup_learn(8)
    before = q_values(other)
    other.train(2, 8)
    assert not torch.equal(q_values(other), before)
