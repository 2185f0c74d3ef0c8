"""Level and power of the statistical check, on true and on broken symmetries.

    python tests/verification/calibration.py commands OUT > jobs   # one process per line
    python tests/verification/calibration.py run NAME FIRST COUNT OUT   # one of them: some seeds
    python tests/verification/calibration.py table OUT   # the tables of docs/checking.md

The commands are independent and sorted so that the list may be cut anywhere.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym

sys.path.insert(0, str(Path(__file__).parent))
import games

import equirl.envs
from equirl import Symmetry
from equirl.envs.boards.grid_world import mirror_left_right, rotate_90
from equirl.verification.play import collect
from equirl.verification.statistical import check_statistically

TRUE_SEEDS, BROKEN_SEEDS, BLOCK = 200, 50, 50
MEASURED = 40
"""Of the true ones, for so many seeds violations are planted as well, which takes longest."""


@dataclass(frozen=True)
class Row:
    """What is checked: an environment, its declaration (or the id that has it), and how long."""

    make: Callable[[], Any]
    declaration: Any = None
    transitions: int = 6000


CARTPOLE = {"mirror": ([-1, -1, -1, -1], [1, 0])}
PENDULUM = {"mirror": ([1, -1, -1], [-1])}
ACROBOT = {"mirror": ([1, -1, 1, -1, -1, -1], [2, 1, 0])}


TRUE: dict[str, Row] = {
    "Catch, 3 balls": Row(lambda: games.Catch(3)),
    "Catch, 10 balls": Row(lambda: games.Catch(10)),
    "Catch, 30 balls": Row(lambda: games.Catch(30)),
    "walk, fixed length": Row(lambda: games.Walk()),
    "walk, random length": Row(lambda: games.Walk(None)),
    "walk, starts on the right": Row(lambda: games.Walk(starts_right=True)),
    "walk, sparse reward": Row(lambda: games.Walk(sparse=(1, 1))),
    "walk, Dict": Row(lambda: games.Walk(as_dict=True)),
    "CartPole": Row(lambda: gym.make("CartPole-v1"), CARTPOLE),
    "CartPole, starts on the right": Row(
        lambda: games.StartsRight(gym.make("CartPole-v1")),
        CARTPOLE,
    ),
    "Acrobot": Row(lambda: gym.make("Acrobot-v1"), ACROBOT),
    "FrozenLake (Discrete)": Row(lambda: games.lake(games.SYMMETRIC_LAKE), games.DIAGONAL),
    "Connect four, random opponent": Row(lambda: games.ConnectFour()),
    "GridWorld (images)": Row(
        lambda: gym.make("equirl/GridWorld-v0", size=5),
        {"s": (mirror_left_right, [0, 3, 2, 1])},
    ),
    "LunarLander": Row(lambda: gym.make("LunarLander-v3"), "LunarLander-v3"),
    "Pendulum (continuous actions)": Row(lambda: gym.make("Pendulum-v1"), PENDULUM),
}

BROKEN: dict[str, Row] = {
    "FrozenLake, one hole moved": Row(lambda: games.lake(games.HOLE_MOVED), games.DIAGONAL),
    "Connect four, opponent prefers the left": Row(lambda: games.ConnectFour(left=0.3)),
    "Connect four, reward in one column": Row(lambda: games.ConnectFour(column_reward=0.1)),
    "Connect four one-hot, prefers the left": Row(
        lambda: games.ConnectFour(left=0.3, one_hot=True)
    ),
    "CartPole, right 10 % weaker": Row(
        lambda: games.WeakRight(gym.make("CartPole-v1")),
        CARTPOLE,
    ),
    "CartPole, actions not exchanged": Row(
        lambda: gym.make("CartPole-v1"),
        {"mirror": ([-1, -1, -1, -1], [0, 1])},
    ),
    "Acrobot, one sign wrong": Row(
        lambda: gym.make("Acrobot-v1"),
        {"mirror": ([1, -1, 1, -1, -1, 1], [2, 1, 0])},
    ),
    "MountainCar": Row(lambda: gym.make("MountainCar-v0"), {"mirror": ([-1, -1], [2, 1, 0])}),
    "Connect four, prefers the left once in 20": Row(lambda: games.ConnectFour(left=0.05)),
    "Catch, wind": Row(lambda: games.Catch(wind=0.1)),
    "Catch, wind in 2 % of steps": Row(lambda: games.Catch(wind=0.02)),
    "Catch, prize on the left (< 1 % of steps)": Row(lambda: games.Catch(prize=1.5)),
    "walk, variance only": Row(lambda: games.Walk(noise=(0.3, 0.36))),
    "walk, mixture only": Row(lambda: games.Walk(mixture=True)),
    "walk, push in 5 % of states": Row(lambda: games.Walk(push=0.3)),
    "walk, sparse reward on one side": Row(lambda: games.Walk(sparse=(1, 0.5))),
    "walk, ends sooner on one side": Row(lambda: games.Walk(end=(-9.0, 2.5))),
    "walk in a Dict, push in 5 %": Row(lambda: games.Walk(push=0.3, as_dict=True)),
    "GridWorld, wrong turn": Row(
        lambda: gym.make("equirl/GridWorld-v0", size=5),
        {"r": (rotate_90, [1, 2, 3, 0])},
    ),
    "Pendulum, right 10 % weaker": Row(
        lambda: games.WeakTorque(gym.make("Pendulum-v1")),
        PENDULUM,
    ),
    "LunarLander, one engine 10 % weaker": Row(
        lambda: games.WeakLeftEngine(gym.make("LunarLander-v3")),
        "LunarLander-v3",
    ),
}


def symmetry_of(row: Row, env: Any) -> Symmetry:
    """What is claimed of the row's environment."""
    if isinstance(row.declaration, str):
        return equirl.envs.symmetry_of(gym.make(row.declaration))
    declared = env.mirror if row.declaration is None else row.declaration
    return Symmetry.from_generators(env.observation_space, env.action_space, declared)


def checked(row: Row, env: Any, seed: int, with_sensitivity: bool) -> dict[str, Any]:
    """One check: the outcome, the smallest p-value, and what was said of each quantity."""
    symmetry = symmetry_of(row, env)
    names = [symmetry.group.names[g] for g in symmetry.group.generators]
    played = collect(env, row.transitions, seed)
    verdicts = check_statistically(
        symmetry, names, played, 0.05, seed=seed, measure_sensitivity=with_sensitivity
    )
    reached = {v.outcome for v in verdicts}
    outcome = next((o for o in ("refused", "undecided") if o in reached), "holds")
    return {
        "seed": seed,
        "outcome": outcome,
        "p": min(v.size for v in verdicts),
        "measured": with_sensitivity,
        "said": [[v.generator, v.quantity, v.outcome, v.size, v.detail] for v in verdicts],
    }


def run(name: str, first: int, count: int, out: Path) -> None:
    """The checks of some seeds, written to a file of their own."""
    row = (TRUE | BROKEN)[name]
    env, begun = row.make(), time.process_time()
    checks = [
        checked(row, env, seed, name in BROKEN or seed < MEASURED)
        for seed in range(first, first + count)
    ]
    result = {
        "name": name,
        "transitions": row.transitions,
        "seconds": time.process_time() - begun,
        "checks": checks,
    }
    out.mkdir(parents=True, exist_ok=True)
    number = list(TRUE | BROKEN).index(name)
    (out / f"{number:02}-{first:03}.json").write_text(json.dumps(result))


def commands(out: str) -> None:
    """All runs, one a line; the first blocks of all rows come first."""
    for first in range(0, TRUE_SEEDS, BLOCK):
        for rows, seeds in ((TRUE, TRUE_SEEDS), (BROKEN, BROKEN_SEEDS)):
            if first < seeds:
                for name in rows:
                    print(
                        f"python {Path(__file__).relative_to(Path.cwd())} run "
                        f"{shlex.quote(name)} {first} {min(BLOCK, seeds - first)} {out}"
                    )


def table(out: Path) -> None:
    """The tables, from what the runs wrote."""
    parts = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    for kind, rows in (("true", TRUE), ("broken", BROKEN)):
        print(
            f"| {kind} symmetry | transitions | refused | smallest p "
            "| of those measured: undecided | hold | seconds each |"
        )
        print("|---|---|---|---|---|---|---|")
        for name, row in rows.items():
            mine = [part for part in parts if part["name"] == name]
            checks = [check for part in mine for check in part["checks"]]
            if not checks:
                continue
            measured = Counter(check["outcome"] for check in checks if check["measured"])
            count = sum(measured.values())
            refused = sum(check["outcome"] == "refused" for check in checks)
            seconds = sum(part["seconds"] for part in mine) / len(checks)
            print(
                f"| {name} | {row.transitions} | {refused} of {len(checks)} "
                f"({refused / len(checks):.1%}) | {min(c['p'] for c in checks):.2g} "
                f"| {measured['undecided']} of {count} | {measured['holds']} of {count} "
                f"| {seconds:.1f} |"
            )
        print()


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    ways = parser.add_subparsers(dest="way", required=True)
    ways.add_parser("commands").add_argument("out")
    ways.add_parser("table").add_argument("out", type=Path)
    one = ways.add_parser("run")
    one.add_argument("name", choices=[*TRUE, *BROKEN])
    one.add_argument("first", type=int)
    one.add_argument("count", type=int)
    one.add_argument("out", type=Path)
    given = vars(parser.parse_args())
    {"commands": commands, "table": table, "run": run}[given.pop("way")](**given)


if __name__ == "__main__":
    main()
