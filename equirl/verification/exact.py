"""Does this environment really have this symmetry? Exactly where possible, else statistically."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from equirl.actions import GroupAction
from equirl.symmetry import Symmetry
from equirl.verification.statistical import check_initial_states, check_statistically, collect
from equirl.verification.verdicts import QUANTITIES, CounterExample, SymmetryReport, Verdict

StateMap = Callable[[Any], None]

INITIAL_STATES = 300
"""Resets that the distribution of initial states is judged by."""

EXACT_TOLERANCE = 1e-4
"""Relative difference of observations and rewards that counts as none, unless told otherwise."""


@torch.no_grad()
def equivariance_error(
    function: Callable[[Any], Tensor],
    input_action: GroupAction,
    output_action: GroupAction,
    x: Any,
) -> float:
    """max over g and the batch of |f(gx) − g·f(x)|, the largest entry.

    Args:
        function: f, ``[batch, *X] -> [batch, *Y]``.
        input_action: the group acting on X.
        output_action: the same group acting on Y.
        x: ``[batch, *X]``, a tensor or a dict of tensors.
    """
    group = input_action.group
    y = function(x)
    errors = [
        (function(input_action.transform(g, x)) - output_action.transform(g, y)).abs().max()
        for g in range(1, group.order)
    ]
    return max((float(error) for error in errors), default=0.0)


def check_symmetry(
    env: gym.Env[Any, Any],
    symmetry: Symmetry,
    state_maps: Mapping[str, StateMap] | None = None,
    *,
    make_env: Callable[[], gym.Env[Any, Any]] | None = None,
    transitions: int = 30_000,
    level: float = 0.05,
    tolerance: float = EXACT_TOLERANCE,
    seed: int = 0,
    on_step: Callable[[], object] = lambda: None,
) -> SymmetryReport:
    """Compare what follows from (gs, ga) with what follows from (s, a), generator by generator.

    Exactly, where ``state_maps`` can put the environment from s into gs: the same random numbers on
    both sides, every observation, reward and termination compared. Else statistically, see
    `equirl.verification.transition_test`: from random play alone, whatever the environment is.

    Args:
        env: the environment.
        symmetry: what is claimed.
        state_maps: by generator name, what puts the *unwrapped* environment into the moved state.
        make_env: makes another environment like it, for the exact comparison; left out, it is made
            from its spec, or copied.
        transitions: how many to look at, for all generators together (exact) or each (statistical).
        level: probability of refusing a true symmetry by the statistical test, per generator.
        tolerance: relative difference that counts as none in the exact comparison.
        seed: of the random play.
        on_step: called after each environment step, for a progress bar.

    Raises:
        SymmetryError: neither way is possible.
    """
    names = [symmetry.group.names[g] for g in symmetry.group.generators]
    maps = dict(state_maps or {})
    exact = [name for name in names if name in maps]
    # A simulator that misses its own symmetry by more than rounding could hide a small breach.
    others = [name for name in names if name not in maps or tolerance > EXACT_TOLERANCE]
    verdicts: list[Verdict] = []
    twins = make_env or _maker_of_twins(env)
    for name in exact:
        budget = transitions // (2 * len(exact))
        verdicts += _check_exactly(
            twins, symmetry, name, maps[name], budget, tolerance, seed, on_step
        )
    if others:
        played = collect(env, transitions, seed, on_step)
        for name in others:
            verdicts += check_statistically(symmetry, name, played, level)
    seeds = np.random.default_rng(seed).integers(2**31, size=INITIAL_STATES)
    first = [env.reset(seed=int(episode_seed))[0] for episode_seed in seeds]
    if not isinstance(env.observation_space, gym.spaces.Dict):
        verdicts += [check_initial_states(symmetry, name, np.array(first), level) for name in names]
    return SymmetryReport(verdicts)


def _check_exactly(
    make_env: Callable[[], gym.Env[Any, Any]],
    symmetry: Symmetry,
    name: str,
    state_map: StateMap,
    count: int,
    tolerance: float,
    seed: int,
    on_step: Callable[[], object],
) -> list[Verdict]:
    """Two environments with the same seed and past; one is moved, then both take the same step."""
    g = symmetry.group.index(name)
    generator = np.random.default_rng(seed)
    worst = dict.fromkeys(QUANTITIES, 0.0)
    examples: dict[str, CounterExample] = {}
    steps = looked_at = 0
    while steps < count:
        episode_seed, length = int(generator.integers(2**31)), int(generator.integers(60))
        # New ones for every episode: a state map may leave the random generator in a mirror, and
        # not every environment forgets all of the episode before.
        env, twin = make_env(), make_env()
        observation, _ = env.reset(seed=episode_seed)
        twin.reset(seed=episode_seed)
        past = generator.integers(symmetry.action_space.n, size=length)
        over = False
        for action in past:
            observation, _, terminated, truncated, _ = env.step(int(action))
            twin.step(int(action))
            steps += 1
            on_step()
            if over := bool(terminated or truncated):
                break
        if over:
            continue
        state_map(twin.unwrapped)
        for _ in range(3):  # a few steps on, hidden state shows too
            action = int(generator.integers(symmetry.action_space.n))
            moved_action = int(symmetry.transform_action(g, action))
            following, reward, terminated, truncated, _ = env.step(action)
            found, found_reward, found_terminated, _, _ = twin.step(moved_action)
            steps += 1
            looked_at += 1
            on_step()
            expected = symmetry.transform_observation(g, following)
            pairs = {
                "dynamics": (expected, found),
                "reward": (float(reward), float(found_reward)),
                "termination": (bool(terminated), bool(found_terminated)),
            }
            for quantity, (wanted, got) in pairs.items():
                difference = _difference(wanted, got)
                if difference > max(worst[quantity], tolerance):
                    examples[quantity] = CounterExample(
                        observation,
                        action,
                        following,
                        symmetry.transform_observation(g, observation),
                        moved_action,
                        wanted,
                        got,
                    )
                worst[quantity] = max(worst[quantity], difference)
            observation = following
            apart = any(_difference(*pair) > tolerance for pair in pairs.values())
            if apart or terminated or truncated:  # what follows a breach is no evidence of its own
                break
    return [
        Verdict(
            name,
            q,
            "exact",
            looked_at > 0 and q not in examples,
            worst[q],
            looked_at,
            examples.get(q),
        )
        for q in QUANTITIES
    ]


def _maker_of_twins(env: gym.Env[Any, Any]) -> Callable[[], gym.Env[Any, Any]]:
    spec = env.spec
    if spec is not None:
        try:
            gym.make(spec).close()
        except (ValueError, gym.error.Error):  # a wrapper that does not record its arguments
            return lambda: copy.deepcopy(env)
        return lambda: gym.make(spec)
    return lambda: copy.deepcopy(env)


def _difference(expected: Any, found: Any) -> float:
    """The largest difference, relative to the size of what is expected (at least one)."""
    if isinstance(expected, dict):
        return max(_difference(expected[key], found[key]) for key in expected)
    a, b = np.asarray(expected, dtype=np.float64), np.asarray(found, dtype=np.float64)
    return float(np.abs(a - b).max(initial=0) / (1 + np.abs(a).max(initial=0)))
