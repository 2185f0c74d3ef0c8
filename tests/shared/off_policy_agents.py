"""Small agents of SAC, TD3, DDPG, TQC and QR-DQN for environments of every kind of space."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC
from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

from equirl import Symmetry
from equirl.agents import (
    EquivariantDDPG,
    EquivariantQRDQN,
    EquivariantSAC,
    EquivariantTD3,
    EquivariantTQC,
)
from equirl.envs import SymmetryWrapper
from shared.policy_tasks import Flat

ALGORITHMS: dict[str, tuple[Any, Any]] = {
    "sac": (EquivariantSAC, SAC),
    "td3": (EquivariantTD3, TD3),
    "ddpg": (EquivariantDDPG, DDPG),
    "tqc": (EquivariantTQC, TQC),
    "qrdqn": (EquivariantQRDQN, QRDQN),
}
"""By name, ours and the plain one."""

OBSERVATIONS: dict[str, tuple[spaces.Space[Any], Any, Any]] = {
    "vector": (spaces.Box(-1, 1, (3,)), [-1, -1, 1], lambda s: s[[1, 0, 2]]),
    "image": (spaces.Box(0, 255, (4, 4, 1), np.uint8), np.fliplr, lambda i: i.transpose(1, 0, 2)),
    "dict": (
        spaces.Dict(action=spaces.Box(-1, 1, (2,)), place=spaces.Discrete(5)),
        {"action": [-1, -1], "place": lambda place: 4 - place},
        {"action": [1, 0], "place": None},
    ),
}
"""By kind, the space and two maps on it."""

BOXES: dict[str, tuple[spaces.Box, Any, Any]] = {
    "symmetric": (spaces.Box(-1, 1, (3,)), [-1, 1, -1], [2, 1, 0]),
    "offset": (
        spaces.Box(np.array([0, -2, 0], np.float32), np.array([4, 2, 4], np.float32)),
        lambda a: np.array([4 - a[0], a[1], 4 - a[2]], np.float32),
        lambda a: a[[2, 1, 0]],
    ),
}
"""By kind, the actions and two maps on them."""


class Random(gym.Env[Any, Any]):
    """Observations drawn at random, episodes of eleven steps, a reward for large actions."""

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self._steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self._steps += 1
        return self.observation_space.sample(), float(np.sum(action)), False, self._steps > 10, {}


class Double(Flat):
    """Features in double precision, for networks that are."""

    def forward(self, observations: Any) -> torch.Tensor:
        return super().forward(observations).double()


def environment(algorithm: str, observations: str = "vector", box: str = "symmetric") -> Any:
    """Random observations under the group that two reflections generate, D4 for images."""
    symmetry = _symmetry(algorithm == "qrdqn", observations, box)
    # Of their own, as they draw.
    own = deepcopy(symmetry.observation_space), deepcopy(symmetry.action_space)
    return SymmetryWrapper(Random(*own), symmetry)


@cache
def _symmetry(is_discrete: bool, observations: str, box: str) -> Symmetry:
    space, flip, exchange = OBSERVATIONS[observations]
    actions, *moved = BOXES[box]
    if is_discrete:
        actions, *moved = spaces.Discrete(4), [2, 1, 0, 3], [0, 3, 2, 1]
    if observations == "image":
        moved = square_actions(is_discrete, box)
    generators = {"flip": (flip, moved[0]), "exchange": (exchange, moved[1])}
    return Symmetry.from_generators(space, actions, generators)


def square_actions(is_discrete: bool, box: str) -> list[Any]:
    """A reflection of columns and one along the diagonal, on actions."""
    if is_discrete:  # right, up, left, down
        return [[2, 1, 0, 3], [3, 2, 1, 0]]
    low_plus_high = 0 if box == "symmetric" else 4

    def flipped(a: np.ndarray) -> np.ndarray:
        return np.array([low_plus_high - a[0], a[1], a[2]], np.float32)

    return [flipped, lambda a: a[[2, 1, 0]]]


def agent(
    algorithm: str,
    method: str | None = "equitune",
    observations: str = "vector",
    box: str = "symmetric",
    *,
    options: dict[str, Any] | None = None,
    policy_kwargs: dict[str, Any] | None = None,
    **kwargs: Any,
) -> BaseAlgorithm:
    """A small agent; of the plain class where the method is None."""
    ours, plain = ALGORITHMS[algorithm]
    policy = "MultiInputPolicy" if observations == "dict" else "MlpPolicy"
    small = {"net_arch": [8], "features_extractor_class": Flat, **(policy_kwargs or {})}
    settings = {"buffer_size": 200, "learning_starts": 12, "batch_size": 8, "seed": 0}
    settings |= {"device": "cpu", "policy_kwargs": small, **kwargs}
    if algorithm == "qrdqn":
        settings["policy_kwargs"] = {"n_quantiles": 5, **small}
        settings.setdefault("train_freq", 1)
    env = environment(algorithm, observations, box)
    if method is None:
        return plain(policy, env, **settings)
    model = ours(policy, env, method, **(options or {}), **settings)
    stir(model)
    return model


def stir(model: Any) -> None:
    """Moves a learned weighting away from where it starts: weights between the extremes."""
    with torch.no_grad():
        for name, parameter in model.policy.named_parameters():
            if name.endswith("asinh_beta"):
                parameter += 0.5
            if "weighting.h.2.weight" in name:
                parameter.uniform_(-3, 3)
