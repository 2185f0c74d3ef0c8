"""Of a test's many combinations of parameters, a few that cover; the rest are marked slow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

import pytest


def mark_what_is_covered_already(items: Iterable[pytest.Item]) -> None:
    """Marks combinations slow whose parts others have, where a test says ``covering(strength)``.

    Strength 1: what is left has every value of every parameter; strength 2: every pair of values of
    two parameters. With ``-m "slow or not slow"`` all combinations are run.
    """
    families: dict[tuple[object, int], list[pytest.Function]] = defaultdict(list)
    for item in items:
        mark = item.get_closest_marker("covering")
        if mark is not None and isinstance(item, pytest.Function):
            families[item.function, mark.args[0]].append(item)
    for (_, strength), family in families.items():
        quick = [item for item in family if item.get_closest_marker("slow") is None]
        # By identity: a value need not be hashable, and every combination is given the same object.
        choices = [
            tuple((name, id(value)) for name, value in sorted(item.callspec.params.items()))
            for item in quick
        ]
        kept = set(covering(choices, strength))
        for number, item in enumerate(quick):
            if number not in kept:
                item.add_marker("slow")


def covering(choices: Sequence[tuple[object, ...]], strength: int) -> list[int]:
    """Numbers of rows that have among them all that any rows have in so many columns at once.

    Greedily: always the first of those that add most.
    """
    has = [set(combinations(choice, min(strength, len(choice)))) for choice in choices]
    missing = set[tuple[object, ...]]().union(*has)
    kept = []
    while missing:
        best = max(range(len(has)), key=lambda row: len(has[row] & missing))
        kept.append(best)
        missing -= has[best]
    return kept
