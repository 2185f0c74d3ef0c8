"""A race: of several candidates the best, found with few environment steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from equirl.agents.transfer.paired_test import is_better

FEWEST_EPISODES = 3
"""Nobody is eliminated before so many episodes: the spread of two says next to nothing."""

ELIMINATION_LEVEL, FINAL_LEVEL = 0.01, 0.3
"""One-sided levels of the paired t-test: of that which eliminates, and of that in the end. The
first is strict, as it is asked of every pair after every episode. The second is mild: of two long
episodes, say, a strict test would believe nothing."""


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
    certain: int = 2,
) -> Race:
    """Let candidates play the same episodes, dropping those that are clearly worse (F-Race).

    After Birattari et al. 2002, with a paired t-test for the test: whoever has played least plays
    next, and whoever is worse than another at level 1 %, by the episodes that both have played,
    drops out. The winner is the first *in the order given* of those that are not worse than any
    other at level 30 %: returns decide where they can, and the order where they cannot. Of single
    episodes the best wins.

    Args:
        candidates: names, the preferred first; they begin to play in this order.
        play: plays an episode, ``(name, episode) -> (return, environment steps)``.
        budget: environment steps after which no episode begins any more. Whoever has not played
            when a third of it is used does not take part: with long episodes few can be compared.
        certain: so many of the candidates take part in any case.
    """
    racing = list(candidates)
    seen = Race()
    returns = seen.returns
    while len(racing) > 1 and seen.steps < budget:
        name = min(racing, key=lambda name: len(returns.get(name, ())))
        if name not in returns and len(returns) >= certain and seen.steps >= budget / 3:
            racing = [name for name in racing if name in returns]
            continue
        value, steps = play(name, len(returns.get(name, ())))
        returns.setdefault(name, []).append(value)
        seen.steps += steps
        for name in list(racing):
            if _is_beaten(seen, name, racing, ELIMINATION_LEVEL, FEWEST_EPISODES):
                racing.remove(name)
    seen.winner = _winner(seen, [name for name in racing if name in returns] or candidates[:1])
    return seen


def _winner(seen: Race, racing: Sequence[str]) -> str:
    played = min(len(seen.returns.get(name, ())) for name in racing)
    leader = max(racing, key=lambda name: sum(seen.returns.get(name, ())[:played]))
    if played == 1:
        return leader
    unbeaten = (name for name in racing if not _is_beaten(seen, name, racing, FINAL_LEVEL, 2))
    return next(unbeaten, leader)


def _is_beaten(
    seen: Race, name: str, racing: Sequence[str], level: float, fewest_episodes: int
) -> bool:
    returns = seen.returns
    return any(
        is_better(returns.get(rival, ()), returns.get(name, ()), level, fewest_episodes)
        for rival in racing
        if rival != name
    )
