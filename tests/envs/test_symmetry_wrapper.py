"""The symmetry of an environment is found through its wrappers, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import (
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    TimeLimit,
    TransformAction,
    TransformObservation,
)
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnvWrapper,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from equirl import Symmetry
from equirl.envs import (
    RandomTransformWrapper,
    SymmetryWrapper,
    TransformWrapper,
    symmetry_of,
)
from equirl.errors import SymmetryError
from shared.wrapped_envs import GRID, Env, cartpole, gridworld, states


def test_the_symmetry_wrapper_changes_nothing() -> None:
    actions = [0, 1, 1, 0, 1]
    for here, there in zip(
        states(cartpole(), actions), states(SymmetryWrapper(cartpole()), actions), strict=True
    ):
        np.testing.assert_array_equal(here, there)


TRANSPARENT: dict[str, Callable[[Env], Any]] = {
    "as made": lambda env: env,
    "TimeLimit": lambda env: TimeLimit(env, 10),
    "Monitor": Monitor,
    "RecordEpisodeStatistics": RecordEpisodeStatistics,
    "NormalizeReward": NormalizeReward,
    "Monitor of statistics": lambda env: Monitor(RecordEpisodeStatistics(TimeLimit(env, 10))),
    "RandomTransformWrapper": RandomTransformWrapper,
    "DummyVecEnv": lambda env: DummyVecEnv([lambda: env]),
    "VecMonitor": lambda env: VecMonitor(DummyVecEnv([lambda: env])),
    "VecNormalize of rewards": lambda env: VecNormalize(DummyVecEnv([lambda: env]), norm_obs=False),
}


@pytest.mark.parametrize("wrapped", TRANSPARENT.values(), ids=TRANSPARENT.keys())
def test_the_symmetry_is_found_through_wrappers_that_hand_it_on(
    wrapped: Callable[[Env], Any],
) -> None:
    assert symmetry_of(wrapped(gridworld())) == GRID
    declared = SymmetryWrapper(gridworld(), {"turn": (np.rot90, [3, 0, 1, 2])})
    assert symmetry_of(wrapped(declared)) == declared.symmetry


def test_the_symmetry_of_an_unwrapped_environment_is_found() -> None:
    assert symmetry_of(gridworld().unwrapped) == GRID


def test_the_symmetry_is_found_through_sb3_turning_images() -> None:
    envs = VecTransposeImage(DummyVecEnv([gridworld, gridworld]))
    assert envs.observation_space.shape == (3, 4, 4)
    # As the environment shows them; the policy turns it itself.
    assert symmetry_of(envs) == GRID


def test_the_outermost_declaration_counts() -> None:
    turn = {"turn": (np.rot90, [3, 0, 1, 2])}
    env = SymmetryWrapper(SymmetryWrapper(gridworld()), turn)
    assert symmetry_of(env).group.names == ("e", "turn", "turn²", "turn³")
    assert symmetry_of(SymmetryWrapper(SymmetryWrapper(gridworld(), turn))).group.order == 4


def inverted(env: Env) -> Env:
    """By a function that nothing is known about."""
    return TransformObservation(env, np.negative, env.observation_space)


class Upside(VecEnvWrapper):
    """A vectorized wrapper of a user's own."""

    def reset(self) -> Any:
        return -self.venv.reset()

    def step_wait(self) -> Any:
        observations, *rest = self.venv.step_wait()
        return (-observations, *rest)


def test_a_declaration_outside_covers_whatever_is_inside() -> None:
    inside = NormalizeObservation(cartpole())
    with pytest.raises(SymmetryError, match=r"SymmetryWrapper\(NormalizeObservation\(…\)"):
        symmetry_of(inside)
    assert symmetry_of(SymmetryWrapper(inside, {})).group.order == 1


@pytest.mark.parametrize(
    ("make_env", "message"),
    [
        (lambda: inverted(cartpole()), "TransformObservation may change observations"),
        (
            lambda: TransformAction(cartpole(), lambda a: 1 - a, spaces.Discrete(2)),
            "TransformAction may change observations or actions",
        ),
        (
            lambda: TransformWrapper(NormalizeObservation(cartpole()), 1),
            "NormalizeObservation may change observations",
        ),
        (
            lambda: DummyVecEnv([lambda: NormalizeObservation(SymmetryWrapper(cartpole()))]),
            "NormalizeObservation may change observations",
        ),
        (
            lambda: Upside(DummyVecEnv([cartpole])),
            r"Upside may change observations .*policy_kwargs=dict\(symmetry=Symmetry\.from",
        ),
        (
            lambda: VecNormalize(DummyVecEnv([cartpole])),
            "VecNormalize .*: use equirl.agents.SymmetricVecNormalize .*, or norm_obs",
        ),
    ],
    ids=["function", "action", "transformed", "vectorized", "vec-wrapper", "VecNormalize"],
)
def test_a_wrapper_that_may_break_the_symmetry_is_refused_by_name(
    make_env: Callable[[], Any], message: str
) -> None:
    with pytest.raises(SymmetryError, match=message):
        symmetry_of(make_env())


def test_a_symmetry_of_other_spaces_is_refused() -> None:
    with pytest.raises(SymmetryError, match=r"was declared for observations in .* has Box"):
        SymmetryWrapper(cartpole(), GRID)
    symmetry = Symmetry.trivial(cartpole().observation_space, spaces.Discrete(3))
    with pytest.raises(SymmetryError, match=r"actions in Discrete\(3\), .* has Discrete\(2\)"):
        SymmetryWrapper(cartpole(), symmetry)


def test_the_symmetry_given_to_a_transform_wrapper_is_found_again() -> None:
    mirror = {"mirror": (np.negative, [2, 1, 0])}
    env = TransformWrapper(gym.make("MountainCar-v0"), "mirror", mirror)
    assert symmetry_of(env) == env.symmetry
