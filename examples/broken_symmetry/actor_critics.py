"""PPO on CartPole and SAC on Pendulum, exact and with weaker pushes to one side on one side.

python examples/broken_symmetry/actor_critics.py TASK METHOD SEED,SEED,… FOLDER [WAY [STEPS]]
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.utils import LinearSchedule
from studies import main

import equirl.envs  # noqa: F401  # registers its environments
from equirl.agents import EquivariantPPO, EquivariantSAC
from equirl.agents.equivariance_metrics import alphas
from equirl.agents.training.evaluation import play_episodes
from equirl.envs import SymmetryWrapper

MIRROR = {"mirror": ([1, -1, -1], [-1])}
PPO_SETTINGS: dict[str, Any] = {  # configs/tuned/ppo/cartpole.yaml, but for a shorter training
    "n_steps": 32,
    "batch_size": 256,
    "gae_lambda": 0.8,
    "gamma": 0.98,
    "n_epochs": 20,
    "device": "cpu",
}
SAC_SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "learning_starts": 200,
    "batch_size": 64,
    "policy_kwargs": {"net_arch": [64, 64]},
    "device": "cpu",
}


class WeakMotor(gym.ActionWrapper[Any, Any, Any]):
    """Pendulum whose motor pushes to the left with a part of its force right of the vertical."""

    def __init__(self, env: gym.Env[Any, Any], left: float = 0.3) -> None:
        super().__init__(env)
        self.left = left

    @property
    def is_broken(self) -> bool:
        angle: float = self.unwrapped.state[0]  # type: ignore[attr-defined]
        return bool(np.sin(angle) > 0)

    def action(self, action: Any) -> Any:
        weaker = self.is_broken and float(action[0]) > 0
        return self.left * action if weaker else action


def make(task: str) -> gym.Env[Any, Any]:
    if task == "ppo-exact":
        return gym.make("CartPole-v1")
    if task == "ppo-push":
        return gym.make("equirl/BrokenCartPole-v0", share=0.5, push=0.1)
    if task == "ppo-stuck":
        return gym.make("equirl/BrokenCartPole-v0", share=0.6, push=0.0)
    env: gym.Env[Any, Any] = gym.make("Pendulum-v1")
    return SymmetryWrapper(WeakMotor(env) if task == "sac-motor" else env, MIRROR)


def build(task: str, method: str, seed: int) -> Any:
    name, _, inner = method.partition("-")
    kwargs: dict[str, Any] = {} if name == "plain" else {"method": name}
    if inner:
        kwargs["inner"] = inner
    if task.startswith("sac"):
        algorithm = SAC if name == "plain" else EquivariantSAC
        return algorithm("MlpPolicy", make(task), seed=seed, **SAC_SETTINGS, **kwargs)
    env = make_vec_env(lambda: make(task), n_envs=8, seed=seed)
    settings = {**PPO_SETTINGS, "learning_rate": LinearSchedule(1e-3, 0, 1.0)}
    settings["clip_range"] = LinearSchedule(0.2, 0, 1.0)
    algorithm = PPO if name == "plain" else EquivariantPPO
    return algorithm("MlpPolicy", env, seed=seed, **settings, **kwargs)


class Watch(BaseCallback):
    """The greedy return, and α on the states of these episodes, after every few steps."""

    def __init__(self, task: str, every: int, episodes: int) -> None:
        super().__init__()
        self.task, self.every, self.episodes = task, every, episodes
        self.found: dict[str, list[Any]] = {"steps": [], "returns": []}

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every < self.training_env.num_envs:
            seeds = range(1_000_000, 1_000_000 + self.episodes)
            self.found["steps"].append(self.num_timesteps)
            played = play_episodes(self.model, lambda: make(self.task), seeds)
            self.found["returns"].append(played.mean)
            for name, alpha in looked_at(self.model, self.task).items():
                self.found.setdefault(name, []).append(alpha)
        return True


def looked_at(model: Any, task: str, count: int = 500) -> dict[str, float]:
    """The mean of α over states that the agent meets, where pushes are weaker and elsewhere."""
    env = make(task)
    seen, broken = [], []
    observation, _ = env.reset(seed=0)
    while len(seen) < count:
        seen.append(observation)
        broken.append(bool(getattr(env.unwrapped, "is_broken", False)))
        if task == "sac-motor":
            broken[-1] = bool(env.get_wrapper_attr("is_broken"))
        action, _ = model.predict(observation)
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation, _ = env.reset()
    model.policy.set_training_mode(False)
    with torch.no_grad():
        alpha = alphas(model, torch.as_tensor(np.array(seen)))
    if alpha is None:
        return {}
    where = np.array(broken)
    return {
        name: float(alpha.numpy()[mask].mean())
        for name, mask in (("alpha_broken", where), ("alpha_other", ~where))
        if mask.any()
    }


def run(task: str, method: str, seed: int, steps: int) -> dict[str, Any]:
    started = time.process_time()
    model = build(task, method, seed)
    is_sac = task.startswith("sac")
    watch = Watch(task, 500 if is_sac else 4000, 5)
    model.learn(steps if is_sac else 10 * steps, callback=watch)
    fresh = range(2_000_000, 2_000_030)
    final = play_episodes(model, lambda: make(task), fresh).mean
    return {**watch.found, "final": final, "seconds": time.process_time() - started}


if __name__ == "__main__":
    main("actor_critic", run, 4000)
