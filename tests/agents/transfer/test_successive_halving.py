"""`equirl.agents.transfer.successive_halving`: who wins, and at what cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equirl.agents.transfer.successive_halving import successive_halving


def players(means: dict[str, float], spread: float) -> Callable[..., tuple[float, int]]:
    """Each episode is as hard for everyone; what they get differs by their means and by chance."""

    def play(name: str, episode: int) -> tuple[float, int]:
        own = np.random.default_rng([episode, sorted(means).index(name)])
        shared = np.random.default_rng(episode).normal(scale=100)
        return means[name] + shared + spread * own.normal(), 10

    return play


@given(st.permutations("abcde"), st.integers(1, 5), st.integers(1, 3000))
def test_the_best_wins_where_chance_does_not_hide_it(
    order: list[str], count: int, budget: int
) -> None:
    candidates = order[:count]
    seen = successive_halving(candidates, players({c: ord(c) for c in "abcde"}, 0.0), budget)
    assert seen.winner == max(candidates)
    assert seen.steps == 10 * sum(map(len, seen.returns.values()))


@given(st.permutations("abcd"), st.floats(0, 1e-13))
def test_the_preferred_one_wins_among_equals(order: list[str], rounding: float) -> None:
    seen = successive_halving(
        order, lambda name, episode: (0.7 + rounding * ord(name) * episode, 10), 500
    )
    assert seen.winner == order[0]


def test_half_of_the_budget_is_spent_on_all_and_half_on_the_better_two() -> None:
    seen = successive_halving(list("abcd"), players({c: ord(c) for c in "abcd"}, 0.0), 800)
    assert {name: len(returns) for name, returns in seen.returns.items()} == {
        "a": 10,
        "b": 10,
        "c": 30,
        "d": 30,
    }
    assert seen.steps == 800


@pytest.mark.parametrize("candidates", [["a"], ["a", "b"], list("abcde")])
def test_whatever_the_budget_everyone_plays_one_episode(candidates: list[str]) -> None:
    seen = successive_halving(candidates, lambda name, _episode: (ord(name), 1000), 1)
    assert seen.winner == candidates[-1]
    assert len(candidates) == 1 or set(seen.returns) == set(candidates)
