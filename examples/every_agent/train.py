"""A plain agent of stock SB3, saved as run.py reads it: `folder/NAME-ENVIRONMENT.zip`.

python examples/every_agent/train.py algorithm=sac env=Pendulum-v1 steps=3000
python examples/every_agent/train.py algorithm=ppo env=Walker2d-v5 steps=200000 normalize=true
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from stable_baselines3 import A2C, PPO, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from every_agent.run import WRAPPERS
from running import Row, main

DEFAULTS = {
    "algorithm": "sac",
    "env": "Pendulum-v1",
    "steps": 3000,
    "seed": 1,
    "normalize": False,
    "folder": "agents",
}
QUICK = {"steps": 300}

ALGORITHMS: dict[str, tuple[Any, int, dict[str, Any]]] = {
    "ppo": (PPO, 8, {"n_steps": 256, "batch_size": 64, "gae_lambda": 0.95}),
    "a2c": (A2C, 8, {}),
    "sac": (SAC, 1, {"learning_rate": 1e-3, "learning_starts": 500}),
    "td3": (TD3, 1, {"learning_rate": 1e-3, "learning_starts": 500}),
}
"""By name the class, the number of environments, and what is not SB3's default."""


def run(settings: DictConfig) -> list[Row]:
    """Train and save."""
    cls, count, kwargs = ALGORITHMS[settings.algorithm]
    wrapper = WRAPPERS.get(settings.env)
    env: VecEnv = make_vec_env(settings.env, count, seed=settings.seed, wrapper_class=wrapper)
    if settings.normalize:
        env = VecNormalize(env)
    if settings.algorithm == "td3":
        size = env.action_space.shape or (1,)
        kwargs = {**kwargs, "action_noise": NormalActionNoise(np.zeros(size), np.full(size, 0.1))}
    model = cls("MlpPolicy", env, seed=settings.seed, device="cpu", **kwargs)
    model.learn(settings.steps)
    folder = Path(settings.folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{settings.algorithm}_{settings.steps}_{settings.seed}-{settings.env}"
    model.save(folder / f"{name}.zip")
    if isinstance(env, VecNormalize):
        env.save(str(folder / f"{name}.vecnormalize.pkl"))
    return [{"agent": name}]


if __name__ == "__main__":
    sys.exit(main(run, DEFAULTS, QUICK))
