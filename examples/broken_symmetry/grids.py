"""DQN and QR-DQN on small broken rooms, judged against Q*, which a table of all states gives.

    python examples/broken_symmetry/grids.py TASK METHOD SEED,SEED,… FOLDER [WAY [STEPS]]

METHOD is plain, equitune, …, relaxed, and with qrdqn_ before it that of QR-DQN.

Reported after every few steps: the return of the greedy policy, averaged over all starts (no noise
of evaluation), and of `relaxed` the mean of alpha over the states that the room calls broken, over
all others, and by how asymmetric Q* is there.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from learners import build
from sb3_contrib import QRDQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from studies import main

from equirl.agents import EquivariantQRDQN
from equirl.agents.equivariance_metrics import alphas
from equirl.envs import symmetry_of

SIZE, GAMMA, N_ENVS = 5, 0.95, 4
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "exact": ("equirl/GridWorld-v0", {}),
    "wall": ("equirl/BrokenGridWorld-v0", {"broken_by": "wall", "share": 0.32}),
    "column": ("equirl/BrokenGridWorld-v0", {"broken_by": "slope", "share": 0.2}),
    "slope": ("equirl/BrokenGridWorld-v0", {"broken_by": "slope", "share": 0.4}),
    "all": ("equirl/BrokenGridWorld-v0", {"broken_by": "slope", "share": 1.0}),
}
SETTINGS: dict[str, Any] = {
    "learning_rate": 2e-3,
    "buffer_size": 15_000,
    "learning_starts": 300,
    "batch_size": 128,
    "gamma": GAMMA,
    "target_update_interval": 250,
    "train_freq": 1,
    "exploration_fraction": 0.6,
    "exploration_final_eps": 0.05,
    "policy_kwargs": {"net_arch": [64, 64]},
    "device": "cpu",
}
ASYMMETRIC, SYMMETRIC = 0.05, 0.01
"""By how much Q* differs from its mean over the orbit, for some action: more, and less."""


class Table:
    """All states (agent, goal) of a room: what every action does, and Q*."""

    def __init__(self, env: Any) -> None:
        cells = [(r, c) for r in range(SIZE) for c in range(SIZE)]
        self.states = [(a, g) for a in cells for g in cells if a != g]
        number = {state: k for k, state in enumerate(self.states)}
        n = len(self.states)
        self.next = np.zeros((n, 4), int)
        self.reward, self.done = np.zeros((n, 4)), np.zeros((n, 4), bool)
        self.observations = np.stack([env.set_state(*state) for state in self.states])
        self.broken = np.zeros(n, bool)
        for k, state in enumerate(self.states):
            env.set_state(*state)
            self.broken[k] = getattr(env, "is_broken", False)
            for action in range(4):
                env.set_state(*state)
                _, self.reward[k, action], self.done[k, action], _, _ = env.step(action)
                self.next[k, action] = k if self.done[k, action] else number[env.agent, env.goal]
        self.best = np.zeros((n, 4))
        for _ in range(200):
            following = np.where(self.done, 0, self.best.max(axis=1)[self.next])
            self.best = self.reward + GAMMA * following

    def asymmetry(self, symmetry: Any) -> np.ndarray:
        """max over a of |Q*(s, a) - mean over g of Q*(gs, ga)|, `[states]`."""
        key = {o.tobytes(): k for k, o in enumerate(self.observations)}
        orbit = symmetry.observations.orbit(torch.from_numpy(self.observations)).numpy()
        rows = [[key[o.tobytes()] for o in moved] for moved in orbit]
        q = torch.from_numpy(np.stack([self.best[row] for row in rows]))
        mean = symmetry.q_values.pull_back(q).mean(dim=0).numpy()
        return np.abs(self.best - mean).max(axis=1)

    def greedy_return(self, q: np.ndarray) -> float:
        """Mean return of the greedy policy within 100 steps, over all starts."""
        rows = np.arange(len(q))
        action = q.argmax(axis=1)
        after, reward, done = (t[rows, action] for t in (self.next, self.reward, self.done))
        value = np.zeros(len(q))
        for _ in range(100):
            value = reward + np.where(done, 0, value[after])
        return float(value.mean())


class Watch(BaseCallback):
    def __init__(self, table: Table, parts: dict[str, np.ndarray], every: int) -> None:
        super().__init__()
        self.table, self.parts, self.every = table, parts, every
        self.found: dict[str, list[Any]] = {"steps": [], "returns": [], "errors": []}

    def _on_step(self) -> bool:
        if self.n_calls % self.every == 0:
            self.look()
        return True

    @torch.no_grad()
    def look(self) -> None:
        obs = self.model.policy.obs_to_tensor(self.table.observations)[0]
        self.model.policy.set_training_mode(False)
        q = q_values(self.model, obs).numpy()
        found = self.found
        found["steps"].append(self.num_timesteps)
        found["returns"].append(self.table.greedy_return(q))
        found["errors"].append(float(np.sqrt(((q - self.table.best) ** 2).mean())))
        alpha = alphas(self.model, obs)
        if alpha is not None:
            describe_alpha(found, alpha.numpy(), self.parts)


def q_values(model: Any, obs: Any) -> torch.Tensor:
    """``[states, actions]``; of a distribution of returns the means."""
    is_distribution = hasattr(model, "quantile_net")
    found: torch.Tensor = model.quantile_net(obs).mean(1) if is_distribution else model.q_net(obs)
    return found


def agent(env: Any, method: str, settings: dict[str, Any]) -> Any:
    *distributional, method = method.split("_", 1) if method.startswith("qrdqn_") else [method]
    if not distributional:
        return build(env, method, settings)
    settings = {**settings, "policy_kwargs": {**settings["policy_kwargs"], "n_quantiles": 25}}
    if method == "plain":
        return QRDQN("MlpPolicy", env, **settings)
    return EquivariantQRDQN("MlpPolicy", env, method, **settings)


def describe_alpha(
    found: dict[str, list[Any]], alpha: np.ndarray, parts: dict[str, np.ndarray]
) -> None:
    """Its mean, and of every part of the states also where it is high and where it is low."""
    found.setdefault("alpha", []).append(float(alpha.mean()))
    for name, where in parts.items():
        if where.any():
            a = alpha[where]
            found.setdefault(f"alpha_{name}", []).append(float(a.mean()))
            found.setdefault(f"above_half_{name}", []).append(float((a > 0.5).mean()))
            found.setdefault(f"below_tenth_{name}", []).append(float((a < 0.1).mean()))


def by_agent(table: Table, values: np.ndarray) -> list[list[float]]:
    """The mean over goals of what each state has, by the agent's cell."""
    cells = np.full((SIZE, SIZE, SIZE, SIZE), np.nan)
    for (agent, goal), value in zip(table.states, values.tolist(), strict=True):
        cells[(*agent, *goal)] = value
    shown: list[list[float]] = np.nanmean(cells, axis=(2, 3)).tolist()
    return shown


def run(task: str, method: str, seed: int, steps: int) -> dict[str, Any]:
    started = time.process_time()
    env_id, kwargs = TASKS[task]
    kwargs = {"size": SIZE, **kwargs}
    env = make_vec_env(env_id, N_ENVS, seed=seed, env_kwargs=kwargs)
    model = agent(env, method, {**SETTINGS, "seed": seed})
    table = Table(gym.make(env_id, **kwargs).unwrapped)
    asymmetry = table.asymmetry(symmetry_of(gym.make(env_id, **kwargs)))
    parts = {
        "broken": table.broken,
        "other": ~table.broken,
        "asymmetric": asymmetry > ASYMMETRIC,
        "symmetric": asymmetry < SYMMETRIC,
    }
    watch = Watch(table, parts, 500 // N_ENVS)
    model.learn(steps, callback=watch)
    found: dict[str, Any] = {**watch.found}
    found["optimal"] = table.greedy_return(table.best)
    found["share_asymmetric"] = float(parts["asymmetric"].mean())
    if "relaxed" in method:
        model.policy.set_training_mode(False)
        each = alphas(model, model.policy.obs_to_tensor(table.observations)[0])
        assert each is not None
        alpha = each.flatten(1).mean(dim=1) if each.dim() == 2 else each
        found["alpha_by_agent"] = by_agent(table, alpha.numpy())
        found["asymmetry_by_agent"] = by_agent(table, asymmetry)
        found["correlation"] = (
            float(np.corrcoef(alpha.numpy(), asymmetry)[0, 1])
            if asymmetry.any() and alpha.std() > 0
            else None
        )
    found["seconds"] = time.process_time() - started
    return found


if __name__ == "__main__":
    main("grid", run, 12_000)
