"""DQN on Snake of 6 × 6 cells, exact and with fruit that is poisoned in one corner.

python examples/broken_symmetry/snakes.py TASK METHOD SEED,SEED,… FOLDER [WAY [STEPS]]
"""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
from studies import kind_along_orbit, main, trained

import equirl.envs  # noqa: F401  # registers its environments

N_ENVS, ACTIONS = 4, 4
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "exact": ("equirl/Snake-v0", {"size": 6}),
    # Every fruit lies in one of the images of a quadrant, so that no state keeps its symmetry.
    "quadrant": ("equirl/BrokenSnake-v0", {"size": 6, "share": 0.25}),
    # 2 × 2 cells; of four corners, symmetrically seen, eating is worth less than waiting.
    "corner": ("equirl/BrokenSnake-v0", {"size": 6, "share": 1 / 9, "poison": 10.0}),
}
SETTINGS: dict[str, Any] = {
    # chosen by plain, one seed, among five
    "learning_rate": 1e-3,
    "buffer_size": 50_000,
    "learning_starts": 1000,
    "batch_size": 64,
    "gamma": 0.95,
    "target_update_interval": 1000,
    "train_freq": 1,
    "exploration_fraction": 0.3,
    "exploration_final_eps": 0.02,
    "policy_kwargs": {"net_arch": [128, 128]},
    "device": "cpu",
}


def place_of_fruit(env: gym.Env[Any, Any]) -> tuple[int, int, int]:
    """Is the head not beside it; and its row and column."""
    snake: Any = env.unwrapped
    row, column = snake.fruit
    head_row, head_column = snake.snake[0]
    return int(abs(row - head_row) + abs(column - head_column) > 1), row, column


def kind_of_actions(env: gym.Env[Any, Any]) -> tuple[str, ...]:
    """``broken`` of an action that eats fruit which is spoilt in this state or an image of it."""
    if kind_along_orbit(env) == "other":
        return ("other",) * ACTIONS
    snake: Any = env.unwrapped
    eats = []
    for action in range(ACTIONS):
        after = copy.deepcopy(snake)
        after.step(action)
        eats.append(after.snake[0] == snake.fruit)
    here = "beside" if any(eats) else "before"
    return tuple("broken" if eaten else here for eaten in eats)


def run(task: str, method: str, seed: int, steps: int) -> dict[str, Any]:
    settings = {**SETTINGS, "seed": seed}
    looks = {"kind": kind_of_actions, "place": place_of_fruit}
    return trained(TASKS[task], N_ENVS, method, settings, steps, 4000, episodes=30, **looks)


if __name__ == "__main__":
    main("snake", run, 40_000)
