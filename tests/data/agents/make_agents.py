"""Makes small agents of every kind, and what they say of some observations, in a new folder.

python tests/data/agents/make_agents.py tests/data/agents/format1
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DQN

from equirl.agents import EquivariantDQN, EquivariantDQNPolicy, SmallCnn
from equirl.envs import SymmetryWrapper

SHORT: dict[str, Any] = {
    "buffer_size": 500,
    "learning_starts": 50,
    "learning_rate": 1e-2,
    "seed": 0,
    "device": "cpu",
}
OBSERVATIONS = 16


class Corridor(gym.Env[Any, np.int64]):
    """A cell of five and how far its end is, both of which a mirror turns round."""

    observation_space = spaces.Dict(cell=spaces.Discrete(5), slope=spaces.Box(-1, 1, (2,)))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.cell = 2
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.cell = min(max(self.cell + 2 * int(action) - 1, 0), 4)
        done = self.cell in (0, 4)
        return self._seen(), float(done), done, False, {}

    def _seen(self) -> dict[str, Any]:
        x = self.cell - 2
        return {"cell": np.int64(self.cell), "slope": np.array([x / 2, -x / 4], np.float32)}


def corridor() -> gym.Env[Any, Any]:
    mirror = {"cell": lambda cell: 4 - cell, "slope": np.negative}
    return SymmetryWrapper(Corridor(), {"mirror": (mirror, [1, 0])})


def grid_world() -> gym.Env[Any, Any]:
    return SymmetryWrapper(gym.make("equirl/GridWorld-v0", size=4))


def agents() -> dict[str, DQN]:
    cartpole = SymmetryWrapper(gym.make("CartPole-v1"))
    small: dict[str, Any] = {**SHORT, "policy_kwargs": {"net_arch": [8]}}
    pictures: dict[str, Any] = {
        "net_arch": [8],
        "features_extractor_class": SmallCnn,
        "features_extractor_kwargs": {"features_dim": 8, "channels": 4},
    }
    learned: dict[str, Any] = {"canonical_score": "learned", "gradient": "straight_through"}
    stock = {"symmetry": cartpole.symmetry, "method": "equizero", "net_arch": [8]}
    return {
        "equitune": EquivariantDQN("MlpPolicy", cartpole, "equitune", **small),
        "lambda": EquivariantDQN("MlpPolicy", cartpole, "lambda", **small),
        "lambda-from-equizero": EquivariantDQN(
            "MlpPolicy", "Acrobot-v1", "lambda", init="equizero", **small
        ),
        "equizero": EquivariantDQN("MlpPolicy", "Acrobot-v1", "equizero", **small),
        "canonical": EquivariantDQN("MlpPolicy", cartpole, "canonical", **small),
        "canonical-learned": EquivariantDQN("MlpPolicy", cartpole, "canonical", **learned, **small),
        "images": EquivariantDQN(
            "CnnPolicy", grid_world(), "equizero", policy_kwargs=pictures, **SHORT
        ),
        "dict": EquivariantDQN("MultiInputPolicy", corridor(), "lambda", **small),
        "stock": DQN(EquivariantDQNPolicy, cartpole, policy_kwargs=stock, **SHORT),
    }


def observations_of(model: DQN) -> dict[str, np.ndarray[Any, Any]]:
    """What an agent meets in its environment, in arrays by key."""
    env = model.get_env()
    assert env is not None
    env.seed(1)
    seen, rows = env.reset(), []
    for step in range(OBSERVATIONS):
        rows.append(seen if isinstance(seen, dict) else {"observation": seen})
        action = np.array([step % int(model.action_space.n)])
        seen, *_ = env.step(action)
    return {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}


def main(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, model in agents().items():
        model.learn(400)
        seen = observations_of(model)
        tensors, _ = model.policy.obs_to_tensor(seen if len(seen) > 1 else seen["observation"])
        with torch.no_grad():
            q_values = model.q_net(tensors).numpy()
        model.save(folder / f"{name}.zip")
        np.savez_compressed(folder / f"{name}.npz", **seen, q_values=q_values)
        print(f"{name:22} {(folder / f'{name}.zip').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
