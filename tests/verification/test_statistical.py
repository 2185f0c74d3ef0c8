"""The statistical check: its level, its power, and what must not disturb it."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from equirl import Symmetry
from equirl.envs import symmetry_of
from equirl.errors import SymmetryError
from equirl.verification.bounds import leaving
from equirl.verification.play import Play, collect
from equirl.verification.statistical import check_statistically, compare_initial_states
from equirl.verification.statistics.permutation import significance, units_of
from equirl.verification.statistics.scores import Scores
from equirl.verification.verdicts import Verdict
from equirl.verification.where import where


def _games() -> Any:
    """The small environments beside this file."""
    path = Path(__file__).with_name("games.py")
    spec = importlib.util.spec_from_file_location("games", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["games"] = module
    spec.loader.exec_module(module)
    return module


games = _games()


def verdicts_on(env: Any, count: int, seed: int = 0, **kwargs: Any) -> list[Verdict]:
    symmetry = Symmetry.from_generators(env.observation_space, env.action_space, env.mirror)
    played = collect(env, count, seed)
    return check_statistically(symmetry, "mirror", played, 0.05, seed=seed, **kwargs)


def refused(verdicts: list[Verdict]) -> set[str]:
    return {verdict.quantity for verdict in verdicts if verdict.outcome == "refused"}


@pytest.mark.long
def test_a_hidden_counter_that_ends_episodes_is_no_evidence() -> None:
    """Parity of a stretch's number was its place in the episode: refused seven times of seven."""
    runs = [verdicts_on(games.Catch(10), 3000, s, measure_sensitivity=False) for s in range(2)]
    assert sum(bool(refused(run)) for run in runs) <= 1


@pytest.mark.long
def test_visiting_one_side_only_is_no_evidence() -> None:
    walks = [games.Walk(starts_right=True, length=10) for _ in range(2)]
    runs = [verdicts_on(walk, 4000, s, measure_sensitivity=False) for s, walk in enumerate(walks)]
    assert sum(bool(refused(run)) for run in runs) <= 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("env", "quantity"),
    [
        pytest.param(games.Walk(noise=(0.3, 0.4)), "dynamics", id="another variance"),
        pytest.param(
            games.Walk(mixture=True), "dynamics", id="another mixture", marks=pytest.mark.slow
        ),
        pytest.param(
            games.Walk(push=0.5),
            "dynamics",
            id="in a twentieth of the states",
            marks=pytest.mark.slow,
        ),
        pytest.param(games.Walk(sparse=(1, 0.5)), "reward", id="a sparse reward"),
        pytest.param(games.Walk(end=(-9.0, 2.0)), "termination", id="an end"),
        pytest.param(games.ConnectFour(column_reward=0.1), "reward", id="one column of a board"),
    ],
)
def test_a_breach_is_refused(env: Any, quantity: str) -> None:
    assert quantity in refused(verdicts_on(env, 3000, measure_sensitivity=False))


@pytest.mark.long
def test_a_discrete_state_is_a_category() -> None:
    env = games.lake(games.HOLE_MOVED)
    symmetry = Symmetry.from_generators(env.observation_space, env.action_space, games.DIAGONAL)
    played = collect(env, 6000, 0)
    verdicts = check_statistically(symmetry, "t", played, 0.05, measure_sensitivity=False)
    assert "termination" in refused(verdicts)
    ended = next(v for v in verdicts if v.quantity == "termination").counter_example
    assert ended is not None
    assert any("of" in line for line in ended.tally)


@pytest.mark.long
def test_a_dict_is_compared_key_by_key() -> None:
    walk = games.Walk(push=1.0, as_dict=True)
    verdicts = verdicts_on(walk, 4000, measure_sensitivity=False)
    assert "dynamics" in refused(verdicts)
    assert "walk[0]" in next(v.detail for v in verdicts if v.quantity == "dynamics")


def test_the_broken_part_of_the_states_is_named() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(4000, 3))
    breach = 2.0 * (x[:, 1] > 1.5) + generator.normal(size=4000)
    names, halves = ["a", "b", "c"], np.arange(4000) % 2 == 0
    assert re.match(
        r"where b > 1\.[45]\d* \([5-9]% ", where(x, names, breach, np.ones(4000), halves)
    )
    assert where(x, names, generator.normal(size=4000), np.ones(4000), halves) == ""


@pytest.mark.long
def test_a_reward_that_was_never_seen_is_undecided() -> None:
    env = games.Walk(sparse=(0.0, 0.0))
    reward = next(
        v for v in verdicts_on(env, 1000, measure_sensitivity=False) if v.quantity == "reward"
    )
    assert reward.outcome == "undecided"


class Tour(gym.Env[Any, Any]):
    """A walk over many cells that begins on the left; mirrored, it is the same.

    Args:
        reward: at every step.
    """

    action_space = spaces.Discrete(2)
    cells, width = 400, 20
    mirror: ClassVar[dict[str, Any]] = {
        "mirror": ([c // 20 * 20 + 19 - c % 20 for c in range(400)], [1, 0])
    }
    observation_space = spaces.Discrete(cells)

    def __init__(self, reward: float = 0.0) -> None:
        self.reward = reward

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.row, self.column = int(self.np_random.integers(20)), int(self.np_random.integers(10))
        self.time = 0
        return self.row * 20 + self.column, {}

    def step(self, action: Any) -> Any:
        to_right = action if self.np_random.random() < 0.8 else 1 - action
        self.column = int(np.clip(self.column + 2 * to_right - 1, 0, 19))
        self.time += 1
        return self.row * 20 + self.column, self.reward, False, self.time == 8, {}


@pytest.mark.long
def test_one_sided_visits_of_more_states_than_are_looked_at_are_undecided() -> None:
    verdicts = verdicts_on(Tour(), 4000, measure_sensitivity=False)
    assert {v.outcome for v in verdicts} == {"undecided"}
    assert "visited on one side" in verdicts[0].detail


def test_a_goal_that_was_never_reached_is_undecided_whatever_steps_cost() -> None:
    class Costly(games.Walk):  # type: ignore[misc]
        def step(self, action: Any) -> Any:
            observation, _, _, _, info = super().step(action)
            self.count = getattr(self, "count", 0) + 1
            return observation, -1.0, False, self.count % 40 == 0, info

    found = {v.quantity: v for v in verdicts_on(Costly(), 2000, measure_sensitivity=False)}
    assert found["reward"].outcome == found["termination"].outcome == "undecided"
    assert "the reward was -1 at every step and no episode ended" in found["reward"].detail


def test_an_observation_that_never_changes_is_no_crash() -> None:
    class Still(games.Walk):  # type: ignore[misc]
        def step(self, action: Any) -> Any:
            _, reward, *rest = super().step(action)
            return np.zeros(self.observation_space.shape, np.float32), reward, *rest

        def reset(self, **arguments: Any) -> Any:
            return np.zeros(self.observation_space.shape, np.float32), super().reset(**arguments)[1]

    found = {v.quantity: v for v in verdicts_on(Still(), 1000, measure_sensitivity=False)}
    assert found["dynamics"].detail == "the observation never changed"


@pytest.mark.parametrize("reward", [np.nan, np.inf])
def test_a_reward_that_is_no_number_is_named(reward: float) -> None:
    with pytest.raises(SymmetryError, match=f"the reward was {reward} in step 0"):
        collect(Tour(reward), 500, 0)


def test_play_of_what_never_ends_is_cut_into_episodes() -> None:
    class Endless(Tour):
        def step(self, action: Any) -> Any:
            return *super().step(action)[:3], False, {}

    played = collect(Endless(), 6000, 0)
    assert played.episodes.max() + 1 == 24
    assert played.times.max() + 1 == 250


def test_a_level_below_every_p_value_is_undecided_where_nothing_else_would_show_it() -> None:
    played = collect(games.Walk(), 1000, 0)
    walk = games.Walk()
    symmetry = Symmetry.from_generators(walk.observation_space, walk.action_space, walk.mirror)
    found = check_statistically(symmetry, "mirror", played, 1e-4, measure_sensitivity=False)
    assert {v.outcome for v in found} == {"undecided"}


@pytest.mark.long
def test_what_holds_says_what_would_have_been_seen() -> None:
    verdicts = verdicts_on(games.Walk(), 6000)
    assert {v.outcome for v in verdicts} == {"holds"}
    dynamics = next(v for v in verdicts if v.quantity == "dynamics")
    assert "shifted by" in dynamics.detail


def test_without_overlap_it_is_undecided() -> None:
    env = gym.make("MountainCar-v0")
    elsewhere = Symmetry.from_generators(
        env.observation_space, env.action_space, {"mirror": (lambda s: -s - [3, 0], [2, 1, 0])}
    )
    verdicts = check_statistically(elsewhere, "mirror", collect(env, 2000, 0), 0.05)
    assert all(v.outcome == "undecided" and "overlap" in v.detail for v in verdicts)


def test_what_leaves_the_observation_space_is_named() -> None:
    lidars = spaces.Box(np.array([-1, 0, 0], np.float32), np.array([1, 4, 4], np.float32))
    both = spaces.Dict(lidars=lidars, height=spaces.Box(0, np.inf, (1,)), lamp=spaces.Discrete(2))
    for of_lidars, of_height, out in (
        ([0, 2, 1], None, ""),
        ([-1, -1, -1], None, "s['lidars'][1], s['lidars'][2]"),
        (None, [-1], ""),  # which has no bound to be beyond
    ):
        maps = {"lidars": of_lidars, "height": of_height, "lamp": None}
        declared = Symmetry.from_generators(both, spaces.Discrete(2), {"mirror": (maps, [1, 0])})
        assert leaving(declared, "mirror") == out


def test_too_few_transitions_are_undecided() -> None:
    assert {v.outcome for v in verdicts_on(games.Walk(), 100)} == {"undecided"}


def test_noise_in_place_of_evidence_is_significant_as_often_as_the_level_says() -> None:
    generator = np.random.default_rng(0)
    p_values = []
    for _ in range(60):
        sums = generator.normal(size=(80, 5))
        scores = [
            Scores(family, np.stack([part, -part]), np.zeros(part.shape[1]), one_sided)
            for family, part, one_sided in (
                ("averages", sums[:, :4], False),
                ("trees", sums[:, 4:], True),
            )
        ]
        p_values.append(significance(scores, 0.05, generator).p_values.min())
    assert np.mean(np.array(p_values) < 0.05) <= 0.15
    assert 0.2 < np.median(p_values) < 0.8


def test_where_one_episode_alone_says_anything_its_ties_are_no_evidence() -> None:
    sums = np.zeros((4, 30, 1))
    sums[:, 7, 0] = 0.3 * np.array([1, -1 / 3, -1 / 3, -1 / 3])
    result = significance(
        [Scores("counts", sums, np.zeros(1), True)], 0.05, np.random.default_rng(0)
    )
    assert result.p_values[0] == pytest.approx(0.25, abs=0.05)


def test_units_are_whole_episodes_where_there_are_enough() -> None:
    played = collect(games.Walk(length=40), 2000, seed=0)
    units = units_of(played, np.random.default_rng(0))
    assert not units.are_stretches
    assert all(len(np.unique(units.numbers[played.episodes == e])) == 1 for e in range(50))


def test_one_long_episode_is_cut_into_stretches() -> None:
    n = 3000
    zeros = np.zeros(n)
    played = Play(zeros, zeros.astype(int), zeros, zeros, zeros > 0, np.zeros(n, dtype=int))
    units = units_of(played, np.random.default_rng(0))
    assert units.are_stretches
    assert 24 <= units.count <= 60


def test_initial_states_are_compared_by_mean_and_spread() -> None:
    centred = np.random.default_rng(0).normal(size=(400, 2))
    assert compare_initial_states(np.stack([centred, -centred])) > 0.01
    shifted = centred + np.array([0.5, 0])
    assert compare_initial_states(np.stack([shifted, -shifted])) < 0.01
    wide = centred * [1, 3]
    assert compare_initial_states(np.stack([wide, wide[:, ::-1]])) < 0.01


def test_an_invariant_observation_has_symmetric_initial_states() -> None:
    states = np.random.default_rng(0).normal(size=(50, 3))
    assert compare_initial_states(np.stack([states, states])) == 1.0


@pytest.mark.long
def test_cartpole_with_a_weaker_push_is_refused_and_itself_holds() -> None:
    for wrapper, outcome in ((games.WeakRight, "refused"), (gym.Wrapper, "holds")):
        env = wrapper(gym.make("CartPole-v1"))
        played, symmetry = collect(env, 4000, 0), symmetry_of(env.unwrapped)
        verdicts = check_statistically(symmetry, "mirror", played, 0.05, measure_sensitivity=False)
        dynamics = next(verdict for verdict in verdicts if verdict.quantity == "dynamics")
        assert dynamics.outcome == outcome


def test_the_wrong_action_permutation_is_found() -> None:
    env = gym.make("CartPole-v1")
    wrong = Symmetry.from_generators(
        env.observation_space, spaces.Discrete(2), {"mirror": (np.negative, [0, 1])}
    )
    played = collect(env, 3000, 0)
    verdicts = check_statistically(wrong, "mirror", played, 0.05, measure_sensitivity=False)
    dynamics = next(verdict for verdict in verdicts if verdict.quantity == "dynamics")
    assert dynamics.outcome == "refused"
    assert dynamics.counter_example is not None
    assert dynamics.counter_example.moved_action == dynamics.counter_example.action
