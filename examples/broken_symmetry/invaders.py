"""DQN on MinAtar's Space Invaders, whose gun jams over the right half of the ground.

python examples/broken_symmetry/invaders.py TASK METHOD SEED,SEED,… FOLDER [WAY [STEPS]]
"""

from __future__ import annotations

from typing import Any

from studies import main, trained

import equirl.envs  # noqa: F401  # registers its environments

N_ENVS = 4
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "gun": ("equirl/BrokenSpaceInvaders-v0", {"share": 0.5, "cost": 1.0}),
    "side": ("equirl/BrokenSpaceInvaders-v0", {"share": 0.4, "cost": 1.0}),
}
SETTINGS: dict[str, Any] = {
    "learning_rate": 5e-4,
    "buffer_size": 100_000,
    "learning_starts": 1000,
    "batch_size": 64,
    "gamma": 0.99,
    "target_update_interval": 1000,
    "train_freq": 1,
    "exploration_fraction": 0.3,
    "exploration_final_eps": 0.05,
    "policy_kwargs": {"net_arch": [256, 128]},
    "device": "cpu",
}


def run(task: str, method: str, seed: int, steps: int) -> dict[str, Any]:
    settings = {**SETTINGS, "seed": seed}
    return trained(TASKS[task], N_ENVS, method, settings, steps, every=5000, episodes=20)


if __name__ == "__main__":
    main("invaders", run, 60_000)
