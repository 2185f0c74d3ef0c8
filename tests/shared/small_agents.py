"""Agents that are built and trained within a second."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

METHODS = ["equitune", "lambda", "equizero", "canonical"]
SMALL: dict[str, Any] = {
    "buffer_size": 1000,
    "learning_starts": 50,
    "policy_kwargs": {"net_arch": [16]},
    "seed": 0,
    "device": "cpu",
}


def cartpole() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")
