"""Wrappers that may break a symmetry are refused with what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import (
    DtypeObservation,
    FlattenObservation,
    FrameStackObservation,
    RescaleObservation,
)
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnvWrapper,
    VecFrameStack,
)

from equirl.agents import SymmetricVecNormalize
from equirl.envs import symmetry_of
from equirl.errors import SymmetryError
from shared.carried_tasks import FLOAT, STACK, TASKS, Env, assert_carried, told


@pytest.mark.parametrize("task", ["offset", "negative-image", "multi-binary"])
def test_padding_that_moves_is_refused(task: str) -> None:
    assert symmetry_of(STACK(told(task))).group.order == 2
    env = FrameStackObservation(told(task), 2, padding_type="zero")
    with pytest.raises(SymmetryError, match=r"padding that g does not leave in place: use .*reset"):
        symmetry_of(env)
    if isinstance(TASKS[task].space, spaces.Box):
        with pytest.raises(SymmetryError, match="padding that g does not leave in place"):
            symmetry_of(VecFrameStack(DummyVecEnv([lambda: told(task)]), 2))


def test_padding_of_ones_own_that_stays_is_taken() -> None:
    centre = np.full(3, 3, np.float32)
    assert_carried("offset", lambda env: FrameStackObservation(env, 3, padding_type=centre))
    with pytest.raises(SymmetryError, match="padding"):
        symmetry_of(FrameStackObservation(told("offset"), 3, padding_type=centre + 1))


@pytest.mark.parametrize(
    ("make_env", "message"),
    [
        (
            lambda: FlattenObservation(told("dict-with-discrete")),
            r"observation\['place'\], a Discrete, into another encoding",
        ),
        (lambda: FlattenObservation(told("discrete")), "the observation, a Discrete, into another"),
        (lambda: FLOAT(told("renamed")), "renames whole numbers"),
        (
            lambda: RescaleObservation(told("image"), 0, 1),
            r"into the same uint8: put DtypeObservation\(env, np.float32\) inside",
        ),
        (
            lambda: DtypeObservation(told("offset"), np.int32),
            "DtypeObservation cuts float32 off to int32",
        ),
        (
            lambda: DtypeObservation(told("turn"), np.int32),
            "DtypeObservation cuts float32 off to int32",
        ),
    ],
    ids=["flat-dict", "flat-discrete", "renamed", "rescaled-bytes", "cut-offset", "cut-turn"],
)
def test_what_cannot_be_carried_is_refused(make_env: Callable[[], Env], message: str) -> None:
    with pytest.raises(SymmetryError, match=message) as caught:
        symmetry_of(make_env())
    assert "\n" not in str(caught.value)


class Passing(VecEnvWrapper):
    """A user's own vectorized wrapper: who knows what it does."""

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        return self.venv.step_wait()


def test_a_wrapper_around_one_that_knows_its_symmetry_is_not_taken_for_it() -> None:
    # SB3's wrappers answer for what is inside them: getattr finds it there.
    inside = SymmetricVecNormalize(DummyVecEnv([lambda: told("vector")]))
    assert Passing(inside).carry_symmetry is not None
    with pytest.raises(SymmetryError, match="Passing may change observations"):
        symmetry_of(Passing(inside))
    assert symmetry_of(VecFrameStack(inside, 2)).observation_space.shape == (8,)
