"""Level and power of the statistical check, on true and on broken symmetries.

python tests/verification/calibration.py [REPETITIONS [TRANSITIONS [NAME …]]]
prints the table of docs/checking.md, one row as soon as it is done.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import games

import equirl.envs
from equirl import Symmetry
from equirl.envs.boards.grid_world import mirror_left_right, rotate_90
from equirl.verification.play import collect
from equirl.verification.statistical import check_statistically

Row = tuple[Callable[[], Any], Any]

CARTPOLE = {"mirror": ([-1, -1, -1, -1], [1, 0])}
ACROBOT = {"mirror": ([1, -1, 1, -1, -1, -1], [2, 1, 0])}


def own(make: Callable[[], Any]) -> Row:
    """An environment that brings its declaration along."""
    return make, None


TRUE: dict[str, Row] = {
    "Catch, 3 balls": own(lambda: games.Catch(3)),
    "Catch, 10 balls": own(lambda: games.Catch(10)),
    "Catch, 30 balls": own(lambda: games.Catch(30)),
    "walk, fixed length": own(lambda: games.Walk()),
    "walk, random length": own(lambda: games.Walk(None)),
    "walk, starts on the right": own(lambda: games.Walk(starts_right=True)),
    "walk, sparse reward": own(lambda: games.Walk(sparse=(1, 1))),
    "walk, Dict": own(lambda: games.Walk(as_dict=True)),
    "CartPole": (lambda: gym.make("CartPole-v1"), CARTPOLE),
    "CartPole, starts on the right": (
        lambda: games.StartsRight(gym.make("CartPole-v1")),
        CARTPOLE,
    ),
    "Acrobot": (lambda: gym.make("Acrobot-v1"), ACROBOT),
    "FrozenLake (Discrete)": (lambda: games.lake(games.SYMMETRIC_LAKE), games.DIAGONAL),
    "Connect four": own(lambda: games.ConnectFour()),
    "GridWorld (images)": (
        lambda: gym.make("equirl/GridWorld-v0"),
        {"s": (mirror_left_right, [0, 3, 2, 1])},
    ),
    "LunarLander": (lambda: gym.make("LunarLander-v3"), "LunarLander-v3"),
}

BROKEN: dict[str, Row] = {
    "FrozenLake, one hole moved": (lambda: games.lake(games.HOLE_MOVED), games.DIAGONAL),
    "Connect four, opponent prefers the left": own(lambda: games.ConnectFour(left=0.3)),
    "Connect four, reward in one column": own(lambda: games.ConnectFour(column_reward=0.1)),
    "Connect four one-hot, prefers the left": own(
        lambda: games.ConnectFour(left=0.3, one_hot=True)
    ),
    "CartPole, right 10 % weaker": (
        lambda: games.WeakRight(gym.make("CartPole-v1")),
        CARTPOLE,
    ),
    "CartPole, actions not exchanged": (
        lambda: gym.make("CartPole-v1"),
        {"mirror": ([-1, -1, -1, -1], [0, 1])},
    ),
    "Acrobot, one sign wrong": (
        lambda: gym.make("Acrobot-v1"),
        {"mirror": ([1, -1, 1, -1, -1, 1], [2, 1, 0])},
    ),
    "MountainCar": (lambda: gym.make("MountainCar-v0"), {"mirror": ([-1, -1], [2, 1, 0])}),
    "Catch, wind": own(lambda: games.Catch(wind=0.1)),
    "Catch, prize on the left": own(lambda: games.Catch(prize=1.5)),
    "walk, variance only": own(lambda: games.Walk(noise=(0.3, 0.36))),
    "walk, mixture only": own(lambda: games.Walk(mixture=True)),
    "walk, push in 5 % of states": own(lambda: games.Walk(push=0.3)),
    "walk, sparse reward on one side": own(lambda: games.Walk(sparse=(1, 0.5))),
    "walk, ends sooner on one side": own(lambda: games.Walk(end=(-9.0, 2.5))),
    "walk in a Dict, push in 5 %": own(lambda: games.Walk(push=0.3, as_dict=True)),
    "GridWorld, wrong turn": (
        lambda: gym.make("equirl/GridWorld-v0"),
        {"r": (rotate_90, [1, 2, 3, 0])},
    ),
    "LunarLander, one engine 10 % weaker": (
        lambda: games.WeakLeftEngine(gym.make("LunarLander-v3")),
        "LunarLander-v3",
    ),
}


def outcomes_of(row: Row, transitions: int, repetitions: int) -> tuple[Counter[str], list[float]]:
    """How often each verdict was reached, and the smallest p-value of each repetition."""
    make, declaration = row
    env = make()
    if declaration is None:
        declaration = env.mirror
    if isinstance(declaration, str):
        symmetry = equirl.envs.symmetry_of(gym.make(declaration))
    else:
        symmetry = Symmetry.from_generators(env.observation_space, env.action_space, declaration)
    names = [symmetry.group.names[g] for g in symmetry.group.generators]
    counted: Counter[str] = Counter()
    p_values = []
    for seed in range(repetitions):
        verdicts = check_statistically(
            symmetry, names, collect(env, transitions, seed), 0.05, seed=seed
        )
        reached = {v.outcome for v in verdicts}
        counted[
            "refused"
            if "refused" in reached
            else "undecided"
            if "undecided" in reached
            else "holds"
        ] += 1
        p_values.append(min(v.size for v in verdicts))
    return counted, p_values


def main(repetitions: int, transitions: int, names: list[str]) -> None:
    """Print the table."""
    print(f"{repetitions} repetitions, {transitions} transitions, level 0.05")
    print("| symmetry | refused | undecided | holds | smallest p | seconds each |")
    print("|---|---|---|---|---|---|", flush=True)
    for table in (TRUE, BROKEN):
        for name, row in table.items():
            if names and name not in names:
                continue
            begun = time.process_time()
            counted, p_values = outcomes_of(row, transitions, repetitions)
            shares = [f"{counted[o] / repetitions:.0%}" for o in ("refused", "undecided", "holds")]
            seconds = (time.process_time() - begun) / repetitions
            print(
                f"| {name} | {' | '.join(shares)} | {np.min(p_values):.3g} | {seconds:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 20,
        int(sys.argv[2]) if len(sys.argv) > 2 else 6000,
        sys.argv[3:],
    )
