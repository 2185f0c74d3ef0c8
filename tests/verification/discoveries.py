"""What the search in random play finds, environment by environment: times, misses, wrong findings.

python tests/verification/discoveries.py NAME FIRST_SEED SEEDS FOLDER
writes a JSON file per seed; without a folder it prints them. NAME is a key of `KNOWN`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit

sys.path.insert(0, str(Path(__file__).parent))
import games
from thrusters import Thrusters

import equirl.envs  # noqa: F401  # registers its environments
from equirl.envs import symmetry_of
from equirl.envs.known_symmetries.box2d import EvenHips
from equirl.verification import discover_symmetries
from equirl.verification.play import collect

TRANSITIONS, FRESH = 30_000, 10**6
"""Steps of one half of the play, and what is added to the seed for the second test."""


def weaker_side(env_id: str) -> Any:
    """The motors of the second half 10 % weaker: of Walker2d, of the left leg."""
    env = gym.make(env_id)
    gear = env.unwrapped.model.actuator_gear
    gear[len(gear) // 2 :] *= 0.9
    return env


def quarter_turn_too(env: Any) -> list[Any]:
    """Reacher: its mirror, and the turn of the base by 90 degrees, as matrices on (s, a)."""
    turn = np.eye(12)
    for x, y in ((0, 2), (4, 5), (8, 9)):
        turn[np.ix_([x, y], [x, y])] = [[0, -1], [1, 0]]
    return [*registered(env), turn]


def registered(env: Any) -> list[Any]:
    """The registered generators, as matrices on (s, a)."""
    symmetry = symmetry_of(env)
    return [element(symmetry, g) for g in symmetry.group.generators]


def element(symmetry: Any, g: int) -> Any:
    """The matrix of an element on (s, a), of discrete actions on zeros and ones."""
    on_states = symmetry.transform_observation(g, np.eye(symmetry.observation_space.shape[0])).T
    if isinstance(symmetry.action_space, gym.spaces.Discrete):
        count = int(symmetry.action_space.n)
        on_actions = np.zeros((count, count))
        on_actions[symmetry.permutations[g], range(count)] = 1
    else:
        on_actions = symmetry.transform_action(g, np.eye(symmetry.action_space.shape[0])).T
    both = np.zeros((len(on_states) + len(on_actions),) * 2)
    both[: len(on_states), : len(on_states)] = on_states
    both[len(on_states) :, len(on_states) :] = on_actions
    return both


def none(env: Any) -> list[Any]:
    """No symmetry."""
    return []


def own(env: Any) -> list[Any]:
    """What the environment itself says."""
    generators: list[Any] = env.unwrapped.generators
    return generators


def one(env_id: str, **options: Any) -> tuple[Callable[[], Any], Callable[[Any], list[Any]]]:
    """An environment with the symmetry that is registered for it."""
    return lambda: gym.make(env_id, **options), registered


KNOWN: dict[str, tuple[Callable[[], Any], Callable[[Any], list[Any]]]] = {
    "CartPole": one("CartPole-v1"),
    "Acrobot": one("Acrobot-v1"),
    "LunarLander": one("LunarLander-v3"),
    "Pendulum": one("Pendulum-v1"),
    "LunarLanderContinuous": one("LunarLanderContinuous-v3"),
    "BipedalWalker, even hips": (lambda: EvenHips(gym.make("BipedalWalker-v3")), registered),
    "Reacher": (lambda: gym.make("Reacher-v5"), quarter_turn_too),
    "Swimmer": one("Swimmer-v5"),
    "Walker2d": one("Walker2d-v5"),
    "InvertedDoublePendulum": one("InvertedDoublePendulum-v5"),
    "InvertedPendulum": one("InvertedPendulum-v5"),
    "PointMass": one("equirl/PointMass-v0"),
    "Thrusters": (lambda: TimeLimit(Thrusters(), 100), own),
    "Thrusters, discrete": (lambda: TimeLimit(Thrusters(True), 100), own),
    "MountainCar": (lambda: gym.make("MountainCar-v0"), none),
    "MountainCarContinuous": (lambda: gym.make("MountainCarContinuous-v0"), none),
    "Hopper": (lambda: gym.make("Hopper-v5"), none),
    "HalfCheetah": (lambda: gym.make("HalfCheetah-v5"), none),
    "BipedalWalker": (lambda: gym.make("BipedalWalker-v3"), none),
    "Walker2d, one leg weaker": (lambda: weaker_side("Walker2d-v5"), none),
    "LunarLander, one engine weaker": (
        lambda: games.WeakLeftEngine(gym.make("LunarLander-v3")),
        none,
    ),
}


def run(name: str, seed: int) -> dict[str, Any]:
    """Which elements of the known group were missed, and which were found beside it."""
    make, known = KNOWN[name]
    begun, cpu = time.monotonic(), time.process_time()
    env = make()
    played = collect(TimeLimit(env, 200), 2 * TRANSITIONS, seed)
    found = discover_symmetries(
        played,
        env.action_space,
        seed=seed,
        play_again=lambda: collect(TimeLimit(env, 200), TRANSITIONS, seed + FRESH),
    )
    times = {"seconds": time.monotonic() - begun, "cpu": time.process_time() - cpu}
    here = [element(found.symmetry, g) for g in range(found.symmetry.group.order)]
    free = list(found.unseen)
    there = closed([np.eye(len(here[0])), *(blank(m, free) for m in known(env))])
    missed = [m for m in there if not among(m, here)]
    wrong = [m for m in here if not among(m, there)]
    return {
        "name": name,
        "seed": seed,
        **times,
        "known": len(there),
        "found": len(here),
        "missed": len(missed),
        "wrong": len(wrong),
        "unconfirmed": [one.reason for one in found.unconfirmed],
        "second_tests": dict(found.second_tests),
        "unseen": free,
        "verdicts": [
            [v.generator, v.quantity, v.outcome, v.size, v.detail] for v in found.verdicts
        ],
        "wrong_maps": [np.argwhere(np.abs(m) > 1e-9).tolist() for m in wrong[:3]],
    }


def blank(matrix: Any, entries: list[int]) -> Any:
    """The same, entries that hardly vary left alone."""
    out = matrix.copy()
    out[entries], out[:, entries] = 0, 0
    out[entries, entries] = 1
    return out


def closed(elements: list[Any]) -> list[Any]:
    """All products."""
    group = list(elements)
    for a in group:
        for b in elements:
            if not among(a @ b, group):
                group.append(a @ b)
    return group


def among(matrix: Any, group: list[Any]) -> bool:
    """Whether it is one of them."""
    return any(np.allclose(matrix, m, atol=1e-6) for m in group)


if __name__ == "__main__":
    title, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for number in range(first, first + count):
        result = json.dumps(run(title, number))
        if len(sys.argv) > 4:
            file = Path(sys.argv[4]) / f"{title.replace(' ', '-').replace(',', '')}-{number}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(result + "\n")
        else:
            print(result, flush=True)
