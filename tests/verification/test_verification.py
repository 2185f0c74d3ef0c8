"""`check_symmetry`: exact where the environment can be moved, and a counter-example where wrong."""

from __future__ import annotations

import itertools
import re
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv

from equirl import GroupAction, Symmetry
from equirl.envs import registered_ids, symmetry_of
from equirl.envs.boards.grid_world import mirror_left_right, rotate_90
from equirl.envs.registry import registered_state_maps
from equirl.errors import SymmetryError
from equirl.groups import cyclic
from equirl.verification.exact import check_symmetry, equivariance_error
from equirl.verification.law import check_law, law_of
from equirl.verification.verdicts import SymmetryReport, Verdict
from shared.rarely import rarely

OURS = ["CartPole-v1", "Acrobot-v1", "equirl/GridWorld-v0", "equirl/Snake-v0"]


def failures(verdicts: list[Verdict]) -> set[tuple[str, str]]:
    return {(v.generator, v.quantity) for v in verdicts if not v.holds}


@pytest.mark.parametrize("env_id", rarely(OURS, "Acrobot-v1", "equirl/GridWorld-v0"))
def test_every_symmetry_of_ours_holds_exactly(env_id: str) -> None:
    env = gym.make(env_id)
    report = check_symmetry(
        env, symmetry_of(env), registered_state_maps(env_id), transitions=4000, level=1e-6
    )
    assert report.holds
    exact = [verdict for verdict in report.verdicts if verdict.method == "exact"]
    assert len(exact) == 3 * len(registered_state_maps(env_id))
    assert all(verdict.looked_at >= 20 and verdict.counter_example is None for verdict in exact)


def test_every_registered_environment_of_ours_is_checked() -> None:
    assert set(OURS) <= set(registered_ids())


@pytest.mark.long
def test_cartpole_with_the_actions_not_swapped_fails_with_numbers_to_confirm() -> None:
    env = gym.make("CartPole-v1")
    wrong = Symmetry.from_generators(
        env.observation_space, env.action_space, {"mirror": (np.negative, [0, 1])}
    )
    report = check_symmetry(env, wrong, registered_state_maps("CartPole-v1"), transitions=3000)
    assert not report.holds
    dynamics = next(v for v in report.verdicts if v.quantity == "dynamics" and not v.holds)
    example = dynamics.counter_example
    assert example is not None
    # By hand: set the simulator to gs and take ga.
    simulator: Any = env.unwrapped
    simulator.state = np.asarray(example.moved_observation, dtype=np.float64)
    simulator.steps_beyond_terminated = None
    truth = simulator.step(example.moved_action)[0]
    assert np.allclose(truth, example.found, atol=1e-4)
    assert not np.allclose(truth, example.expected, atol=1e-2)


class Line(gym.Env[Any, Any]):
    """A walk on a line; going right pays, but only as the first step of an episode."""

    observation_space = spaces.Box(-1e3, 1e3, (1,))
    action_space = spaces.Discrete(2)

    def reset(self, **kwargs: Any) -> Any:
        super().reset(seed=kwargs.get("seed"))
        self.x, self.time = self.np_random.uniform(-1, 1), 0
        return np.array([self.x], np.float32), {}

    def step(self, action: Any) -> Any:
        self.x += 2 * action - 1
        self.time += 1
        reward = float(action == 1 and self.time == 1)
        return np.array([self.x], np.float32), reward, False, False, {}


def turn_round(line: Any) -> None:
    line.x = -line.x


def checked_line(transitions: int) -> SymmetryReport:
    mirror = Symmetry.from_generators(
        Line.observation_space, Line.action_space, {"mirror": ([-1], [1, 0])}
    )
    return check_symmetry(Line(), mirror, {"mirror": turn_round}, transitions=transitions)


class Gauges(gym.Env[Any, Any]):
    """x and v on a line, behind gauges of other sizes, and one that shows nothing.

    Args:
        gauges: from (x, v) to the observation.
        reward: from x to the reward.
    """

    action_space = spaces.Discrete(3)

    def __init__(self, gauges: Any, reward: Any) -> None:
        self.gauges, self.reward = gauges, reward
        self.observation_space = spaces.Box(-np.inf, np.inf, gauges(0.0, 0.0).shape, np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self.x, self.v = self.np_random.uniform(-1, 1), 0.0
        return self.gauges(self.x, self.v), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Any]:
        self.v = 0.8 * self.v + 0.1 * (int(action) - 1)
        self.x += self.v
        return self.gauges(self.x, self.v), self.reward(self.x), abs(self.x) > 2, False, {}

    def turn(self) -> None:
        self.x, self.v = -self.x, -self.v


@pytest.mark.long
@pytest.mark.parametrize(
    ("gauges", "signs", "reward", "failing"),
    [
        (lambda x, v: np.array([x / 100, v / 100, 1000]), (-1, 1, 1), np.cos, "dynamics"),
        (lambda x, v: np.array([x / 100, v / 100, 1000]), (-1, -1, 1), np.cos, None),
        (lambda x, v: np.array([x, v, np.inf]), (-1, 1, 1), np.cos, "dynamics"),
        (lambda x, v: np.array([x, v, np.inf]), (-1, -1, 1), np.cos, None),
        (lambda x, v: np.array([x, v, np.nan]), (-1, -1, 1), np.cos, None),
        (lambda x, v: np.array([x, np.inf if x > 0 else 1.0]), (-1, 1), np.cos, "dynamics"),
        (lambda x, v: np.array([x, v]), (-1, -1), lambda x: 5e-5 * (x > 0), "reward"),
        (lambda x, v: np.array([x, v, 1e-9 * x]), (-1, -1, 1), np.cos, None),  # rounding of x
    ],
)
def test_small_and_infinite_entries_are_compared_for_themselves(
    gauges: Any, signs: tuple[int, ...], reward: Any, failing: str | None
) -> None:
    env = Gauges(gauges, reward)
    declared = Symmetry.from_generators(
        env.observation_space, env.action_space, {"mirror": (list(signs), [2, 1, 0])}
    )
    report = check_symmetry(
        env,
        declared,
        {"mirror": Gauges.turn},
        make_env=lambda: Gauges(gauges, reward),
        transitions=2000,
        level=1e-6,
    )
    exact = [v for v in report.verdicts if v.method == "exact"]
    assert {v.quantity for v in exact if not v.holds} == ({failing} if failing else set())
    assert len(exact) == 3


def test_what_only_the_first_step_of_an_episode_breaks_is_found() -> None:
    report = checked_line(transitions=20_000)
    assert failures(report.verdicts) == {("mirror", "reward")}
    assert report.is_refuted


def test_a_check_that_compared_nothing_neither_holds_nor_refutes() -> None:
    report = checked_line(transitions=1)
    exact = [verdict for verdict in report.verdicts if verdict.method == "exact"]
    assert len(exact) == 3
    assert not any(verdict.is_verified or verdict.holds for verdict in exact)
    assert not report.holds
    assert not report.is_refuted


@pytest.mark.long
def test_grid_world_with_a_rotation_sent_to_the_wrong_move_fails_for_that_generator_only() -> None:
    env = gym.make("equirl/GridWorld-v0")
    wrong = Symmetry.from_generators(
        env.observation_space,
        env.action_space,
        {"r": (rotate_90, [1, 2, 3, 0]), "s": (mirror_left_right, [0, 3, 2, 1])},
    )
    maps = registered_state_maps("equirl/GridWorld-v0")
    report = check_symmetry(env, wrong, maps, transitions=4000, level=1e-6)
    assert ("r", "dynamics") in failures(report.verdicts)
    assert not any(generator == "s" for generator, _ in failures(report.verdicts))


@pytest.mark.long
@pytest.mark.parametrize(
    ("env_id", "generators"),
    [
        ("MountainCar-v0", {"mirror": (np.negative, [2, 1, 0])}),
        pytest.param(
            "Acrobot-v1",
            {"mirror": ([1, -1, 1, -1, -1, 1], [2, 1, 0])},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["a hill that is not symmetric", "one sign wrong"],
)
def test_a_black_box_without_the_symmetry_is_refused(env_id: str, generators: Any) -> None:
    env = gym.make(env_id)
    wrong = Symmetry.from_generators(env.observation_space, env.action_space, generators)
    report = check_symmetry(env, wrong, transitions=6000)
    assert ("mirror", "dynamics") in failures(report.verdicts)
    assert not report.holds
    assert all(verdict.method == "statistical" for verdict in report.verdicts)


def test_asymmetric_initial_states_do_no_harm() -> None:
    class StartsRight(gym.Wrapper[Any, Any, Any, Any]):
        def reset(self, **kwargs: Any) -> Any:
            _, info = self.env.reset(**kwargs)
            simulator: Any = self.unwrapped
            simulator.state = np.array([0.0, 0.0, 0.1, 0.3])
            return np.array([0.0, 0.0, 0.1, 0.3], dtype=np.float32), info

    env = StartsRight(gym.make("CartPole-v1"))
    report = check_symmetry(env, symmetry_of(env.unwrapped), transitions=3000)
    assert report.outcome == "undecided"  # the pole never falls to the left
    assert "overlap" in str(report)
    refused = {v.quantity for v in report.verdicts if v.outcome == "refused"}
    assert refused == {"initial states"}


class Coin(gym.Env[Any, Any]):
    """A walk on a line whose steps are drawn, with a drift beyond 5; no state map mirrors draws."""

    observation_space = spaces.Box(-1e3, 1e3, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, drift: float) -> None:
        self.drift = drift

    def reset(self, **kwargs: Any) -> Any:
        super().reset(seed=kwargs.get("seed"))
        self.x = float(self.np_random.normal())
        return np.array([self.x], np.float32), {}

    def step(self, action: Any) -> Any:
        reward = np.cos(self.x)
        drift = -self.drift * (self.x > 2)
        self.x = 0.8 * self.x + drift + 2 * int(action) - 1 + float(self.np_random.normal())
        return np.array([self.x], np.float32), reward, False, False, {}


@pytest.mark.long
@pytest.mark.parametrize(("drift", "outcome"), [(0.0, "holds"), (3.0, "refused")])
def test_draws_need_not_be_mirrored(drift: float, outcome: str) -> None:
    mirror = Symmetry.from_generators(
        Line.observation_space, Line.action_space, {"mirror": ([-1], [1, 0])}
    )
    report = check_symmetry(
        Coin(drift), mirror, {"mirror": turn_round}, transitions=4000, level=0.01
    )
    assert report.outcome == outcome
    assert {v.method for v in report.verdicts[:3]} == {"fresh draws"}
    assert report.remarks
    if outcome == "refused":  # a breach at s is one at gs
        assert re.match(r"where s\[0\] (> 1|> 2|≤ -1|≤ -2)", report.verdicts[0].detail)


@pytest.mark.long
def test_the_broken_cells_of_a_board_are_shown() -> None:
    env = gym.make("equirl/BrokenGridWorld-v0", size=7, broken_by="wall", share=0.2)
    mirror = Symmetry.from_generators(
        env.observation_space, env.action_space, {"s": (mirror_left_right, [0, 3, 2, 1])}
    )
    maps = {"s": registered_state_maps("equirl/BrokenGridWorld-v0")["s"]}
    report = check_symmetry(env, mirror, maps, transitions=16_000)
    board = report.verdicts[0].board
    assert board is not None
    broken = np.nan_to_num(board.shares) > 0
    # A wall of five cells between the columns 4 and 5, and its image.
    assert np.flatnonzero(broken.any(axis=0)).tolist() == [1, 2, 4, 5]
    assert not broken[5:].any()
    assert "where, by the cell with s[:, :, 1] = 255" in str(report)


def test_an_interruption_leaves_the_verdicts_so_far() -> None:
    steps = itertools.count()

    def interrupt() -> None:
        if next(steps) == 1500:
            raise KeyboardInterrupt

    env = gym.make("equirl/GridWorld-v0")
    report = check_symmetry(
        env,
        symmetry_of(env),
        registered_state_maps("equirl/GridWorld-v0"),
        transitions=10_000,
        on_step=interrupt,
    )
    r, s = report.verdicts[0], report.verdicts[3]
    assert (r.generator, r.outcome, s.generator) == ("r", "holds", "s")
    assert s.detail == "interrupted"
    assert report.outcome == "undecided"


@pytest.mark.parametrize(
    ("desc", "outcome"),
    [
        (["SFFF", "FHFF", "FFHF", "FFFG"], "holds"),
        (["SFFF", "FHFF", "FFHF", "FFHG"], "refused"),
    ],
)
def test_a_known_law_is_compared_whole(desc: list[str], outcome: str) -> None:
    lake = gym.make("FrozenLake-v1", desc=desc)
    symmetry = Symmetry.from_generators(
        lake.observation_space,
        lake.action_space,
        {"t": (lambda s: s % 4 * 4 + s // 4, [3, 2, 1, 0])},
    )
    report = check_symmetry(lake, symmetry)
    assert report.outcome == outcome
    assert {v.method for v in report.verdicts} == {"law"}
    if outcome == "refused":
        assert "14 of 52" in str(report)


def test_a_law_that_a_wrapper_changes_is_not_used() -> None:
    lake = gym.make("FrozenLake-v1")
    assert law_of(lake) is not None
    assert law_of(gym.wrappers.TransformReward(lake, lambda reward: 2 * reward)) is None


class Prize(FrozenLakeEnv):
    """A reward that the law knows nothing of."""

    def step(self, a: Any) -> Any:
        state, reward, *rest = super().step(a)
        return state, reward + 0.5 * (state == 5), *rest


class Biased(FrozenLakeEnv):
    """Slips that the law calls even."""

    def step(self, a: Any) -> Any:
        outcomes = self.P[self.s][a]
        likely = 0 if self.np_random.random() < 0.6 else int(self.np_random.integers(3))
        _, self.s, reward, over = outcomes[likely]
        return int(self.s), reward, over, False, {}


@pytest.mark.parametrize("kind", [Prize, Biased])
def test_a_law_that_the_environment_does_not_keep_to_is_not_used(kind: type[FrozenLakeEnv]) -> None:
    assert law_of(FrozenLakeEnv(map_name="8x8")) is not None
    assert law_of(kind(map_name="8x8")) is None


def test_a_law_that_differs_only_jointly_shows_joint_outcomes() -> None:
    lake = FrozenLakeEnv(desc=["SF", "FG"])
    half = 0.5
    for a in range(4):
        lake.P[1][a] = [(half, 0, 0.0, False), (half, 3, 1.0, True)]
        lake.P[2][a] = [(half, 0, 1.0, True), (half, 3, 0.0, False)]
        lake.P[0][a] = [(half, 1, 0.0, False), (half, 2, 0.0, False)]
    declared = {"t": ([0, 2, 1, 3], [3, 2, 1, 0])}
    symmetry = Symmetry.from_generators(lake.observation_space, lake.action_space, declared)
    verdicts, lines = check_law(lake, lake.P, symmetry, "t")
    assert [v.outcome for v in verdicts] == ["refused", "holds", "holds"]
    here, there = lines[1].split("; at gs")
    assert "s' = 3 with reward 1 at the end (0.5)" in here
    assert "s' = 3 with reward 0 (0.5)" in there


def test_an_empty_declaration_does_not_hold() -> None:
    report = check_symmetry(
        gym.make("CartPole-v1"), Symmetry.trivial(Line.observation_space, Line.action_space)
    )
    assert report.outcome == "undecided"
    assert "nothing to check" in str(report)


def test_a_state_map_for_another_generator_is_refused() -> None:
    env = gym.make("CartPole-v1")
    with pytest.raises(SymmetryError, match="turn"):
        check_symmetry(env, symmetry_of(env), {"turn": turn_round})


def test_what_there_is_no_time_for_is_undecided() -> None:
    env = gym.make("Acrobot-v1")
    report = check_symmetry(env, symmetry_of(env), transitions=100_000, seconds=0.2)
    assert report.outcome == "undecided"


def test_equivariance_error_is_the_largest_over_all_elements() -> None:
    turns = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    turn = GroupAction.on_vectors(cyclic(3), permutations=turns)
    x = torch.tensor([[1.0, 2.0, 4.0]])
    assert equivariance_error(lambda y: 2 * y, turn, turn, x) == 0
    # f(gx)₀ = (gx)₀ for f = first entry alone, g·f(x) moves it: |4 − 0|, |1 − 0| …
    first = torch.tensor([1.0, 0.0, 0.0])
    assert equivariance_error(lambda y: y * first, turn, turn, x) == 4
