"""`equirl.agents.transfer.race`: who wins, and at what cost."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from equirl.agents.transfer.race import FEWEST_EPISODES, race


def players(
    means: dict[str, float], spread: float, length: int = 10
) -> Callable[..., tuple[float, int]]:
    """Each episode is as hard for everyone; what they get differs by their means and by chance."""

    def play(name: str, episode: int) -> tuple[float, int]:
        own = np.random.default_rng([episode, sorted(means).index(name)])
        shared = np.random.default_rng(episode).normal(scale=100)
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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("noise", [0.0, 1e-16])
def test_rounding_errors_of_a_sum_decide_nothing(noise: float) -> None:
    sums = {"a": 0.7, "b": 0.1 + 0.2 + 0.4}  # 0.7000000000000001
    assert sums["b"] > sums["a"]
    seen = race(["a", "b"], lambda name, episode: (sums[name] + noise * episode, 10), 100)
    assert seen.winner == "a"
    assert len(seen.returns["a"]) == 5


def test_preferred_one_wins_unless_it_is_worse_beyond_chance() -> None:
    def play(gain: float) -> Callable[..., tuple[float, int]]:
        # b is ahead by gain + 1 or gain - 1 in turn, four rounds: standard error 2 / √12 = 0.577,
        # and the t-distribution of three degrees of freedom has 30 % above 0.584: 0.337.
        return lambda name, episode: ((gain + (-1) ** episode) * (name == "b"), 10)

    assert race(["a", "b"], play(0.33), 80).winner == "a"
    assert race(["a", "b"], play(0.35), 80).winner == "b"


def test_nobody_drops_out_before_the_spread_is_known() -> None:
    returns = {"a": [9.0, 9.0, 0.0], "b": [0.0, 0.0, 100.0]}
    seen = race(
        ["a", "b"], lambda name, episode: (returns[name][episode], 10), 10 * 2 * FEWEST_EPISODES
    )
    assert [len(values) for values in seen.returns.values()] == [FEWEST_EPISODES] * 2


def test_budget_is_kept_and_whoever_has_played_least_plays_next() -> None:
    order = []

    def play(name: str, episode: int) -> tuple[float, int]:
        order.append((name, episode))
        return float("abc".index(name)), 10

    seen = race(["a", "b", "c"], play, 75)
    assert order == [(name, episode) for episode in range(3) for name in "abc"][:8]
    assert seen.steps == 80
    assert [len(values) for values in seen.returns.values()] == [3, 3, 2]
    assert seen.winner == "c"  # by the two episodes that all have played


def test_of_single_episodes_the_best_wins() -> None:
    returns = {"a": -300.0, "b": -180.0, "c": 50.0}
    seen = race(list(returns), lambda name, _episode: (returns[name], 1000), 3500, certain=3)
    assert seen.returns == {"a": [-300.0] * 2, "b": [-180.0], "c": [50.0]}
    assert seen.winner == "c"


def test_episodes_that_only_some_have_played_count_between_them() -> None:
    returns = {"a": [500.0, 500.0, 244.0], "b": [500.0, 500.0, 500.0], "c": [500.0, 500.0]}
    seen = race(list(returns), lambda name, episode: (returns[name][episode], 10), 75)
    assert seen.returns == returns
    assert seen.winner == "b"


def test_whoever_is_clearly_worse_than_any_other_drops_out() -> None:
    # c has played two episodes more than it takes to see that it is far ahead of a and b.
    seen = race(["a", "b", "c"], players({"a": 0.0, "b": 0.1, "c": 50.0}, 1.0), 10_000)
    assert seen.winner == "c"
    assert seen.steps <= 10 * (3 * FEWEST_EPISODES + 2)


@pytest.mark.parametrize(
    ("length", "certain", "taking_part"), [(400, 2, 3), (1600, 2, 2), (1600, 4, 4)]
)
def test_with_long_episodes_only_the_first_take_part(
    length: int, certain: int, taking_part: int
) -> None:
    # A third of 3000 is reached with the third episode of 400 steps and the first of 1600.
    candidates = ["d", "e", "a", "b", "c"]
    play = players(dict.fromkeys(candidates, 0.0), 0.0, length)
    seen = race(candidates, play, 3000 if certain == 2 else 5000, certain)
    assert list(seen.returns) == candidates[:taking_part]
    assert seen.winner == "d"  # preferred among those who took part


@pytest.mark.parametrize("only", [["a"], ["a", "b"]])
def test_a_race_of_one_is_over_before_it_begins(only: list[str]) -> None:
    seen = race(only, lambda _name, _episode: (0.0, 1000), 1)
    assert seen.winner == "a"
    assert seen.steps <= 1000
