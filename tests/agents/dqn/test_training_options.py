"""Options that make training cheaper: what they change, and what they must not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from equirl.agents import DeviceReplayBuffer, EquivariantDQN
from shared.hardware import needs_cuda

METHODS = ("equitune", "lambda", "equizero", "canonical")


def model(method: str = "equitune", device: str = "cpu", **kwargs: Any) -> EquivariantDQN:
    return EquivariantDQN(
        "MlpPolicy", "CartPole-v1", method=method, learning_starts=100, train_freq=8, seed=0,
        buffer_size=1000, device=device, policy_kwargs={"net_arch": [16, 16]}, **kwargs,
    )  # fmt: skip


def largest_difference(one: EquivariantDQN, other: EquivariantDQN) -> float:
    pairs = zip(one.q_net.parameters(), other.q_net.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@pytest.mark.long
@pytest.mark.parametrize(
    "option", [{"orbit_samples": 1}, {"bf16": True}, {"compile": True}, {"shortcuts": False}]
)
def test_options_are_saved_with_the_agent(option, tmp_path):
    (name, value) = next(iter(option.items()))
    fresh = model(**option)
    fresh.save(tmp_path / "agent.zip")
    loaded = EquivariantDQN.load(tmp_path / "agent.zip")
    kept = loaded.policy_kwargs.get(name, getattr(loaded, name, None))
    assert kept == value


def test_bf16_trains_in_bfloat16_and_acts_in_float32():
    low, full = model(bf16=True), model()
    seen = []
    low.q_net.q_net[0].register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    low.learn(104)
    full.learn(104)
    assert torch.bfloat16 in seen
    seen.clear()
    low.predict(np.zeros(4, np.float32))
    assert seen == [torch.float32]
    assert 0 < largest_difference(low, full) < 1e-3


def test_orbit_samples_change_the_loss_but_not_the_greedy_policy():
    sampled, full = model(orbit_samples=1), model()
    observations = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    assert np.array_equal(
        sampled.predict(observations, deterministic=True)[0],
        full.predict(observations, deterministic=True)[0],
    )
    sampled.learn(104)
    full.learn(104)
    assert largest_difference(sampled, full) > 0


def losses_and_gradients(agent: EquivariantDQN) -> tuple[list[float], torch.Tensor]:
    """Of three minibatches, at parameters that stay as they are."""
    losses, gradients = [], []
    np.random.seed(0)  # noqa: NPY002  # the state SB3's buffers draw from
    agent.policy.set_training_mode(True)
    for _ in range(3):
        sample = agent.replay_buffer.sample(32)
        loss = agent.loss(sample, agent.targets(sample))
        agent.policy.zero_grad()
        torch.autograd.backward(loss)
        losses.append(loss.item())
        # Cloned: with CUDA graphs the next step writes its gradients in the same place.
        found = [p.grad for p in agent.q_net.parameters() if p.grad is not None]
        gradients += [gradient.flatten().clone() for gradient in found]
    return losses, torch.cat(gradients)


def assert_compiling_changes_nothing(method: str, device: str, tolerance: float) -> None:
    agents = [model(method, device, compile=compiled) for compiled in (True, False)]
    for agent in agents:
        agent.learning_starts = 10**6
        agent.learn(200)
    (loss, gradient), (expected_loss, expected_gradient) = map(losses_and_gradients, agents)
    assert np.allclose(loss, expected_loss, rtol=tolerance, atol=tolerance)
    scale = float(expected_gradient.abs().max())
    assert torch.allclose(gradient, expected_gradient, rtol=0, atol=tolerance * scale)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_compiled_training_is_training_up_to_rounding(method):
    assert_compiling_changes_nothing(method, "cpu", 1e-5)


@needs_cuda
@pytest.mark.parametrize("method", METHODS)
def test_compiled_training_on_a_gpu_is_training_up_to_rounding(method):
    assert_compiling_changes_nothing(method, "cuda", 1e-4)


@needs_cuda
@pytest.mark.parametrize("option", [{"compile": True}, {"bf16": True}])
def test_training_on_a_gpu_runs_with_every_option(option):
    agent = model("equizero", "cuda", replay_buffer_class=DeviceReplayBuffer, **option)
    agent.learn(300)
    assert agent._n_updates > 0
