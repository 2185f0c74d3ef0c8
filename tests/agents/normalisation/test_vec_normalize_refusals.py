"""What normalisation cannot keep symmetric is refused, and what it may be given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
)

from equirl import Symmetry
from equirl.agents import (
    EquivariantDQN,
    SymmetricVecNormalize,
)
from equirl.envs import SymmetryWrapper, symmetry_of
from equirl.errors import SymmetryError
from shared.normalized_tasks import CASES, Drawn, Pair, envs_of, symmetry

BOARD = spaces.Box(0, 1, (4, 4, 2), np.bool_)


def bool_board() -> Any:
    env = Drawn(BOARD, 2, np.zeros((9, 4, 4, 2), bool))
    return SymmetryWrapper(env, {"mirror": (np.fliplr, [1, 0])})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: SymmetricVecNormalize(DummyVecEnv([lambda: SymmetryWrapper(Pair(), {})])),
            "not a Dict: normalise inside",
        ),
        (lambda: SymmetricVecNormalize(envs_of("rotation")), r"set clip_obs=float\('inf'\)"),
        (
            lambda: SymmetricVecNormalize(DummyVecEnv([bool_board])),
            r"put DtypeObservation\(env, np.float32\)",
        ),
        (
            lambda: SymmetricVecNormalize(DummyVecEnv([lambda: Drawn(CASES["offset"][0], 2)])),
            "no symmetry is known for Drawn",
        ),
        (
            lambda: SymmetricVecNormalize(envs_of("offset"), symmetry("permutation")),
            "was declared for",
        ),
        (
            lambda: symmetry_of(
                SymmetricVecNormalize(
                    envs_of("offset"),
                    Symmetry.trivial(CASES["offset"][0], spaces.Discrete(2)),
                )
            ),
            "invariant under .* not under .*: give it the symmetry that the agent gets",
        ),
    ],
    ids=["dict", "clipped-rotation", "bool", "unknown", "other-spaces", "other-group"],
)
def test_what_it_cannot_keep_symmetric_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(SymmetryError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_without_observation_normalisation_everything_is_taken() -> None:
    envs = SymmetricVecNormalize(DummyVecEnv([lambda: SymmetryWrapper(Pair(), {})]), norm_obs=False)
    assert symmetry_of(envs).group.order == 1
    assert symmetry_of(SymmetricVecNormalize(envs_of("rotation"), norm_obs=False)) == symmetry(
        "rotation"
    )


def test_a_given_symmetry_serves_an_environment_that_declares_none() -> None:
    space, _, _ = CASES["offset"]
    envs = DummyVecEnv([lambda: Drawn(space, 2)])
    normalised = SymmetricVecNormalize(envs, symmetry("offset"))
    model = EquivariantDQN("MlpPolicy", normalised, buffer_size=100, device="cpu")
    mirrored = model.symmetry.transform_observation("mirror", np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(mirrored, [-1, -3, -2])
