"""DQN on LunarLander, with a wind or crossed engines over a part of the landscape.

python examples/broken_symmetry/landers.py TASK METHOD SEED,SEED,… FOLDER [WAY [STEPS]]
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.envs.box2d.lunar_lander import SCALE, VIEWPORT_W
from studies import main, trained

import equirl.envs  # noqa: F401  # registers its environments

N_ENVS = 4
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "wind": ("equirl/BrokenLunarLander-v0", {"share": 0.5, "wind": 10.0}),
    "engines": ("equirl/BrokenLunarLander-v0", {"broken_by": "engines", "share": 0.4}),
    "edge": ("equirl/BrokenLunarLander-v0", {"broken_by": "engines", "share": 0.3}),
    "storm": ("equirl/BrokenLunarLander-v0", {"share": 0.5, "wind": 20.0}),
}
SETTINGS: dict[str, Any] = {
    # configs/tuned/dqn/lunarlander.yaml, but for four environments, so that the four steps between
    # two updates are one of each
    "learning_rate": 6.3e-4,
    "buffer_size": 50_000,
    "learning_starts": 512,
    "batch_size": 128,
    "gamma": 0.99,
    "target_update_interval": 250,
    "train_freq": 1,
    "gradient_steps": -1,
    "exploration_fraction": 0.2,
    "exploration_final_eps": 0.1,
    "policy_kwargs": {"net_arch": [256, 256]},
    "device": "cpu",
}


def kind_of_actions(env: gym.Env[Any, Any]) -> tuple[str, ...]:
    """``broken`` of an action that a wind or crossed engines change, here or in the mirror image.

    Crossed engines change the side engines alone. Box2D cannot be copied.
    """
    lander: Any = env.unwrapped
    middle = VIEWPORT_W / SCALE / 2
    right = middle + abs(lander.lander.position.x - middle)
    crossed = lander.broken_by == "engines"
    flies = crossed or not any(leg.ground_contact for leg in lander.legs)
    if not flies or right <= lander.broken_from:
        return ("other",) * 4
    return ("beside", "broken") * 2 if crossed else ("broken",) * 4


def run(task: str, method: str, seed: int, steps: int) -> dict[str, Any]:
    settings = {**SETTINGS, "seed": seed}
    return trained(
        TASKS[task], N_ENVS, method, settings, steps, 10_000, episodes=10, kind=kind_of_actions
    )


if __name__ == "__main__":
    main("lander", run, 60_000)
