"""DQN on CartPole, exact and with weaker pushes to the right on a part of the track.

python examples/broken_symmetry/cartpoles.py TASK METHOD SEED,SEED,… FOLDER [WAY [STEPS]]
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.utils import LinearSchedule
from studies import images, main, trained

import equirl.envs  # noqa: F401  # registers its environments

N_ENVS = 8
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "exact": ("CartPole-v1", {}),
    # Of linear controllers those that keep the symmetry still reach 500 with "push", and at best 41
    # with "stuck", where those with an offset reach 154.
    "push": ("equirl/BrokenCartPole-v0", {"share": 0.5, "push": 0.1}),
    "stuck": ("equirl/BrokenCartPole-v0", {"share": 0.6, "push": 0.0}),
    # between the two: of linear controllers those that keep the symmetry reach 308, others 441
    "weak": ("equirl/BrokenCartPole-v0", {"share": 0.5, "push": 0.03}),
    **{
        f"push{percent}": ("equirl/BrokenCartPole-v0", {"share": 0.5, "push": percent / 100})
        for percent in (4, 5, 6)
    },
    "everywhere": ("equirl/BrokenCartPole-v0", {"share": 1.0, "push": 0.1}),
}
SETTINGS: dict[str, Any] = {
    # configs/tuned/dqn/cartpole.yaml, but for eight environments, half as many minibatches of twice
    # the size, and half the width
    "buffer_size": 100_000,
    "learning_starts": 1000,
    "batch_size": 128,
    "gamma": 0.99,
    "target_update_interval": 10,
    "train_freq": 256 // N_ENVS,
    "gradient_steps": 64,
    "n_steps": 5,
    "exploration_fraction": 0.16,
    "exploration_final_eps": 0.04,
    "policy_kwargs": {"net_arch": [128, 128]},
    "device": "cpu",
}


CELLS = 8, 12
"""Of the angle and of the position, in the picture of alpha."""


def place_of_pole(env: gym.Env[Any, Any]) -> tuple[int, ...]:
    """The cell of the angle, of `CELLS`, from left to right, and that of the cart's position."""
    cart: Any = env.unwrapped
    x, _, angle, _ = cart.state
    shares = np.array([angle / cart.theta_threshold_radians, x / cart.x_threshold]) / 2 + 0.5
    return tuple(int(cell) for cell in np.clip(shares, 0, 0.999) * CELLS)


def kind_of_actions(env: gym.Env[Any, Any]) -> tuple[str, ...]:
    """``broken`` of a push that is weaker, to the right here or to the left in the mirror image."""
    right, left = (getattr(moved, "is_broken", False) for moved in images(env))
    here = "beside" if left or right else "other"
    return tuple("broken" if weaker else here for weaker in (left, right))


def run(task: str, method: str, seed: int, steps: int) -> dict[str, Any]:
    settings = {**SETTINGS, "learning_rate": LinearSchedule(2.3e-3, 0, 1.0), "seed": seed}
    looks = {"kind": kind_of_actions, "place": place_of_pole}
    return trained(TASKS[task], N_ENVS, method, settings, steps, 1000, episodes=5, **looks)


if __name__ == "__main__":
    main("cartpole", run, 20_000)
