"""Does this environment really have this symmetry? Exactly where possible, else statistically."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from equirl.actions import GroupAction
from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry
from equirl.verification.law import check_law, law_of
from equirl.verification.moved_states.comparison import EXACT_TOLERANCE, Comparison
from equirl.verification.moved_states.moved_pairs import MovedPairs, StateMap
from equirl.verification.moved_states.remembering import Memories, memories_of
from equirl.verification.play import collect, kept, stacked
from equirl.verification.statistical import check_initial_states, check_statistically
from equirl.verification.statistics.sensitivity import INTERRUPTED
from equirl.verification.verdicts import QUANTITIES, SymmetryReport, Verdict

INITIAL_STATES = 300
"""Resets that the distribution of initial states is judged by."""


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
    seconds: float | None = None,
) -> SymmetryReport:
    """Compare what follows from (gs, ga) with what follows from (s, a), generator by generator.

    - Where the environment gives its law, ``env.unwrapped.P``, for all (s, a).
    - Exactly, where ``state_maps`` can put the environment from s into gs: the same random numbers
      on both sides, every observation, reward and termination compared. Where draws are not
      mirrored by the state map, s and gs are played many times with fresh seeds instead.
      What Gymnasium's wrappers keep of what went before, such as stacked frames, moves with it.
    - Else statistically, see `equirl.verification.statistics.evidence`: from random play alone. So
      too behind a wrapper of one's own that keeps what went before.

    Args:
        env: the environment.
        symmetry: what is claimed.
        state_maps: by generator name, what puts the *unwrapped* environment into the moved state;
            those for other elements are not needed.
        make_env: makes another environment like it, for the exact comparison; left out, it is made
            from its spec, or copied.
        transitions: how many to look at, for all generators together.
        level: probability of refusing anything by the statistical test if all of it holds.
        tolerance: relative difference that counts as none in the exact comparison.
        seed: of the random play.
        on_step: called after each environment step, for a progress bar.
        seconds: what is not done by then is undecided; so is what Ctrl-C leaves undone.

    Raises:
        SymmetryError: a state map is for an element that there is not, or fails; or a reward is
            not a finite number.
    """
    deadline = np.inf if seconds is None else time.monotonic() + seconds
    names = [symmetry.group.names[g] for g in symmetry.group.generators]
    maps = dict(state_maps or {})
    unknown = sorted(set(maps) - set(symmetry.group.names))
    if unknown:
        raise SymmetryError(
            f"a state map is for {', '.join(unknown)}, the generators are {', '.join(names)}"
        )
    if symmetry.group.order == 1:
        return SymmetryReport()
    law = law_of(env)
    if law is not None:
        results = [check_law(env, law, symmetry, name) for name in names]
        table = [line for _, lines in results for line in lines]
        return SymmetryReport([v for verdicts, _ in results for v in verdicts], tuple(table))
    twins = make_env or _maker_of_twins(env)
    remarks: list[str] = []
    memories = memories_of(twins, symmetry) if maps else Memories()
    if memories.left is not None:
        maps = {}
        remarks = [
            f"{memories.left} keeps what went before, which a state map does not move: compared by "
            "random play alone, while without it the environment can be compared exactly"
        ]
    exact = [name for name in names if name in maps]
    # A simulator that misses its own symmetry by more than rounding could hide a small breach.
    others = [name for name in names if name not in maps or tolerance > EXACT_TOLERANCE]
    verdicts: list[Verdict] = []
    try:
        for name in exact:
            budget = transitions // (2 * len(exact))
            pairs = MovedPairs(twins, symmetry, name, maps[name], memories, on_step)
            comparison = Comparison(pairs, tolerance)
            found, remark = comparison.verdicts(budget, level / len(names), seed, deadline)
            verdicts += found
            remarks += remark
            if comparison.cut_short == INTERRUPTED:
                raise KeyboardInterrupt
        if others:
            left = None if seconds is None else max(1.0, 0.6 * (deadline - time.monotonic()))
            played = collect(env, transitions, seed, on_step, left)
            verdicts += check_statistically(
                symmetry, others, played, level, seed=seed, deadline=deadline
            )
        seeds = np.random.default_rng(seed).integers(2**31, size=INITIAL_STATES)
        first = [kept(env.reset(seed=int(episode_seed))[0]) for episode_seed in seeds]
        batch = stacked(env.observation_space, first)
        verdicts += [check_initial_states(symmetry, name, batch, level) for name in names]
    except KeyboardInterrupt:
        done = {(v.generator, v.quantity) for v in verdicts}
        verdicts += [
            Verdict(name, q, "statistical", "undecided", 1.0, 0, detail=INTERRUPTED)
            for name in names
            for q in QUANTITIES
            if (name, q) not in done
        ]
    return SymmetryReport(verdicts, tuple(remarks))


def steps_of_play(
    symmetry: Symmetry, exact: Collection[str], transitions: int, tolerance: float
) -> int:
    """How many environment steps `check_symmetry` will take, roughly.

    Args:
        symmetry: what is claimed.
        exact: the generators that there are state maps for.
        transitions: as of `check_symmetry`.
        tolerance: likewise.
    """
    names = {symmetry.group.names[g] for g in symmetry.group.generators}
    statistical = names - set(exact) or tolerance > EXACT_TOLERANCE
    return (transitions // 2 if names & set(exact) else 0) + (transitions if statistical else 0)


def _maker_of_twins(env: gym.Env[Any, Any]) -> Callable[[], gym.Env[Any, Any]]:
    spec = env.spec
    if spec is not None:
        try:
            gym.make(spec).close()
        except (ValueError, gym.error.Error):  # a wrapper that does not record its arguments
            return lambda: copy.deepcopy(env)
        return lambda: gym.make(spec)
    return lambda: copy.deepcopy(env)
