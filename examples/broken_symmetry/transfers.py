"""A plain agent whose room is broken in places, made equivariant but for there: see docs.

    python examples/broken_symmetry/transfers.py TASK SEED,SEED,… [STEPS]

Trains plain DQN for STEPS (5,000), learns λ, and α over it, with the network frozen, and prints the
return of the greedy policy over all starts of every version.
"""

from __future__ import annotations

import sys
from typing import Any

import grids
import gymnasium as gym
import numpy as np
import torch
from learners import build
from stable_baselines3.common.env_util import make_vec_env

from equirl.agents import transfer_agent
from equirl.agents.equivariance_metrics import alphas
from equirl.envs import symmetry_of


def versions(task: str, seed: int, steps: int) -> dict[str, float]:
    env_id, kwargs = grids.TASKS[task]
    kwargs = {"size": grids.SIZE, **kwargs}

    def make_env() -> gym.Env[Any, Any]:
        return gym.make(env_id, **kwargs)

    env = make_vec_env(env_id, grids.N_ENVS, seed=seed, env_kwargs=kwargs)
    plain = build(env, "plain", {**grids.SETTINGS, "seed": seed}).learn(steps)
    made = transfer_agent(
        plain, make_env, stage="relaxed", weight_steps=6000, episodes=2, learning_seed=seed
    )
    table = grids.Table(make_env().unwrapped)
    found = {}
    for name, model in made.models.items():
        observations = model.policy.obs_to_tensor(table.observations)[0]
        with torch.no_grad():
            found[name] = table.greedy_return(model.q_net(observations).numpy())
        alpha = alphas(model, observations)
        if alpha is not None:
            differs = table.asymmetry(symmetry_of(make_env())) > grids.ASYMMETRIC
            found["alpha where Q* is asymmetric"] = float(alpha.numpy()[differs].mean())
            found["alpha elsewhere"] = float(alpha.numpy()[~differs].mean())
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    task, seeds, *options = sys.argv[1:]
    each = [
        versions(task, seed, int(options[0]) if options else 5000)
        for seed in map(int, seeds.split(","))
    ]
    for name in each[0]:
        values = [found[name] for found in each]
        print(f"{name}: {np.mean(values):.2f} ({', '.join(f'{v:.2f}' for v in values)})")
