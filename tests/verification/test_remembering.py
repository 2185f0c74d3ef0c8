"""The exact check behind wrappers that keep what went before, whose memory moves with the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from equirl.envs import symmetry_of
from equirl.envs.registry import registered_state_maps
from equirl.verification.exact import check_symmetry
from equirl.verification.verdicts import SymmetryReport
from shared.rarely import rarely


class Lagging(gym.ActionWrapper[Any, Any, Any]):
    """Carries out the action before; at first none."""

    last = 0

    def action(self, action: Any) -> Any:
        self.last, before = int(action), self.last
        return before


class OwnStack(gym.wrappers.FrameStackObservation[Any, Any, Any]):
    """May keep more than its frames."""


NEGATIVE: Any = {"mirror": (np.negative, [1, 0])}
KEEPING: dict[str, Callable[[Any], Any]] = {
    "frames": lambda env: gym.wrappers.FrameStackObservation(env, 3),
    "delayed": lambda env: gym.wrappers.DelayObservation(env, 2),
    "sticky": lambda env: gym.wrappers.StickyAction(env, 0.5),
    "several": lambda env: gym.wrappers.FlattenObservation(
        gym.wrappers.FrameStackObservation(
            gym.wrappers.DelayObservation(gym.wrappers.FrameStackObservation(env, 2), 1), 2
        )
    ),
}


def check_behind(
    wrap: Callable[[Any], Any],
    env_id: str,
    declaration: Any = None,
    transitions: int = 2000,
    **kwargs: Any,
) -> SymmetryReport:
    def make() -> Any:
        return wrap(gym.make(env_id, **kwargs))

    env = make()
    symmetry = symmetry_of(env, declaration)
    maps = registered_state_maps("CartPole-v1")
    return check_symmetry(env, symmetry, maps, make_env=make, transitions=transitions)


@pytest.mark.parametrize("name", KEEPING)
def test_what_gymnasiums_wrappers_keep_is_moved_with_the_state(name: str) -> None:
    report = check_behind(KEEPING[name], "CartPole-v1")
    moved = [verdict for verdict in report.verdicts if verdict.quantity != "initial states"]
    assert {verdict.method for verdict in moved} == {"exact"}
    assert all(verdict.holds and verdict.size == 0 for verdict in moved)
    assert report.holds


@pytest.mark.long
@pytest.mark.parametrize("name", rarely(["sticky", "several"], "sticky"))
def test_a_broken_symmetry_is_refused_behind_wrappers_that_keep_something(name: str) -> None:
    report = check_behind(KEEPING[name], "equirl/BrokenCartPole-v0", share=1.0)
    refused = [v.quantity for v in report.verdicts if v.outcome == "refused"]
    assert "dynamics" in refused


@pytest.mark.long
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda env: OwnStack(env, 2), id="subclass"),
        pytest.param(Lagging, id="own", marks=pytest.mark.slow),
    ],
)
def test_behind_a_wrapper_of_ones_own_that_remembers_nothing_is_compared_exactly(wrap: Any) -> None:
    report = check_behind(wrap, "CartPole-v1", NEGATIVE, transitions=500)
    assert {verdict.method for verdict in report.verdicts} == {"statistical"}
    assert "Stack" in report.remarks[0] or "Lagging" in report.remarks[0]


@pytest.mark.long
def test_a_symmetry_of_stacked_frames_that_is_not_that_of_each_is_not_compared_exactly() -> None:
    def backwards(frames: Any) -> Any:
        return -frames[::-1]

    stack = KEEPING["frames"]
    report = check_behind(stack, "CartPole-v1", {"mirror": (backwards, [1, 0])}, 500)
    assert {verdict.method for verdict in report.verdicts} == {"statistical"}
    report = check_behind(stack, "CartPole-v1", NEGATIVE)
    assert report.holds, "the same as of each frame, but said of all of them"
    assert {"exact"} <= {verdict.method for verdict in report.verdicts}
