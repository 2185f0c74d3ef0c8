"""The policies: Q-functions exactly equivariant on every space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.dqn.policies import QNetwork
from torch import Tensor

from equirl import Symmetry
from equirl.agents.policy_spaces import for_policy
from shared.hardware import needs_cuda
from shared.policy_tasks import ENVIRONMENTS, VARIANTS, agent
from shared.sampled import q_values, raw_observations
from shared.small_agents import METHODS


def greatest_error(symmetry: Symmetry, before: Tensor, after: list[Tensor]) -> float:
    """max |Q(gs, ga) − Q(s, a)|, entry by entry."""
    return max(
        abs(float(after[g][row, symmetry.permutations[g, action]] - before[row, action]))
        for g in range(symmetry.group.order)
        for row in range(len(before))
        for action in range(before.shape[1])
    )


@pytest.mark.covering(1)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_q_values_of_raw_observations_are_equivariant(name: str, variant: str) -> None:
    model, symmetry = agent(name, VARIANTS[variant])
    observations = raw_observations(symmetry.observation_space, 5)
    before = q_values(model, observations)
    after = [
        q_values(model, symmetry.transform_observation(g, observations))
        for g in range(symmetry.group.order)
    ]
    assert greatest_error(symmetry, before, after) < 1e-5
    assert float(before.std(dim=0).max()) > 1e-4


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_network_inside_is_not_equivariant_by_itself(name: str) -> None:
    model, symmetry = agent(name, VARIANTS["equitune"])
    observations = raw_observations(symmetry.observation_space, 5)

    def plain_values(given: Any) -> Tensor:
        with torch.no_grad():
            values: Tensor = QNetwork.forward(model.q_net, model.policy.obs_to_tensor(given)[0])
        return values

    after = [
        plain_values(symmetry.transform_observation(g, observations))
        for g in range(symmetry.group.order)
    ]
    assert greatest_error(symmetry, plain_values(observations), after) > 1e-3


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_q_values_of_replayed_observations_are_equivariant(name: str, method: str) -> None:
    model, symmetry = agent(name, {"method": method}, learning_starts=20)
    model.learn(40)
    assert model.replay_buffer is not None
    batch: Any = model.replay_buffer.sample(5).observations
    buffered = for_policy(symmetry, symmetry.observation_space)

    def moved(g: int) -> Any:
        channels_last = last(batch)
        return first(buffered.transform_observation(g, channels_last))

    def last(tensors: Any) -> Any:
        return each_image(tensors, lambda image: image.permute(0, 2, 3, 1))

    def first(tensors: Any) -> Any:
        return each_image(tensors, lambda image: image.permute(0, 3, 1, 2))

    def each_image(tensors: Any, turned: Any) -> Any:
        if isinstance(tensors, dict):
            return {key: each_image(tensor, turned) for key, tensor in tensors.items()}
        return turned(tensors) if tensors.dim() == 4 else tensors

    with torch.no_grad():
        before = model.q_net(batch)
        after = [model.q_net(moved(g)) for g in range(symmetry.group.order)]
        target = model.q_net_target(batch)
        target_after = [model.q_net_target(moved(g)) for g in range(symmetry.group.order)]
    assert before.shape == (5, symmetry.action_space.n)
    assert greatest_error(symmetry, before, after) < 1e-5
    assert greatest_error(symmetry, target, target_after) < 1e-5


def test_a_replayed_discrete_observation_has_a_dimension_of_its_own() -> None:
    model, _ = agent("discrete", {"method": "equitune"}, learning_starts=20)
    model.learn(10)
    assert model.replay_buffer is not None
    observations = model.replay_buffer.sample(5).observations
    assert observations.shape == (5, 1)
    with torch.no_grad():
        torch.testing.assert_close(
            model.q_net(observations), q_values(model, observations[:, 0].numpy())
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_that_the_mirror_leaves_in_place_has_equal_values_for_both_actions(
    variant: str,
) -> None:
    model, _ = agent("cartpole", VARIANTS[variant])
    left, right = q_values(model, np.zeros((3, 4), np.float32)).T
    torch.testing.assert_close(left, right, rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_the_network(variant: str) -> None:
    model, symmetry = agent("gridworld", VARIANTS[variant])
    observations = raw_observations(symmetry.observation_space, 5)
    model.q_net(model.policy.obs_to_tensor(observations)[0]).square().sum().backward()
    for name, parameter in model.q_net.q_net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["cartpole", "gridworld", "dict", "discrete"])
def test_q_values_are_equivariant_on_a_gpu(
    name: str, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model, symmetry = agent(name, VARIANTS[variant], device="cuda")
    assert model.policy.device.type == "cuda"
    observations = raw_observations(symmetry.observation_space, 5)
    before = q_values(model, observations)
    after = [
        q_values(model, symmetry.transform_observation(g, observations))
        for g in range(symmetry.group.order)
    ]
    assert greatest_error(symmetry, before, after) < 1e-5


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ["cartpole", "gridworld", "dict"])
def test_training_runs_on_a_gpu(name: str, variant: str) -> None:
    model, _ = agent(name, VARIANTS[variant], device="cuda", learning_starts=20)
    before = {key: value.clone() for key, value in model.q_net.state_dict().items()}
    model.learn(100)
    assert any(
        not torch.equal(value, before[key]) for key, value in model.q_net.state_dict().items()
    )
