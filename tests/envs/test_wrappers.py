"""The wrappers as Gymnasium's: checked, made again from a spec, pickled."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

from equirl.envs import (
    RandomTransformWrapper,
    SymmetryWrapper,
    TransformWrapper,
)
from shared.wrapped_envs import Env, cartpole, gridworld, states


@pytest.mark.covering(1)
@pytest.mark.parametrize(
    "wrapped",
    [
        SymmetryWrapper,
        lambda env: TransformWrapper(env, 1),
        RandomTransformWrapper,
        lambda env: SymmetryWrapper(RandomTransformWrapper(env)),
    ],
    ids=["symmetry", "transform", "random", "both"],
)
@pytest.mark.parametrize("make_env", [cartpole, gridworld])
def test_the_environment_checker_passes(
    make_env: Callable[[], Env], wrapped: Callable[[Env], Env]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Not ours to mend: the checker prefers bare environments, and CartPole's infinite bounds.
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        warnings.filterwarnings("ignore", message=".*Box observation space (m|M).*infinity.*")
        warnings.filterwarnings("ignore", message=".*value is -?infinity.*")
        check_env(wrapped(make_env()))


@pytest.mark.parametrize(
    "env",
    [
        SymmetryWrapper(cartpole()),
        SymmetryWrapper(cartpole(), {"mirror": (np.negative, [1, 0])}),
        TransformWrapper(cartpole(), "mirror"),
        RandomTransformWrapper(cartpole()),
    ],
    ids=["symmetry", "declared", "transform", "random"],
)
def test_a_spec_makes_the_same_environment_again(env: Env) -> None:
    assert env.spec is not None
    again = gym.make(env.spec)
    assert str(again) == str(env)
    assert again.get_wrapper_attr("symmetry") == env.get_wrapper_attr("symmetry")
    for here, there in zip(states(env, [0, 1, 1]), states(again, [0, 1, 1]), strict=True):
        np.testing.assert_array_equal(here, there)


@pytest.mark.parametrize(
    "env",
    [
        SymmetryWrapper(cartpole()),
        TransformWrapper(cartpole(), "mirror"),
        TransformWrapper(cartpole(), 1),
        RandomTransformWrapper(gridworld()),
    ],
)
def test_a_spec_goes_through_json(env: Env) -> None:
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    for here, there in zip(states(env, [0, 1, 1]), states(again, [0, 1, 1]), strict=True):
        np.testing.assert_array_equal(here, there)


def test_a_wrapped_environment_survives_pickling() -> None:
    env = RandomTransformWrapper(gridworld())
    env.reset(seed=1)
    again = pickle.loads(pickle.dumps(env))
    assert again.symmetry == env.symmetry
    for _ in range(5):
        np.testing.assert_array_equal(env.reset()[0], again.reset()[0])
