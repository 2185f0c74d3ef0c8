"""Observation and action spaces with a symmetry, for policies of actors and critics."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from equirl import Symmetry
from shared.sampled import raw_observations

VECTOR = spaces.Box(-1, 1, (4,))
IMAGE = spaces.Box(0, 255, (6, 6, 1), np.uint8)
OBSERVATIONS: dict[str, tuple[spaces.Space[Any], Any]] = {
    "vector": (VECTOR, [1, 0, 3, 2]),
    "signs": (VECTOR, [-1, -1, 1, -1]),
    "image": (IMAGE, lambda image: image[:, ::-1]),
    "dict": (
        spaces.Dict({"image": IMAGE, "numbers": VECTOR, "which": spaces.Discrete(3)}),
        {"image": lambda image: image[:, ::-1], "numbers": [-1, 1, -1, 1], "which": [0, 2, 1]},
    ),
}
ACTIONS: dict[str, tuple[spaces.Space[Any], Any]] = {
    "discrete": (spaces.Discrete(3), [2, 1, 0]),
    "box": (spaces.Box(-2, 2, (3,)), lambda a: -a[[1, 0, 2]]),
    "offset box": (spaces.Box(np.float32(2), np.float32(4), (2,)), lambda a: 6 - a[::-1]),
    "multi-discrete": (
        spaces.MultiDiscrete([2, 2, 3]),
        lambda a: np.array([1 - a[1], 1 - a[0], 2 - a[2]]),
    ),
    "multi-binary": (spaces.MultiBinary(3), lambda a: np.array([a[1], a[0], 1 - a[2]])),
}


class Wide(BaseFeaturesExtractor):
    """Everything flat, in double precision where the policy is."""

    def __init__(self, observation_space: spaces.Space[Any]) -> None:
        sizes = {None: observation_space}
        entries = sum(
            spaces.flatdim(space) for space in getattr(observation_space, "spaces", sizes).values()
        )
        super().__init__(observation_space, 8)
        self.linear = nn.Sequential(nn.Linear(entries, 8), nn.Tanh())

    def forward(self, observations: Any) -> Tensor:
        parts = observations.values() if isinstance(observations, dict) else [observations]
        flat = torch.cat([part.flatten(1) for part in parts], dim=1)
        features: Tensor = self.linear(flat.to(next(self.parameters()).dtype))
        return features


class Drawn(gym.Env[Any, Any]):
    """Random observations whatever is done; rewards and episodes of eight steps."""

    def __init__(self, symmetry: Symmetry) -> None:
        self.symmetry = symmetry
        self.observation_space, self.action_space = (
            symmetry.observation_space,
            symmetry.action_space,
        )
        self.observation_space.seed(0)
        self.step_count = 0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=kwargs.get("seed"))
        self.step_count = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.step_count += 1
        reward = float(np.mean(action))
        return self.observation_space.sample(), reward, self.step_count == 8, False, {}

    def action_masks(self) -> np.ndarray:
        """Everything is allowed but the first."""
        space: Any = self.action_space
        if isinstance(space, spaces.Discrete):
            sizes = [int(space.n)]
        else:
            sizes = [2] * space.n if isinstance(space, spaces.MultiBinary) else list(space.nvec)
        return np.concatenate([np.arange(size) > 0 for size in sizes])


def symmetry_of_task(observations: str, actions: str) -> Symmetry:
    """The mirror of these observations and actions."""
    (seen, moved), (done, acted) = OBSERVATIONS[observations], ACTIONS[actions]
    return Symmetry.from_generators(seen, done, {"mirror": (moved, acted)})


def task(observations: str, actions: str) -> Drawn:
    """An environment with these observations and actions."""
    return Drawn(symmetry_of_task(observations, actions))


def seen(symmetry: Symmetry, count: int, seed: int) -> Any:
    """Raw observations, of which the first is a fixed point, as tensors ``[count, *shape]``."""
    space = symmetry.observation_space
    space.seed(seed)
    points = raw_observations(space, count)
    fixed = _map(lambda part: np.zeros_like(part[:1]), points)
    return _map(
        lambda part: torch.from_numpy(part),
        _zip(lambda a, b: np.concatenate([a, b]), fixed, points),
    )


def first(points: Any) -> Any:
    """Images channels first, as SB3 hands them on."""
    return _map(lambda part: part.permute(0, 3, 1, 2) if part.dim() == 4 else part, points)


def _map(function: Any, tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: function(part) for key, part in tree.items()}
    return function(tree)


def _zip(function: Any, tree: Any, other: Any) -> Any:
    if isinstance(tree, dict):
        return {key: function(part, other[key]) for key, part in tree.items()}
    return function(tree, other)


def policy_name(space: spaces.Space[Any]) -> str:
    """SB3's name for the policy of these observations."""
    if isinstance(space, spaces.Dict):
        return "MultiInputPolicy"
    return "CnnPolicy" if is_image_space(space) else "MlpPolicy"
