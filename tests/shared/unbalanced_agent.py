"""A plain CartPole agent whose one mistake its mirror image cancels."""

from __future__ import annotations

from pathlib import Path

import torch
from stable_baselines3 import DQN


def save_unbalanced_agent(path: Path) -> Path:
    """Save an agent with Q = (0, θ + θ̇ / 2 + 1), which always pushes right.

    The mean over the mirror pushes right exactly where θ + θ̇ / 2 > 0, which balances the pole.
    """
    kwargs = {"net_arch": [1]}
    model = DQN("MlpPolicy", "CartPole-v1", policy_kwargs=kwargs, buffer_size=500, device="cpu")
    weights = {
        "0.weight": [[0, 0, 1, 0.5]],
        "0.bias": [10],  # keeps the rectifier open
        "2.weight": [[0], [1]],
        "2.bias": [0, -9],
    }
    layers = {name: torch.tensor(values, dtype=torch.float32) for name, values in weights.items()}
    model.q_net.q_net.load_state_dict(layers)
    model.save(path)
    return path
