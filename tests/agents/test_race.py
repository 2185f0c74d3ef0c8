"""`equirl.agents.race`: who wins, and at what cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from equirl.agents.race import FEWEST_ROUNDS, race


def players(
    means: dict[str, float], spread: float, length: int = 10
) -> Callable[..., tuple[float, int]]:
    """Each episode is as hard for everyone; what they get differs by their means and by chance."""

    def play(name: str, round_: int) -> tuple[float, int]:
        own = np.random.default_rng([round_, sorted(means).index(name)])
        shared = np.random.default_rng(round_).normal(scale=100)
        return means[name] + shared + spread * own.normal(), length

    return play


def test_clearly_best_wins_whatever_is_preferred_and_the_others_drop_out_early() -> None:
    means = {"a": 0.0, "b": 5.0, "c": 1.0}
    seen = race(list(means), players(means, 0.5), 1000)
    assert seen.winner == "b"
    assert max(map(len, seen.returns.values())) <= 6
    assert seen.steps < 300


def test_episodes_that_are_harder_for_everyone_do_not_hide_who_is_better() -> None:
    # The episodes' own differences are 100 times those between the candidates.
    means = {"a": 0.0, "b": 1.0}
    assert race(list(means), players(means, 0.3), 1000).winner == "b"


def test_among_equals_the_preferred_one_wins() -> None:
    means = dict.fromkeys("abcde", 1.0)
    for order in (list("abcde"), list("edcba")):
        seen = race(order, players(means, 0.0), 500)
        assert seen.winner == order[0]
        assert len({len(returns) for returns in seen.returns.values()}) == 1  # nobody dropped out


def test_preferred_one_wins_unless_it_is_worse_beyond_chance() -> None:
    def play(gain: float) -> Callable[..., tuple[float, int]]:
        # b is ahead by gain + 1 or gain - 1 in turn, four rounds: standard error 2 / √12 = 0.577,
        # and the t-distribution of three degrees of freedom has 30 % above 0.584: 0.337.
        return lambda name, round_: ((gain + (-1) ** round_) * (name == "b"), 10)

    assert race(["a", "b"], play(0.33), 80).winner == "a"
    assert race(["a", "b"], play(0.35), 80).winner == "b"


def test_nobody_drops_out_before_the_spread_is_known() -> None:
    returns = {"a": [9.0, 9.0, 0.0], "b": [0.0, 0.0, 100.0]}
    seen = race(
        ["a", "b"], lambda name, round_: (returns[name][round_], 10), 10 * 2 * FEWEST_ROUNDS
    )
    assert [len(values) for values in seen.returns.values()] == [FEWEST_ROUNDS] * 2


def test_budget_is_kept_and_a_round_it_cuts_short_is_not_counted() -> None:
    seen = race(["a", "b", "c"], lambda name, round_: (float("abc".index(name)), 10), 75)
    # Seven or eight episodes fit: two whole rounds, and the third stops.
    assert seen.steps == 80
    assert [len(values) for values in seen.returns.values()] == [2, 2, 2]
    assert seen.winner == "c"


def test_with_long_episodes_only_those_named_first_take_part() -> None:
    candidates = ["a", "b", "c", "d", "e"]
    play = players(dict.fromkeys(candidates, 0.0), 0.0, length=400)
    seen = race(candidates, play, 3000, first=("d", "e"))
    assert list(seen.returns) == ["d", "e", "a"]  # a third of 3000 is reached with the third
    assert seen.winner == "a"  # preferred among those who took part
    assert len(seen.returns["a"]) >= 2


@pytest.mark.parametrize("only", [["a"], ["a", "b"]])
def test_a_race_of_one_is_over_before_it_begins(only: list[str]) -> None:
    seen = race(only, lambda _name, _round: (0.0, 1000), 1, first=only[:1])
    assert seen.winner == "a"
    assert seen.steps <= 1000
