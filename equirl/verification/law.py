"""Environments that give their law: every (s, a) is compared, no chance involved.

Gymnasium's FrozenLake, Taxi and CliffWalking hold it as ``env.unwrapped.P[s][a]``, a list of
(probability, s', reward, terminated).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from scipy.special import gammaincc

from equirl.envs import SymmetryWrapper
from equirl.symmetry import Symmetry
from equirl.verification.verdicts import QUANTITIES, CounterExample, Verdict

Law = dict[Any, float]
"""Outcome -> probability."""

MOST_ROWS = 20
"""Of the table of what differs."""

ROUNDING = 1e-9

PLAYED = 20_000
"""Steps in which the environment is compared with its law."""

LEAST_EXPECTED, UNLIKELY = 5, 1e-6
"""Outcomes are counted (Pearson's χ²) where so many of each are expected; below this p-value the
environment does not follow its law."""


def law_of(env: gym.Env[Any, Any]) -> dict[int, dict[int, Any]] | None:
    """P, where the environment has one that it keeps to and that no wrapper changes."""
    layer: Any = env
    while isinstance(layer, gym.Wrapper):
        if type(layer) not in (OrderEnforcing, PassiveEnvChecker, TimeLimit, SymmetryWrapper):
            return None
        layer = layer.env
    law: Any = getattr(layer, "P", None)
    states, actions = layer.observation_space, layer.action_space
    if not isinstance(states, spaces.Discrete) or not isinstance(actions, spaces.Discrete):
        return None
    try:
        fits = all(len(law[s][a]) > 0 for s in range(states.n) for a in range(actions.n))
    except (TypeError, KeyError, IndexError):
        return None
    fits = fits and states.start == actions.start == 0
    return law if fits and _keeps_to(layer, law) else None


def _keeps_to(env: Any, law: Any) -> bool:
    """Whether play does what the law allows, and as often as it says."""
    generator = np.random.default_rng(0)
    counts: dict[tuple[int, int], dict[Any, int]] = defaultdict(lambda: defaultdict(int))
    state, _ = env.reset(seed=0)
    for _ in range(PLAYED):
        action = int(generator.integers(env.action_space.n))
        following, reward, over, _, _ = env.step(action)
        outcome = int(following), round(float(reward), 9), bool(over)
        counts[int(state), action][outcome] += 1
        state = env.reset()[0] if over else following
    statistic, degrees = 0.0, 0
    for (s, a), seen in counts.items():
        likely: Law = defaultdict(float)
        for p, following, reward, over in law[s][a]:
            likely[int(following), round(float(reward), 9), bool(over)] += float(p)
        if any(likely.get(outcome, 0.0) <= 0 for outcome in seen):
            return False
        n = sum(seen.values())
        expected = {outcome: n * p for outcome, p in likely.items() if p > 0}
        if min(expected.values()) >= LEAST_EXPECTED:
            statistic += sum((seen.get(o, 0) - e) ** 2 / e for o, e in expected.items())
            degrees += len(expected) - 1
    return degrees == 0 or float(gammaincc(degrees / 2, statistic / 2)) > UNLIKELY


def check_law(
    env: gym.Env[Any, Any], law: Any, symmetry: Symmetry, name: str
) -> tuple[list[Verdict], list[str]]:
    """Compare P(· | gs, ga) with g P(· | s, a) for all s that are acted in, or whose image is.

    Returns:
        The verdicts, and a table of what differs, one line for each (s, a).
    """
    unwrapped: Any = env.unwrapped
    states, actions = int(unwrapped.observation_space.n), int(unwrapped.action_space.n)
    g = symmetry.group.index(name)
    move = [int(symmetry.transform_observation(g, s)) for s in range(states)]
    move_action = [int(symmetry.transform_action(g, a)) for a in range(actions)]
    acted_in = _acted_in(unwrapped, law, states, actions)
    worst, plainest = dict.fromkeys(QUANTITIES, 0.0), dict.fromkeys(QUANTITIES, 0.0)
    examples: dict[str, CounterExample] = {}
    lines = []
    pairs = [(s, a) for s in range(states) for a in range(actions)]
    pairs = [(s, a) for s, a in pairs if s in acted_in or move[s] in acted_in]
    for s, a in pairs:
        here, there = _laws(law[s][a], move), _laws(law[move[s]][move_action[a]], None)
        apart = {q: _distance(here[q], there[q]) for q in (*QUANTITIES, "jointly")}
        if apart["jointly"] < ROUNDING:
            continue
        if all(apart[q] < ROUNDING for q in QUANTITIES):
            apart["dynamics"] = apart["jointly"]
            here["dynamics"], there["dynamics"] = here["jointly"], there["jointly"]
        for q in QUANTITIES:
            worst[q] = max(worst[q], apart[q])
            # Prefer a state where both go on: no action is taken where an episode has ended.
            plainness = apart[q] + (s in acted_in and move[s] in acted_in)
            if apart[q] > ROUNDING and plainness > plainest[q]:
                plainest[q] = plainness
                examples[q] = CounterExample(
                    s,
                    a,
                    law[s][a][0][1],
                    move[s],
                    move_action[a],
                    _shown(here[q], q),
                    _shown(there[q], q),
                    tally=(
                        f"should be: {_shown(here[q], q)}",
                        f"is:        {_shown(there[q], q)}",
                    ),
                )
        which = max(QUANTITIES, key=lambda q: apart[q])
        lines.append(
            f"  s = {s}, a = {a}: {_shown(here[which], which)}; "
            f"at gs = {move[s]}, ga = {move_action[a]}: {_shown(there[which], which)}"
        )
    verdicts = [
        Verdict(
            name,
            q,
            "law",
            "refused" if q in examples else "holds",
            worst[q],
            len(pairs),
            examples.get(q),
            "" if q in examples else f"all (s, a) compared; {PLAYED} steps kept to the law",
        )
        for q in QUANTITIES
    ]
    return verdicts, _table(name, lines, len(pairs))


def _table(name: str, lines: list[str], count: int) -> list[str]:
    if not lines:
        return []
    more = [f"  and {len(lines) - MOST_ROWS} more"] if len(lines) > MOST_ROWS else []
    head = f"{name}: the laws of {len(lines)} of {count} pairs (s, a) differ from their image's:"
    return [head, *lines[:MOST_ROWS], *more]


def _acted_in(env: Any, law: Any, states: int, actions: int) -> set[int]:
    """States that can be reached and are not the end of an episode."""
    initial = getattr(env, "initial_state_distrib", None)
    if initial is None or len(initial) != states:
        return set(range(states))
    reached = {s for s in range(states) if initial[s] > 0}
    waiting = list(reached)
    while waiting:
        s = waiting.pop()
        for a in range(actions):
            for probability, following, _, over in law[s][a]:
                if probability > 0 and not over and following not in reached:
                    reached.add(int(following))
                    waiting.append(int(following))
    return reached


def _laws(outcomes: Any, move: list[int] | None) -> dict[str, Law]:
    """The law of s', of the reward and of the end, moved by g, and of all three together."""
    laws: dict[str, Law] = {q: defaultdict(float) for q in (*QUANTITIES, "jointly")}
    for probability, following, reward, over in outcomes:
        s = int(following) if move is None else move[int(following)]
        values = {"dynamics": s, "reward": round(float(reward), 9), "termination": bool(over)}
        for quantity, value in values.items():
            laws[quantity][value] += float(probability)
        laws["jointly"][tuple(values.values())] += float(probability)
    return laws


def _distance(one: Law, other: Law) -> float:
    """The largest difference of probabilities."""
    return max(abs(one.get(key, 0) - other.get(key, 0)) for key in {*one, *other})


def _shown(law: Law, quantity: str) -> str:
    if quantity == "termination":
        return f"ends with probability {law.get(True, 0):.3g}"
    likely = sorted((item for item in law.items() if item[1] > 0), key=lambda item: -item[1])
    return ", ".join(f"{_outcome(value, quantity)} ({p:.3g})" for value, p in likely[:4])


def _outcome(value: Any, quantity: str) -> str:
    if isinstance(value, tuple):  # all three together
        following, reward, over = value
        return f"s' = {following} with reward {reward:g}{' at the end' if over else ''}"
    return f"s' = {value:g}" if quantity == "dynamics" else f"reward {value:g}"
