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

    def mean(self, name: str) -> float:
        """The mean return, without the rounding errors of sums in another order."""
        returns = self.returns[name]
        return float(f"{math.fsum(returns) / len(returns):.9g}")


def successive_halving(
    candidates: Sequence[str], play: Callable[[str, int], tuple[float, int]], budget: int
) -> Halving:
    """Let candidates play the same episodes, round after round with the better half of them.

    After Karnin et al. 2013 (*Almost optimal exploration in multi-armed bandits*); the rounds share
    the budget equally. Who is ahead among equals is the first in the order given.

    Args:
        candidates: names, the preferred first.
        play: plays an episode, ``(name, episode) -> (return, environment steps)``.
        budget: environment steps after which nobody begins another episode; everyone plays one.
    """
    left, seen = list(candidates), Halving()
    rounds = max(1, math.ceil(math.log2(len(left))))
    for round_ in range(1, rounds + 1):
        episodes = 0
        while len(left) > 1 and (episodes == 0 or seen.steps < budget * round_ / rounds):
            for name in left:
                returns = seen.returns.setdefault(name, [])
                value, steps = play(name, len(returns))
                returns.append(value)
                seen.steps += steps
            episodes += 1
        if episodes:
            ranked = sorted(left, key=seen.mean, reverse=True)[: (len(left) + 1) // 2]
            left = [name for name in left if name in ranked]
    seen.winner = left[0]
    return seen
