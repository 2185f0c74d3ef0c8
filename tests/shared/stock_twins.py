"""Agents and their twins that SB3's own DQN trains, on the same minibatches."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from equirl import Symmetry
from equirl.agents import DoubleDQN, EquivariantDQN
from equirl.agents.shortcuts.training import may_take_shortcuts
from equirl.envs import SymmetryWrapper
from shared.policy_tasks import stir
from shared.sampled import Sampled

GENTLE = 1e-3
"""Adam's ε. Some gradients vanish by symmetry, as those of the bias before batch normalisation do;
with the usual ε Adam would make steps of full length out of what rounding leaves of them."""

TAKEN_OVER = ("learning_rate", "tau", "gamma", "max_grad_norm", "seed", "device", "double_q")


class BatchNormed(BaseFeaturesExtractor):
    """Hidden units whose running statistics the target network takes over."""

    def __init__(self, space: spaces.Box) -> None:
        super().__init__(space, features_dim=16)
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        features: Tensor = self.layers(observations)
        return features


def square_env() -> gym.Env[Any, Any]:
    """D4 on position and velocity, and on the actions east, north, west, south."""
    return SymmetryWrapper(Sampled(spaces.Box(-1, 1, (4,)), 4), square())


def image_env() -> gym.Env[Any, Any]:
    return SymmetryWrapper(
        Sampled(spaces.Box(0, 255, (36, 36, 1), np.uint8), 4), square_of_images()
    )


@cache
def square() -> Symmetry:
    turn = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]])
    generators = {"r": (turn, [1, 2, 3, 0]), "s": ([1, -1, 1, -1], [0, 3, 2, 1])}
    return Symmetry.from_generators(spaces.Box(-1, 1, (4,)), spaces.Discrete(4), generators)


@cache
def square_of_images() -> Symmetry:
    generators = {"r": (np.rot90, [1, 2, 3, 0]), "s": (np.flipud, [0, 3, 2, 1])}
    space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    return Symmetry.from_generators(space, spaces.Discrete(4), generators)


def agent(
    variant: dict[str, Any],
    env: gym.Env[Any, Any],
    policy: str = "MlpPolicy",
    transitions: int = 96,
    policy_kwargs: dict[str, Any] | None = None,
    **kwargs: Any,
) -> EquivariantDQN:
    """Untrained, with so many random transitions in its replay buffer."""
    model = EquivariantDQN(
        policy,
        env,
        **variant,
        policy_kwargs={
            "net_arch": [16],
            "optimizer_kwargs": {"eps": GENTLE},
            **(policy_kwargs or {}),
        },
        **{
            "buffer_size": 256,
            "learning_starts": 10**6,
            "learning_rate": 1e-2,
            "target_update_interval": 10**6,
            "seed": 0,
            "device": "cpu",
            **kwargs,
        },
    )
    stir(model)
    model.learn(transitions)
    # Otherwise it would be the network's own copy, and the targets known to it.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.q_net_target.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def stock_twin(model: EquivariantDQN, policy: str, env: gym.Env[Any, Any]) -> EquivariantDQN:
    """The same agent without shortcuts, its parameters updated one by one as SB3 does."""
    kwargs = copy.copy(model.policy_kwargs)
    kwargs["optimizer_kwargs"] = {"eps": GENTLE, "foreach": False, "fused": False}
    twin = EquivariantDQN(
        policy,
        env,
        policy_kwargs=kwargs,
        **{name: getattr(model, name) for name in TAKEN_OVER},
        buffer_size=1,
        shortcuts=False,
    )
    twin.policy.load_state_dict(model.policy.state_dict())
    twin.replay_buffer = copy.deepcopy(model.replay_buffer)
    twin._setup_learn(10**6)
    return twin


def hand_out(model: DQN, rows: np.ndarray) -> None:
    """Makes the replay buffer sample these rows, in this order, however many are asked for."""
    pending: Iterator[int] = iter(rows.tolist())
    buffer: Any = model.replay_buffer

    def of_these(drawn: np.ndarray, env: Any = None) -> Any:
        rows = np.array([next(pending) for _ in drawn])
        return type(buffer)._get_samples(buffer, rows, env)

    buffer._get_samples = of_these  # a ``sample`` of its own would keep it from shortcuts


def logged(model: DQN) -> dict[str, Any]:
    logger: Logger = model.logger
    return dict(logger.name_to_value)


def assert_trained_alike(
    model: EquivariantDQN, twin: EquivariantDQN, steps: int, batch_size: int
) -> None:
    """Train the one with shortcuts and the other by the reference, and compare what was learned."""
    rows = np.random.default_rng(5).integers(0, model.replay_buffer.size(), steps * batch_size)
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    for learner in (model, twin):
        hand_out(learner, rows)
    assert may_take_shortcuts(model)
    assert not may_take_shortcuts(twin)
    model.train(steps, batch_size)
    (twin if twin.double_q else super(DoubleDQN, twin)).train(steps, batch_size)

    assert logged(model)["train/loss"] == pytest.approx(logged(twin)["train/loss"], rel=1e-5)
    assert logged(model)["train/n_updates"] == logged(twin)["train/n_updates"] == steps
    assert model._n_updates == twin._n_updates == steps
    assert_close(model.policy.state_dict(), twin.policy.state_dict())
    assert_close(moments(model), moments(twin))
    after = model.policy.state_dict()
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert any(key.startswith("q_net.") for key in moved)
    assert not any(key.startswith("q_net_target.") for key in moved)


def moments(model: DQN) -> dict[str, Tensor]:
    state = model.policy.optimizer.state_dict()["state"]
    return {f"{p}.{name}": value for p, own in state.items() for name, value in own.items()}


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal to a few roundings; a step moves parameters by about 1e-2."""
    assert list(actual) == list(expected)
    sizes: dict[str, float] = defaultdict(float)
    for key, value in expected.items():
        kind = key.rpartition(".")[2]
        sizes[kind] = max(sizes[kind], float(value.abs().max()))
    for key, value in expected.items():
        atol = 2e-6 * min(1, sizes[key.rpartition(".")[2]])
        torch.testing.assert_close(actual[key], value, rtol=2e-5, atol=atol, msg=key)
