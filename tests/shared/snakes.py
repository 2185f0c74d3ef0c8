"""Snakes on a board, and the same board moved."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym

from equirl.envs.registry import registered_state_maps

ENV_ID = "equirl/Snake-v0"
# All cells of a 4 x 4 board, each next to the one before and the last next to the first.
CYCLE = [(r, c) for r in range(4) for c in ((1, 2, 3) if r % 2 == 0 else (3, 2, 1))]
CYCLE += [(3, 0), (2, 0), (1, 0), (0, 0)]

Cell = tuple[int, int]


def transformed(word: str, env: gym.Env[Any, Any], env_id: str = ENV_ID) -> Any:
    moved = copy.deepcopy(env)
    for generator in word:
        registered_state_maps(env_id)[generator](moved)
    return moved
