"""A race: of several candidates the best, found with few environment steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

FEWEST_ROUNDS = 3
"""Nobody is eliminated before so many episodes: the spread of two says next to nothing."""

ELIMINATION_LEVEL, FINAL_LEVEL = 0.05, 0.3
"""One-sided levels of the paired t-test: of that which eliminates, and of that in the end. The
second is mild: of two long episodes, say, a strict test would believe nothing."""


@dataclass
class Race:
    """What a race saw.

    Args:
        returns: of each candidate, episode by episode; shorter for those eliminated.
        steps: environment steps taken.
        winner: see `race`.
    """

    returns: dict[str, list[float]] = field(default_factory=dict)
    steps: int = 0
    winner: str = ""


def race(
    candidates: Sequence[str],
    play: Callable[[str, int], tuple[float, int]],
    budget: int,
    first: Sequence[str] = (),
) -> Race:
    """Let candidates play the same episodes, dropping those that are clearly worse (F-Race).

    After Birattari et al. 2002, with a paired t-test for the test: every round is one episode, the
    same for all, and whoever is worse than the leader at level 5 % drops out. The winner is the
    first *in the order given* of those that are not worse than the best mean at level 30 %: returns
    decide where they can, and the order where they cannot.

    Args:
        candidates: names, the preferred first.
        play: plays an episode, ``(name, round) -> (return, environment steps)``.
        budget: environment steps after which no episode begins any more. The round that runs is
            then not counted, as it does not compare everyone. The first round takes at most a
            third (and the episode that runs then): with long episodes few can be compared, and
            whoever has not played by then does not take part.
        first: who plays first in the first round, whatever is preferred.
    """
    racing = [*first, *(name for name in candidates if name not in first)]
    seen = Race()
    rounds = 0
    while len(racing) > 1:
        this_round = {}
        for name in racing:
            if seen.steps >= (budget if rounds else budget / 3):
                break
            this_round[name], steps = play(name, rounds)
            seen.steps += steps
        if rounds == 0:
            racing = list(this_round)
            seen.returns = {name: [] for name in racing}
        if len(this_round) < len(racing):
            break
        for name, value in this_round.items():
            seen.returns[name].append(value)
        rounds += 1
        if rounds >= FEWEST_ROUNDS:
            leader = _leader(seen, racing)
            racing = [name for name in racing if not _is_worse(seen, name, leader)]
    leader = _leader(seen, racing)
    worse = [name for name in racing if _is_worse(seen, name, leader, FINAL_LEVEL)]
    seen.winner = next(name for name in candidates if name in racing and name not in worse)
    return seen


def _leader(seen: Race, racing: Sequence[str]) -> str:
    return max(racing, key=lambda name: sum(seen.returns.get(name, ())))


def _is_worse(seen: Race, name: str, leader: str, level: float = ELIMINATION_LEVEL) -> bool:
    behind = np.subtract(seen.returns.get(leader, []), seen.returns.get(name, []))
    if len(behind) < 2:
        return False
    if behind.std() == 0:
        return bool(behind[0] > 0)
    return bool(stats.ttest_1samp(behind, 0, alternative="greater").pvalue < level)
