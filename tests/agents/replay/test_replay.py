"""Orbit replay: each sampled transition is a stored one, moved whole by one group element."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

from equirl import Symmetry
from equirl.agents import OrbitDictReplayBuffer, OrbitReplayBuffer
from equirl.envs import SymmetryWrapper
from equirl.envs.boards.grid_world import GRID_WORLD_GENERATORS
from equirl.errors import SymmetryError
from shared.hardware import needs_cuda
from shared.policy_tasks import Flat

TURN = {
    "r": (lambda v: np.array([-v[1], v[0], v[2]], v.dtype), [3, 0, 1, 2]),
    "s": ([-1, 1, 1], [0, 3, 2, 1]),
}
IMAGE = spaces.Box(0, 255, (5, 5, 3), np.uint8)
FIRST = spaces.Box(0, 255, (3, 5, 5), np.uint8)
SPACES: dict[str, tuple[spaces.Space[Any], spaces.Space[Any], Any]] = {
    "vector": (spaces.Box(-9, 9, (3,)), spaces.Box(-9, 9, (3,)), TURN),
    "image": (IMAGE, IMAGE, GRID_WORLD_GENERATORS),
    "transposed-image": (IMAGE, FIRST, GRID_WORLD_GENERATORS),
    "dict": (
        spaces.Dict(image=IMAGE, vector=spaces.Box(-9, 9, (3,)), place=spaces.Discrete(8)),
        spaces.Dict(image=FIRST, vector=spaces.Box(-9, 9, (3,)), place=spaces.Discrete(8)),
        {
            name: (
                {
                    "image": GRID_WORLD_GENERATORS[name][0],
                    "vector": TURN[name][0],
                    "place": None,
                },
                TURN[name][1],
            )
            for name in "rs"
        },
    ),
}
COUNT = 20


def filled(name: str, **kwargs: Any) -> tuple[Any, Symmetry, list[Any], np.ndarray]:
    """A buffer of 20 transitions k with reward k, what is in it as environments give it, the a."""
    raw_space, policy_space, generators = SPACES[name]
    symmetry = Symmetry.from_generators(raw_space, spaces.Discrete(4), generators)
    buffer_class = OrbitDictReplayBuffer if name == "dict" else OrbitReplayBuffer
    buffer = buffer_class(
        COUNT, policy_space, symmetry.action_space, device="cpu", symmetry=symmetry, **kwargs
    )
    raw_space.seed(0)
    raw = [raw_space.sample() for _ in range(COUNT + 1)]
    actions = np.random.default_rng(0).integers(4, size=COUNT)
    for k in range(COUNT):
        buffer.add(
            batched(seen(raw[k], policy_space)),
            batched(seen(raw[k + 1], policy_space)),
            actions[k : k + 1],
            np.array([k]),
            np.array([k % 5 == 4]),
            [{"TimeLimit.truncated": k == 9}],
        )
    return buffer, symmetry, raw, actions


def seen(raw: Any, space: spaces.Space[Any]) -> Any:
    """What SB3 makes of an observation before it is stored."""
    if isinstance(space, spaces.Dict):
        return {key: seen(raw[key], space[key]) for key in raw}
    return np.transpose(raw, (2, 0, 1)) if space.shape != np.shape(raw) else raw


def batched(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: np.asarray(value)[None] for key, value in observation.items()}
    return observation[None]


def same(sampled: Any, row: int, expected: Any) -> bool:
    if isinstance(sampled, dict):
        return all(same(sampled[key], row, expected[key]) for key in sampled)
    return bool(np.allclose(sampled[row].numpy().reshape(np.shape(expected)), expected))


@pytest.mark.parametrize("name", SPACES)
def test_each_sample_is_a_stored_transition_moved_by_one_element(name: str) -> None:
    buffer, symmetry, raw, actions = filled(name)
    np.random.seed(0)  # noqa: NPY002  # SB3's buffers draw from it
    samples = buffer.sample(400)
    moved = [
        [seen(symmetry.transform_observation(g, one), buffer.observation_space) for one in raw]
        for g in range(8)
    ]
    elements: Counter[int] = Counter()
    for row in range(400):
        k = int(samples.rewards[row])
        fitting = [
            g
            for g in range(8)
            if same(samples.observations, row, moved[g][k])
            and same(samples.next_observations, row, moved[g][k + 1])
            and int(samples.actions[row]) == symmetry.transform_action(g, actions[k])
        ]
        assert len(fitting) == 1
        elements.update(fitting)
        # A time limit is no end of the task.
        assert samples.dones[row] == (k % 5 == 4 and k != 9)
    assert len(elements) == 8
    chi_squared = sum((count - 50) ** 2 / 50 for count in elements.values())
    assert chi_squared < 24.3  # its 0.999 quantile with 7 degrees of freedom


@pytest.mark.parametrize("name", SPACES)
def test_types_and_shapes_are_those_of_the_plain_buffer(name: str) -> None:
    buffer, *_ = filled(name)
    plain_class = DictReplayBuffer if name == "dict" else ReplayBuffer
    samples, plain = buffer.sample(3), plain_class.sample(buffer, 3)
    for own, expected in zip(samples, plain, strict=True):
        if isinstance(expected, dict):
            assert {k: (v.dtype, v.shape) for k, v in own.items()} == {
                k: (v.dtype, v.shape) for k, v in expected.items()
            }
        elif expected is not None:
            assert (own.dtype, own.shape) == (expected.dtype, expected.shape)


def test_what_is_stored_stays_as_it_came() -> None:
    buffer, _, raw, actions = filled("vector")
    for _ in range(10):
        buffer.sample(50)
    np.testing.assert_array_equal(buffer.observations[:, 0], np.stack(raw[:-1]))
    np.testing.assert_array_equal(buffer.actions[:, 0, 0], actions)


def test_discrete_observations_are_moved() -> None:
    symmetry = Symmetry.from_generators(
        spaces.Discrete(5), spaces.Discrete(2), {"mirror": (lambda s: 4 - s, [1, 0])}
    )
    buffer = OrbitReplayBuffer(
        10, spaces.Discrete(5), spaces.Discrete(2), device="cpu", symmetry=symmetry
    )
    for k in range(5):
        buffer.add(np.array([k]), np.array([0]), np.array([1]), np.array([k]), np.zeros(1), [{}])
    samples = buffer.sample(200)
    k, shown = samples.rewards[:, 0], samples.observations[:, 0]
    mirrored = samples.actions[:, 0] == 0
    assert samples.observations.shape == (200, 1)
    assert torch.equal(shown, torch.where(mirrored, 4 - k, k).to(shown.dtype))
    assert torch.equal(samples.next_observations[:, 0] == 4, mirrored)
    assert 0 < mirrored.sum() < 200


def test_transitions_of_several_environments_are_moved() -> None:
    symmetry = SymmetryWrapper(gym.make("CartPole-v1")).symmetry
    buffer = OrbitReplayBuffer(
        20,
        symmetry.observation_space,
        symmetry.action_space,
        device="cpu",
        n_envs=2,
        symmetry=symmetry,
    )
    for k in range(10):
        states = np.full((2, 4), k + 1) * np.array([[1], [100]])
        buffer.add(states, states, np.array([0, 0]), np.array([k, k]), np.zeros(2), [{}, {}])
    samples = buffer.sample(200)
    sign = samples.observations[:, 0].sign()
    assert torch.equal(samples.actions[:, 0], (sign < 0).long())
    assert set(samples.observations.abs()[:, 0].tolist()) == {
        (k + 1.0) * scale for k in range(10) for scale in (1, 100)
    }


def test_the_same_seed_gives_the_same_samples() -> None:
    buffer, *_ = filled("vector")
    draws = []
    for _ in range(2):
        np.random.seed(7)  # noqa: NPY002  # SB3's buffers draw from it
        draws.append(buffer.sample(50))
    assert torch.equal(draws[0].observations, draws[1].observations)
    assert torch.equal(draws[0].actions, draws[1].actions)


@pytest.mark.parametrize("name", ["vector", "dict"])
def test_plain_dqn_learns_from_it(name: str) -> None:
    raw_space, _, generators = SPACES[name]

    class Sampled(gym.Env[Any, np.int64]):
        observation_space = raw_space
        action_space = spaces.Discrete(4)

        def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
            return raw_space.sample(), {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return raw_space.sample(), 1.0, False, False, {}

    env = SymmetryWrapper(Sampled(), generators)
    model = DQN(
        "MultiInputPolicy" if name == "dict" else "MlpPolicy",
        env,
        replay_buffer_class=OrbitDictReplayBuffer if name == "dict" else OrbitReplayBuffer,
        replay_buffer_kwargs={"symmetry": env.symmetry},
        buffer_size=100,
        learning_starts=20,
        policy_kwargs={"features_extractor_class": Flat},
        device="cpu",
    )
    before = model.q_net.q_net[0].weight.detach().clone()
    model.learn(60)
    assert not torch.equal(model.q_net.q_net[0].weight, before)


def test_a_symmetry_of_other_observations_is_refused() -> None:
    symmetry = SymmetryWrapper(gym.make("CartPole-v1")).symmetry
    with pytest.raises(SymmetryError, match="declare it for what comes out of the last wrapper"):
        OrbitReplayBuffer(10, IMAGE, spaces.Discrete(2), device="cpu", symmetry=symmetry)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("name", SPACES)
def test_samples_lie_on_the_gpu(name: str) -> None:
    buffer, *_ = filled(name)
    buffer.device = torch.device("cuda")
    np.random.seed(0)  # noqa: NPY002  # SB3's buffers draw from it
    on_gpu = buffer.sample(20)
    buffer.device = torch.device("cpu")
    np.random.seed(0)  # noqa: NPY002  # SB3's buffers draw from it
    on_cpu = buffer.sample(20)
    assert on_gpu.actions.device.type == "cuda"
    assert torch.equal(on_gpu.actions.cpu(), on_cpu.actions)
    if name != "dict":
        assert torch.equal(on_gpu.observations.cpu(), on_cpu.observations)
