"""What `equirl benchmark` measures: stock DQN and every method beside it, in a world of any group.

The worlds have no physics. Their observations are drawn beforehand, so that what is timed is the
agent's own work.
"""

from __future__ import annotations

from typing import Any, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3 import DQN

from equirl.agents import DeviceReplayBuffer, EquivariantDQN, OrbitReplayBuffer
from equirl.symmetry import Symmetry

STOCK = "stock"
"""Stable-Baselines3's own DQN, beside which everything else is measured."""

NETWORKS: dict[str, dict[str, Any]] = {
    "mlp-64-64": {"policy": "MlpPolicy", "policy_kwargs": {"net_arch": [64, 64]}},
    "mlp-256-256": {"policy": "MlpPolicy", "policy_kwargs": {"net_arch": [256, 256]}},
    "nature-cnn": {"policy": "CnnPolicy", "policy_kwargs": {}},
}
"""Policies by name; the convolutional one sees 84 × 84 × 4 images, the others 8 numbers."""

ORDERS = (1, 2, 4, 8)
"""Of the groups: the subgroups of D4, the symmetries of a square."""


class FixedWorld(gym.Env[npt.NDArray[Any], np.int64]):
    """Shows the same observations in turn, whatever is done; four actions, one a direction.

    Args:
        images: uint8 images of 84 × 84 × 4 rather than four points in the plane.
    """

    def __init__(self, images: bool) -> None:
        generator = np.random.default_rng(0)
        self.action_space = spaces.Discrete(4)
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

    def step(self, action: np.int64) -> tuple[npt.NDArray[Any], float, bool, bool, dict[str, Any]]:
        self._step += 1
        return self._shown[self._step % 64], 1.0, self._step % 200 == 0, False, {}


def symmetry_of_order(order: int, images: bool) -> Symmetry:
    """The subgroup of D4 of that order, acting on a `FixedWorld`."""
    world = FixedWorld(images)

    def turned(observation: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if images:
            return np.rot90(observation)
        x, y = observation[0::2], observation[1::2]
        return np.stack([-y, x], axis=1).ravel()

    def flipped(observation: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if images:
            return observation[:, ::-1]
        return observation * np.tile([-1, 1], 4).astype(np.float32)

    turn, flip = (turned, [1, 2, 3, 0]), (flipped, [2, 1, 0, 3])
    half_turn = (lambda observation: turned(turned(observation)), [2, 3, 0, 1])
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
    compile: bool = False,
    bf16: bool = False,
    device_replay: bool = False,
) -> DQN:
    """An agent of this method, its replay buffer filled with four batches.

    The options are those of ``equirl train``, heeded where the method knows them.
    """
    arguments: dict[str, Any] = {
        **NETWORKS[network],
        "env": FixedWorld(images=network == "nature-cnn"),
        "buffer_size": max(4 * batch_size, 256),
        "batch_size": batch_size,
        "learning_starts": 10**9,
        "seed": 0,
        "device": device,
    }
    if device_replay:
        arguments["replay_buffer_class"] = DeviceReplayBuffer
    model: DQN
    if method == STOCK:
        model = DQN(**arguments)
    elif method == "augment":
        arguments["replay_buffer_class"] = OrbitReplayBuffer
        model = DQN(**arguments, replay_buffer_kwargs={"symmetry": symmetry})
    else:
        model = EquivariantDQN(
            **arguments, symmetry=symmetry, method=cast(Any, method), compile=compile, bf16=bf16
        )
    model.learn(max(4 * batch_size, 256))
    return model
