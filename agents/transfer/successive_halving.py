"""Successive halving: of several candidates the best, found with few environment steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Halving:
    """What was played.

    Args:
        returns: of each candidate, episode by episode; shorter for those that dropped out.
        steps: environment steps taken.
        winner: who was left.
    """

    returns: dict[str, list[float]] = field(default_factory=dict)
    steps: int = 0
    winner: str = ""


def successive_halving(
    candidates: Sequence[str], play: Callable[[str, int], tuple[float, int]], budget: int
) -> Halving:
    """Let candidates play the same episodes, round after round with the better half of them.

    After Karnin et al. 2013 (*Almost optimal exploration in multi-armed bandits*); the rounds share
    the budget equally. Who is ahead among equals is the first in the order given.

    Args:
        candidates: names, the preferred first.
        play: plays an episode, ``(name, episode) -> (return, environment steps)``.
        budget: environment steps after which no episode begins any more. Where it does not suffice
            for everyone to play one, those who have not played drop out.
    """
    left, seen = list(candidates), Halving()
    rounds = max(1, math.ceil(math.log2(len(left))))
    for round_ in range(1, rounds + 1):
        while len(left) > 1 and seen.steps < budget * round_ / rounds:
            for name in left:
                if seen.steps < budget:
                    returns = seen.returns.setdefault(name, [])
                    value, steps = play(name, len(returns))
                    returns.append(value)
                    seen.steps += steps
        left = _better_half(left, seen.returns)
    seen.winner = left[0]
    return seen


def _better_half(left: list[str], returns: dict[str, list[float]]) -> list[str]:
    """By the episodes that all of them have played, in the order given."""
    playing = [name for name in left if name in returns] or left[:1]
    episodes = min(len(returns.get(name, ())) for name in playing)

    def total(name: str) -> float:
        # Without the rounding errors of sums in another order.
        return float(f"{math.fsum(returns.get(name, ())[:episodes]):.9g}")

    better = sorted(playing, key=total, reverse=True)[: (len(left) + 1) // 2]
    return [name for name in left if name in better]
