"""What `equirl benchmark` measures: a stock agent and every method beside it, for any group.

The worlds have no physics. Their observations are drawn beforehand, so that what is timed is the
agent's own work.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from equirl.agents import DeviceReplayBuffer
from equirl.agents.families import FAMILIES, class_of
from equirl.symmetry import Symmetry

STOCK = "stock"
"""The algorithm of SB3 or sb3-contrib, beside which everything else is measured."""

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp-64-64": {"policy": "MlpPolicy", "policy_kwargs": {"net_arch": [64, 64]}},
    "mlp-256-256": {"policy": "MlpPolicy", "policy_kwargs": {"net_arch": [256, 256]}},
    "nature-cnn": {"policy": "CnnPolicy", "policy_kwargs": {}},
}
"""Policies by name; the convolutional one sees 84 × 84 × 4 images, the others 8 numbers."""

ORDERS = (1, 2, 4, 8)
"""Of the groups: the subgroups of D4, the symmetries of a square."""


class FixedWorld(gym.Env[npt.NDArray[Any], Any]):
    """Shows the same observations in turn, whatever is done.

    Args:
        images: uint8 images of 84 × 84 × 4 rather than four points in the plane.
        continuous: actions are vectors in the plane, rather than one of four directions.
    """

    action_space: spaces.Space[Any]

    def __init__(self, images: bool, continuous: bool = False) -> None:
        generator = np.random.default_rng(0)
        self.action_space = spaces.Box(-1, 1, (2,)) if continuous else spaces.Discrete(4)
        if images:
            self.observation_space = spaces.Box(0, 255, (84, 84, 4), np.uint8)
            self._shown = generator.integers(0, 256, (64, 84, 84, 4), dtype=np.uint8)
        else:
            self.observation_space = spaces.Box(-10, 10, (8,), np.float32)
            self._shown = generator.normal(size=(64, 8)).astype(np.float32)
        self._step = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        super().reset(seed=seed)
        return self._shown[self._step % 64], {}

    def step(self, action: Any) -> tuple[npt.NDArray[Any], float, bool, bool, dict[str, Any]]:
        self._step += 1
        return self._shown[self._step % 64], 1.0, self._step % 200 == 0, False, {}


def symmetry_of_order(order: int, images: bool, continuous: bool = False) -> Symmetry:
    """The subgroup of D4 of that order, acting on a `FixedWorld`."""
    world = FixedWorld(images, continuous)

    def turned(observation: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if images:
            return np.rot90(observation)
        x, y = observation[0::2], observation[1::2]
        return np.stack([-y, x], axis=1).ravel()

    def flipped(observation: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if images:
            return observation[:, ::-1]
        return observation * np.tile([-1, 1], 4).astype(np.float32)

    actions: tuple[Any, Any, Any] = [1, 2, 3, 0], [2, 1, 0, 3], [2, 3, 0, 1]
    if continuous:
        actions = [[0, -1], [1, 0]], [-1, 1], [-1, -1]
    turn, flip = (turned, actions[0]), (flipped, actions[1])
    half_turn = (lambda observation: turned(turned(observation)), actions[2])
    generators: dict[int, dict[str, Any]] = {
        1: {},
        2: {"half turn": half_turn},
        4: {"turn": turn},
        8: {"turn": turn, "flip": flip},
    }
    return Symmetry.from_generators(world.observation_space, world.action_space, generators[order])


def subject(
    method: str,
    network: str,
    symmetry: Symmetry,
    batch_size: int,
    device: str = "cpu",
    algorithm: str = "dqn",
    **options: bool,
) -> Any:
    """An agent of this method, its replay buffer filled with four batches, its rollout with one.

    The options are those of ``equirl train``, heeded where the method knows them.
    """
    family = FAMILIES[algorithm]
    continuous = isinstance(symmetry.action_space, spaces.Box)
    if family.is_on_policy:
        batch_size = max(2, batch_size)  # advantages are normalised
    steps = batch_size if family.is_on_policy else max(4 * batch_size, 256)
    arguments: dict[str, Any] = {
        **deepcopy(NETWORKS[network]),  # SB3 writes into policy_kwargs
        "env": FixedWorld(network == "nature-cnn", continuous),
        "seed": 0,
        "device": device,
    }
    if family.is_on_policy:
        arguments["n_steps"] = batch_size
        if algorithm == "ppo":
            arguments |= {"batch_size": batch_size, "n_epochs": 1}
    else:
        arguments |= {"buffer_size": steps, "batch_size": batch_size, "learning_starts": 10**9}
    if options.pop("device_replay", False):
        arguments["replay_buffer_class"] = DeviceReplayBuffer
    if method == STOCK:
        model = class_of(family.stock)(**arguments)
    elif method == "augment":
        kind = "rollout_buffer" if family.is_on_policy else "replay_buffer"
        arguments[f"{kind}_class"] = class_of(family.buffer["one step"])
        arguments[f"{kind}_kwargs"] = {"symmetry": symmetry}
        model = class_of(family.stock)(**arguments)
    else:
        arguments |= {name: True for name, is_on in options.items() if is_on}
        model = class_of(family.equivariant)(**arguments, symmetry=symmetry, method=method)
    model.learn(steps)
    return model


def gradient_step(model: Any, batch_size: int) -> Callable[[], Any]:
    """What takes one gradient step of each of its networks."""
    is_on_policy = isinstance(model, OnPolicyAlgorithm)
    return model.train if is_on_policy else lambda: model.train(1, batch_size)
