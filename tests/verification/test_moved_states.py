"""What is compared where an environment can be put into moved states, and what that says."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils import EzPickle

from equirl import Symmetry
from equirl.envs.running.random_states import renew_random_states
from equirl.verification import check_symmetry
from equirl.verification.moved_states.two_samples import (
    energy,
    p_value,
    relabelled,
    relabellings,
    shifts,
)
from equirl.verification.verdicts import SymmetryReport, Verdict


class Walk(gym.Env[Any, Any]):
    """Steps along a line, mirrored at 0, to which `blown` adds."""

    observation_space = spaces.Box(-1e3, 1e3, (1,))
    action_space = spaces.Discrete(2)
    length = 50

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.t = float(self.np_random.normal()), 0
        return self.seen(), {}

    def seen(self) -> Any:
        return np.array([self.x], np.float32)

    def step(self, action: Any) -> Any:
        self.x, self.t = 0.8 * self.x + 2 * int(action) - 1 + self.blown(), self.t + 1
        return self.seen(), self.paid(), False, self.t >= self.length, {}

    def blown(self) -> float:
        return float(self.np_random.normal())

    def paid(self) -> float:
        return float(np.cos(self.x))


class Rare(Walk):
    """Gusts in few steps, to either side."""

    def blown(self) -> float:
        return 3.0 * self.np_random.choice([-1, 1]) * (self.np_random.random() < 0.02)


class OneSided(Walk):
    """Gusts to the right in a few steps, in every state."""

    def blown(self) -> float:
        return super().blown() + 3.0 * (self.np_random.random() < 0.03)


class Pickled(Walk, EzPickle):
    """Is copied as if it were new."""

    def __init__(self) -> None:
        EzPickle.__init__(self)


class OfItsOwn(Walk):
    """Draws from a generator that Gymnasium does not know."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.dice = np.random.default_rng(seed)
        return super().reset(seed=seed)

    def blown(self) -> float:
        return float(self.dice.normal())


class Drift(Walk):
    """A wind to the right everywhere."""

    def blown(self) -> float:
        return super().blown() + 3.0


class Late(Walk):
    """A wind to the right from step 70 on, which is seen."""

    observation_space = spaces.Box(-1e3, 1e3, (2,))
    length = 200

    def seen(self) -> Any:
        return np.array([self.x, self.t / 100], np.float32)

    def blown(self) -> float:
        return 3.0 * (self.t >= 70)


class Unpaid(Walk):
    """Nothing is ever drawn or paid."""

    def blown(self) -> float:
        return 0.0

    def paid(self) -> float:
        return 0.0


class Ends(gym.Env[Any, Any]):
    """From 1 the outer cell ends the episode, from 3 the middle one; a coin says which comes."""

    observation_space = spaces.Discrete(5)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = int(self.np_random.choice([1, 3])) - 2
        return self.x + 2, {}

    def step(self, action: Any) -> Any:
        came_from, coin = self.x, self.np_random.random() < 0.5
        if came_from in (-1, 1):
            self.x = 0 if coin else 2 * came_from
        else:
            self.x = int(np.sign(came_from)) if came_from else (-1 if coin else 1)
        over = (came_from == -1 and self.x != 0) or (came_from == 1 and self.x == 0)
        return self.x + 2, float(self.x == 0), over, False, {}


class Whole(gym.Env[Any, Any]):
    """Large whole numbers: two steps to the right, one to the left."""

    observation_space = spaces.Box(-(2**20), 2**20, (1,), np.int64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = int(self.np_random.integers(2**18, 2**19))
        return np.array([self.x]), {}

    def step(self, action: Any) -> Any:
        self.x += 2 if action else -1
        return np.array([self.x]), 1.0, False, False, {}


class Reused(Walk):
    """Writes every observation into one array."""

    def __init__(self) -> None:
        self.array = np.zeros(1, np.float32)

    def seen(self) -> Any:
        self.array[:] = self.x
        return self.array

    def blown(self) -> float:
        return 0.5 * (self.x > 0.3)


SIGNS = {Late: [-1, 1], Ends: [4, 3, 2, 1, 0]}


def turn_round(env: Any) -> None:
    env.x = -env.x


def checked(env: gym.Env[Any, Any], **options: Any) -> SymmetryReport:
    declared = {"mirror": (SIGNS.get(type(env), [-1]), [1, 0])}
    symmetry = Symmetry.from_generators(env.observation_space, env.action_space, declared)
    given = {"transitions": 2000, **options}
    return check_symmetry(env, symmetry, {"mirror": turn_round}, **given)


def of(report: SymmetryReport, quantity: str) -> Verdict:
    return next(v for v in report.verdicts if v.quantity == quantity)


@pytest.mark.parametrize("kind", [Rare, Pickled, OfItsOwn])
def test_a_true_symmetry_of_what_is_drawn_holds_whatever_it_is_drawn_from(
    kind: type[Walk],
) -> None:
    report = checked(kind())
    assert report.outcome == "holds"
    assert {v.method for v in report.verdicts[:3]} <= {"fresh draws", "exact"}


@pytest.mark.long
def test_fresh_draws_can_refuse_at_a_small_level() -> None:
    verdict = of(checked(Drift(), level=0.005), "dynamics")
    assert (verdict.method, verdict.outcome) == ("fresh draws", "refused")
    assert verdict.size < 0.005


def test_a_level_below_every_p_value_is_undecided() -> None:
    report = checked(Drift(), level=1e-5)
    assert {v.outcome for v in report.verdicts[:3]} == {"undecided"}
    assert "no p-value could be below" in report.verdicts[0].detail


@pytest.mark.parametrize("tests", [1, 4])
@pytest.mark.parametrize("level", [0.05, 0.01, 1e-3])
def test_as_many_relabellings_as_a_refusal_needs(level: float, tests: int) -> None:
    count = relabellings(level, tests)
    assert count is not None
    assert 3 * tests / (count + 1) < level


def test_of_large_images_the_shifts_are_left_out() -> None:
    generator = np.random.default_rng(0)
    labels = relabelled(60, 999, generator)
    assert shifts(generator.normal(size=(120, 2500)), labels).shape == (1000, 5000)
    none = shifts(np.zeros((120, 84 * 84)), labels)
    assert none.shape == (1000, 0)
    assert p_value([energy(generator.normal(size=(120, 3)), labels)], none) > 0.01


def test_what_is_rare_in_every_state_is_refused_by_all_states_together() -> None:
    assert of(checked(OneSided()), "dynamics").outcome == "refused"


def test_outcomes_that_are_alike_one_by_one_but_not_together_are_refused() -> None:
    report = checked(Ends())
    verdict = of(report, "dynamics")
    assert (verdict.method, verdict.outcome) == ("fresh draws", "refused")
    assert "not together" in verdict.detail
    assert of(report, "termination").outcome == "holds"
    here, there = verdict.counter_example.tally  # type: ignore[union-attr]
    assert here.split(":", 1)[1] != there.split(":", 1)[1]


def test_a_break_late_in_episodes_is_found() -> None:
    report = checked(Late(), transitions=8000)
    assert of(report, "dynamics").outcome == "refused"


def test_what_was_looked_at_stands_beside_what_holds() -> None:
    report = checked(Unpaid(), transitions=4000)
    assert "of episodes" in of(report, "dynamics").detail
    assert of(report, "dynamics").outcome == "holds"
    assert "no episode ended" in of(report, "termination").detail
    assert of(report, "reward").outcome == "undecided"
    assert of(report, "reward").detail.startswith("no reward was seen")


class Touches(Walk):
    """Nothing is drawn, but a few steps err."""

    def blown(self) -> float:
        return 0.05 * (self.t == 30 and self.x > 2.2)


@pytest.mark.parametrize(("tolerance", "outcome"), [(5e-3, "holds"), (1e-4, "refused")])
def test_a_simulator_that_errs_may_do_so_in_few_steps(tolerance: float, outcome: str) -> None:
    verdict = of(checked(Touches(), transitions=16_000, tolerance=tolerance), "dynamics")
    assert (verdict.method, verdict.outcome) == ("exact", outcome)
    if outcome == "holds":
        assert "steps differ by more than 0.005" in verdict.detail


def test_draws_are_renewed_where_a_state_map_has_put_mirrored_ones() -> None:
    class Mirrored:
        def __init__(self, generator: Any) -> None:
            self.generator = generator

    env = Walk()
    env.reset(seed=0)
    env.np_random = Mirrored(env.np_random)  # type: ignore[assignment]
    renew_random_states(env, np.random.SeedSequence(1))
    first = env.np_random.random()
    renew_random_states(env, np.random.SeedSequence(2))
    assert env.np_random.random() != first


def test_whole_numbers_are_compared_exactly_however_large() -> None:
    verdict = of(checked(Whole()), "dynamics")
    assert (verdict.method, verdict.outcome) == ("exact", "refused")


def test_an_observation_that_is_written_over_is_shown_as_it_was() -> None:
    report = checked(Reused())
    example = of(report, "dynamics").counter_example
    assert example is not None
    assert example.observation != example.next_observation
    assert of(report, "initial states").outcome == "holds"


def test_no_state_is_looked_at_after_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    class Watched(Drift):
        def step(self, action: Any) -> Any:
            steps.append(1)
            return super().step(action)

    monkeypatch.setattr(time, "monotonic", lambda: 100.0 if len(steps) > 3000 else 0.0)
    assert of(checked(Watched(), seconds=50.0), "dynamics").looked_at < 40
