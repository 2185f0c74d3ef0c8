"""`equirl.agents.transfer.successive_halving`: who wins, and at what cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equirl.agents.transfer.successive_halving import successive_halving
from shared.tried import examples


def players(means: dict[str, float]) -> Callable[..., tuple[float, int]]:
    """Each episode is as hard for everyone; what they get differs by their means."""

    shared = np.random.default_rng(0).normal(scale=100, size=1000)

    def play(name: str, episode: int) -> tuple[float, int]:
        return means[name] + shared[episode], 10

    return play


@settings(max_examples=examples(15))
@given(st.permutations("abcde"), st.integers(1, 5), st.integers(100, 3000))
def test_the_best_wins_where_chance_does_not_hide_it(
    order: list[str], count: int, budget: int
) -> None:
    candidates = order[:count]
    seen = successive_halving(candidates, players({c: ord(c) for c in "abcde"}), budget)
    assert seen.winner == max(candidates)
    assert seen.steps == 10 * sum(map(len, seen.returns.values()))


@given(st.permutations("abcd"), st.floats(0, 1e-13))
def test_the_preferred_one_wins_among_equals(order: list[str], rounding: float) -> None:
    seen = successive_halving(
        order, lambda name, episode: (0.7 + rounding * ord(name) * episode, 10), 500
    )
    assert seen.winner == order[0]


def test_half_of_the_budget_is_spent_on_all_and_half_on_the_better_two() -> None:
    seen = successive_halving(list("abcd"), players({c: ord(c) for c in "abcd"}), 800)
    assert {name: len(returns) for name, returns in seen.returns.items()} == {
        "a": 10,
        "b": 10,
        "c": 30,
        "d": 30,
    }
    assert seen.steps == 800


@pytest.mark.parametrize(("budget", "playing"), [(0, ""), (1, "a"), (1001, "ab"), (9000, "abcde")])
def test_no_episode_begins_beyond_the_budget(budget: int, playing: str) -> None:
    seen = successive_halving(list("abcde"), lambda name, _episode: (ord(name), 1000), budget)
    assert "".join(seen.returns) == playing
    assert seen.winner == (playing or "a")[-1]
    assert seen.steps < budget + 1000


def test_candidates_are_compared_by_the_episodes_that_all_have_played() -> None:
    returns = {"a": [5.0, 0.0], "b": [4.0]}
    seen = successive_halving(["a", "b"], lambda name, episode: (returns[name][episode], 10), 21)
    assert seen.returns == returns
    assert seen.winner == "a"
