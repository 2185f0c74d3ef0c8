"""Returns of several steps in our replay buffers are those of SB3's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import NStepReplayBuffer

from equirl import Symmetry
from equirl.agents import DeviceNStepReplayBuffer, OrbitNStepReplayBuffer
from equirl.envs import symmetry_of
from shared.small_agents import SMALL, cartpole

SPACE = spaces.Box(-9, 9, (2,))
ACTIONS = spaces.Discrete(2)
MIRROR = Symmetry.from_generators(SPACE, ACTIONS, {"mirror": (np.negative, [1, 0])})
COUNT = 40


def filled(cls: type[NStepReplayBuffer], **kwargs: Any) -> NStepReplayBuffer:
    """Episodes of seven steps, every other one cut off rather than ended."""
    buffer = cls(COUNT, SPACE, ACTIONS, device="cpu", n_steps=3, gamma=0.5, **kwargs)
    rng = np.random.default_rng(0)
    for k in range(COUNT):
        over, info = k % 7 == 6, {"TimeLimit.truncated": k % 14 == 13}
        points = rng.normal(size=(2, 1, 2)).astype(np.float32)
        action, reward = rng.integers(2, size=1), rng.normal(size=1)
        buffer.add(points[0], points[1], action, reward, np.array([over]), [info])
    return buffer


def sampled(buffer: NStepReplayBuffer) -> Any:
    return buffer._get_samples(np.arange(COUNT))


def same(ours: Any, theirs: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_without_a_symmetry_samples_are_those_of_sb3() -> None:
    trivial = Symmetry.trivial(SPACE, ACTIONS)
    expected = sampled(filled(NStepReplayBuffer))
    assert same(sampled(filled(OrbitNStepReplayBuffer, symmetry=trivial)), expected)
    assert same(sampled(filled(DeviceNStepReplayBuffer)), expected)
    assert set(expected.discounts.flatten().tolist()) == {0.5, 0.25, 0.125}


def test_state_action_and_the_state_three_steps_on_move_together() -> None:
    expected = sampled(filled(NStepReplayBuffer))
    ours = sampled(filled(OrbitNStepReplayBuffer, symmetry=MIRROR))
    moved = ours.actions.flatten() != expected.actions.flatten()
    assert 0 < moved.sum() < COUNT
    sign = torch.where(moved, -1.0, 1.0)[:, None]
    assert torch.equal(ours.observations, sign * expected.observations)
    assert torch.equal(ours.next_observations, sign * expected.next_observations)
    for name in ("rewards", "dones", "discounts"):
        assert torch.equal(getattr(ours, name), getattr(expected, name)), name


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (OrbitNStepReplayBuffer, lambda: {"symmetry": symmetry_of(cartpole())}),
        (DeviceNStepReplayBuffer, dict),
    ],
)
def test_stock_dqn_learns_from_it(
    cls: type[NStepReplayBuffer], arguments: Callable[[], dict[str, Any]], tmp_path: Path
) -> None:
    kwargs = {"n_steps": 3, "gamma": 0.99, **arguments()}
    model = DQN(
        "MlpPolicy", cartpole(), replay_buffer_class=cls, replay_buffer_kwargs=kwargs, **SMALL
    )
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    model.learn(200)
    assert any(not torch.equal(before[key], v) for key, v in model.policy.state_dict().items())
    model.save_replay_buffer(tmp_path / "buffer")
    model.load_replay_buffer(tmp_path / "buffer")
    assert isinstance(model.replay_buffer, cls)
    assert model.replay_buffer.n_steps == 3
