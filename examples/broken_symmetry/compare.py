"""One training of the comparison in docs/broken_symmetry.md, and what its alpha looks like.

    python examples/broken_symmetry/compare.py TASK METHOD SEED [OUT.json] [key=value ...]

writes the learning curve and, of `relaxed`, the mean of alpha over states that the agent meets (its
greedy actions, a tenth of them random), by whether the symmetry fails there.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import equirl.envs  # noqa: F401  # registers its environments
from equirl.agents import EquivariantDQN
from equirl.agents.training.callbacks import alphas
from equirl.commands import main as equirl

TASKS: dict[str, list[str]] = {
    "grid_wall": ["env=broken_gridworld", "eval.every=1500", "eval.episodes=40"],
    "grid_slope": [
        "env=broken_gridworld", "env.kwargs.broken_by=slope", "env.kwargs.share=0.43",
        "eval.every=1500", "eval.episodes=40",
    ],
    "grid_exact": ["env=gridworld", "eval.every=1500", "eval.episodes=40"],
    "cartpole_push": ["env=broken_cartpole", "eval.every=1500", "eval.episodes=10"],
    "cartpole_exact": ["env=cartpole", "eval.every=1500", "eval.episodes=10"],
    "acrobot_exact": ["env=acrobot", "eval.every=2000", "eval.episodes=10"],
    "lander_wind": ["env=broken_lunarlander", "eval.every=5000", "eval.episodes=10"],
    "snake_poison": ["env=broken_snake", "eval.every=4000", "eval.episodes=20"],
}


def states(env: gym.Env[Any, Any], model: Any, count: int, seed: int) -> Any:
    """Observations that the agent meets, and whether the symmetry fails at each."""
    rng = np.random.default_rng(seed)
    seen, broken = [], []
    observation, _ = env.reset(seed=seed)
    while len(seen) < count:
        seen.append(observation)
        broken.append(bool(getattr(env.unwrapped, "is_broken", False)))
        action = model.predict(observation, deterministic=True)[0]
        action = int(rng.integers(env.action_space.n)) if rng.random() < 0.1 else int(action)
        observation, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            observation, _ = env.reset()
    return np.array(seen), np.array(broken)


def run(task: str, method: str, seed: int, more: list[str]) -> dict[str, Any]:
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        equirl([
            "train", *TASKS[task], f"method={method}", f"seed={seed}", f"run_dir={directory}",
            "env.target_return=null", "progress=false", "checkpoint_every=0",
            "eval.final_episodes=100", *more,
        ])  # fmt: skip
        curve = np.load(directory / "evaluations.npz")
        result = json.loads((directory / "result.json").read_text())
        found = {
            "task": task, "method": method, "seed": seed, "more": more,
            "steps": curve["timesteps"].tolist(),
            "returns": curve["results"].mean(axis=1).tolist(),
            "best": result["best_mean_return"],
        }
        if method == "relaxed":
            import yaml

            config = yaml.safe_load((directory / "config.yaml").read_text())
            env = gym.make(config["env"]["id"], **config["env"]["kwargs"])
            model = EquivariantDQN.load(directory / "final_model.zip", device="cpu")
            seen, broken = states(env, model, 3000, 7)
            alpha = alphas(model, model.policy.obs_to_tensor(seen)[0])
            assert alpha is not None
            values = alpha.numpy()
            for name, where in (("broken", broken), ("elsewhere", ~broken)):
                if where.any():
                    found[f"alpha_{name}"] = float(values[where].mean())
                    found[f"alpha_{name}_above_half"] = float((values[where] > 0.5).mean())
                    found[f"alpha_{name}_below_tenth"] = float((values[where] < 0.1).mean())
            found["share_broken"] = float(broken.mean())
    found["seconds"] = time.process_time() - started
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    task, method, seed, *rest = sys.argv[1:]
    more = [each for each in rest if "=" in each]
    written = run(task, method, int(seed), more)
    for each in rest:
        if "=" not in each:
            Path(each).parent.mkdir(parents=True, exist_ok=True)
            Path(each).write_text(json.dumps(written))
    print(json.dumps(written))
