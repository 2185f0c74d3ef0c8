"""The replay buffer in the device's memory: SB3's samples, number for number."""

from __future__ import annotations

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from equirl.agents import DeviceDictReplayBuffer, DeviceReplayBuffer, EquivariantDQN
from equirl.agents.replay.device_replay import DeviceArray
from equirl.errors import AgentError
from shared.hardware import needs_cuda

IMAGE = spaces.Box(0, 255, (3, 6, 6), np.uint8)
SPACES: dict[str, spaces.Space[Any]] = {
    "vector": spaces.Box(-1, 1, (4,)),
    "float64": spaces.Box(-1, 1, (4,), np.float64),
    "image": IMAGE,
    "discrete": spaces.Discrete(7),
    "bits": spaces.MultiBinary(5),
    "dict": spaces.Dict(image=IMAGE, place=spaces.Discrete(4)),
}


def filled(cls: type[Any], space: spaces.Space[Any], device: str = "cpu", **kwargs: Any) -> Any:
    """A buffer of 16 that 21 transitions of 3 environments each have been put into."""
    buffer = cls(48, space, spaces.Discrete(3), device=device, n_envs=3, **kwargs)
    space.seed(0)
    generator = np.random.default_rng(0)

    def observations() -> Any:
        drawn = [space.sample() for _ in range(3)]
        if isinstance(space, spaces.Dict):
            return {key: np.array([one[key] for one in drawn]) for key in space.spaces}
        return np.array(drawn)

    for _ in range(21):
        infos = [{"TimeLimit.truncated": bool(cut)} for cut in generator.integers(0, 2, 3)]
        actions, dones = generator.integers(0, 3, 3), generator.integers(0, 2, 3)
        buffer.add(observations(), observations(), actions, generator.normal(size=3), dones, infos)
    return buffer


def assert_same_samples(one: Any, other: Any) -> None:
    np.random.seed(0)  # noqa: NPY002  # the state SB3's buffers draw from
    first = one.sample(64)
    np.random.seed(0)  # noqa: NPY002  # as above
    second = other.sample(64)
    for name in ("observations", "next_observations", "actions", "rewards", "dones"):
        a, b = getattr(first, name), getattr(second, name)
        parts = [(a, b)] if not isinstance(a, dict) else [(a[key], b[key]) for key in a]
        for x, y in parts:
            assert x.dtype == y.dtype
            assert torch.equal(x.cpu(), y.cpu())


@pytest.mark.parametrize("name", SPACES)
def test_samples_are_those_of_the_buffer_it_replaces(name):
    space = SPACES[name]
    ours, theirs = DeviceReplayBuffer, ReplayBuffer
    if isinstance(space, spaces.Dict):
        ours, theirs = DeviceDictReplayBuffer, DictReplayBuffer
    assert_same_samples(filled(ours, space), filled(theirs, space))


def test_the_memory_saving_variant_gives_the_same_samples_too():
    options = {"optimize_memory_usage": True, "handle_timeout_termination": False}
    ours = filled(DeviceReplayBuffer, IMAGE, **options)
    assert not hasattr(ours, "next_observations")
    assert_same_samples(ours, filled(ReplayBuffer, IMAGE, **options))


def test_samples_survive_the_buffer_they_came_from():
    buffer = filled(DeviceReplayBuffer, SPACES["vector"])
    sample = buffer.sample(8).observations
    before = sample.clone()
    buffer.observations.tensor.zero_()
    assert torch.equal(sample, before)


@pytest.mark.parametrize("name", ["image", "dict"])
def test_a_saved_buffer_comes_back(name):
    cls = DeviceDictReplayBuffer if name == "dict" else DeviceReplayBuffer
    buffer = filled(cls, SPACES[name])
    assert_same_samples(pickle.loads(pickle.dumps(buffer)), buffer)


def test_what_a_gpu_saved_is_read_where_there_is_none(monkeypatch):
    array = DeviceArray(np.zeros((2, 3), np.float32), torch.device("cpu"))
    state = {**array.__getstate__(), "device": "cuda"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    array.__setstate__(state)
    assert array.tensor.device.type == "cpu"


def test_training_is_the_same_bit_for_bit():
    def trained(**kwargs: Any) -> list[torch.Tensor]:
        model = EquivariantDQN(
            "MlpPolicy", "CartPole-v1", learning_starts=50, train_freq=4, seed=0, device="cpu",
            buffer_size=200, **kwargs,
        )  # fmt: skip
        model.learn(200)
        return list(model.policy.state_dict().values())

    for a, b in zip(trained(), trained(replay_buffer_class=DeviceReplayBuffer), strict=True):
        assert torch.equal(a, b)


def test_normalised_observations_are_refused():
    env = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]))
    buffer = filled(DeviceReplayBuffer, SPACES["vector"])
    with pytest.raises(AgentError, match="VecNormalize"):
        buffer.sample(4, env=env)


@needs_cuda
@pytest.mark.parametrize("name", SPACES)
def test_on_a_gpu_the_samples_are_those_of_the_cpu(name):
    space = SPACES[name]
    cls = DeviceDictReplayBuffer if isinstance(space, spaces.Dict) else DeviceReplayBuffer
    there = filled(cls, space, device="cuda")
    assert_same_samples(there, filled(cls, space))
    sample = there.sample(2).observations
    part = next(iter(sample.values())) if isinstance(sample, dict) else sample
    assert part.device.type == "cuda"
