"""What environments lack for their symmetry: behind the remedy it holds, without it is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import FrameStackObservation, TimeLimit, TransformObservation

from equirl.envs import TransformWrapper, symmetry_of
from equirl.envs.known_symmetries.box2d import EvenHips, exchange_legs, mirror_lunar_lander
from equirl.envs.known_symmetries.mujoco import even_legs, straight_pole
from equirl.envs.registry import registered_state_maps, registered_tolerance
from equirl.errors import SymmetryError
from equirl.verification.exact import check_symmetry
from equirl.verification.verdicts import SymmetryReport
from shared.rarely import rarely

REMEDIES: dict[str, Callable[[Any], Any]] = {
    "InvertedPendulum-v5": straight_pole,
    "Humanoid-v5": even_legs,
    "BipedalWalker-v3": EvenHips,
}


def made(env_id: str, **arguments: Any) -> Any:
    try:
        return gym.make(env_id, **arguments)
    except gym.error.DependencyNotInstalled:
        pytest.skip('needs pip install "equirl[box2d]" or "equirl[mujoco]"')


def report_of(env_id: str, make: Callable[[], Any]) -> SymmetryReport:
    return check_symmetry(
        make(),
        symmetry_of(make()),
        registered_state_maps(env_id),
        make_env=make,
        transitions=1500,
        level=1e-4,
        tolerance=registered_tolerance(env_id),
    )


@pytest.mark.long
@pytest.mark.parametrize("env_id", rarely(REMEDIES, "Humanoid-v5", "BipedalWalker-v3"))
def test_behind_its_remedy_the_environment_is_symmetric(env_id: str) -> None:
    report = report_of(env_id, lambda: REMEDIES[env_id](made(env_id)))
    assert report.holds, report


@pytest.mark.long
@pytest.mark.parametrize("env_id", rarely(REMEDIES, "Humanoid-v5", "BipedalWalker-v3"))
def test_without_the_remedy_the_symmetry_is_refused(env_id: str) -> None:
    assert report_of(env_id, lambda: made(env_id)).is_refuted


def test_what_follows_from_exchanged_legs_agrees_to_the_last_bit() -> None:
    one, other = (EvenHips(made("BipedalWalker-v3")) for _ in range(2))
    symmetry = symmetry_of(one)
    for seed in range(3):
        one.action_space.seed(seed)
        one.reset(seed=seed)
        other.reset(seed=seed)
        exchange_legs(other.unwrapped)
        for _ in range(40):
            action = one.action_space.sample()
            observation, reward, ended, _, _ = one.step(action)
            found, found_reward, found_ended, _, _ = other.step(
                symmetry.transform_action("legs", action)
            )
            np.testing.assert_array_equal(
                symmetry.transform_observation("legs", observation), found
            )
            assert (float(found_reward), found_ended) == (
                pytest.approx(float(reward), abs=1e-6),
                ended,
            )
            if ended:
                break


def test_hips_are_made_even_innermost_or_not_at_all() -> None:
    space = made("BipedalWalker-v3").observation_space

    def scaled(env: Any) -> Any:
        return TransformObservation(env, lambda seen: 100 * seen, space)

    walker = made("BipedalWalker-v3")
    for env in (
        scaled(walker),
        TransformWrapper(walker, "legs"),
        FrameStackObservation(walker, 12),
        gym.make("CartPole-v1"),
    ):
        with pytest.raises(SymmetryError, match="is not one: put EvenHips innermost"):
            EvenHips(env)
    outside = scaled(EvenHips(TimeLimit(walker.unwrapped, 9)))
    observation, _ = outside.reset(seed=1)
    hips = [outside.unwrapped.joints[leg].angle for leg in (0, 2)]
    np.testing.assert_allclose(observation[[4, 9]], 100 * np.array(hips), rtol=1e-5)


def test_a_mirrored_lander_meets_opposite_gusts() -> None:
    one, other = (made("LunarLander-v3", enable_wind=True) for _ in range(2))
    symmetry = symmetry_of(one)
    for seed in range(4):
        for env in (one, other):
            env.reset(seed=seed)
            for action in (0, 1, 2, 3, 0):
                env.step(action)
        mirror_lunar_lander(other.unwrapped)
        for action in (1, 2, 3):
            expected = symmetry.transform_observation("mirror", one.step(action)[0])
            found = other.step(int(symmetry.transform_action("mirror", action)))[0]
            np.testing.assert_allclose(found, expected, atol=2e-4)


def test_gusts_that_are_mirrored_twice_or_drawn_anew_are_those_of_before() -> None:
    env: Any = made("LunarLander-v3", enable_wind=True).unwrapped
    env.reset(seed=0)
    gusts = env.wind_idx, env.torque_idx
    mirror_lunar_lander(env)
    assert min(env.wind_idx, env.torque_idx) > 10**6
    mirror_lunar_lander(env)
    assert (env.wind_idx, env.torque_idx) == gusts
    mirror_lunar_lander(env)
    env.reset()
    assert max(abs(env.wind_idx), abs(env.torque_idx)) < 10**4


def with_heavier_leg(env: Any) -> Any:
    env.unwrapped.legs[3].fixtures[0].density *= 1.01
    env.unwrapped.legs[3].ResetMassData()
    return env


def with_lower_limit(env: Any) -> Any:
    env.unwrapped.joints[0].SetLimits(-0.8, 1.09)
    return env


@pytest.mark.parametrize("change", [with_heavier_leg, with_lower_limit])
def test_legs_of_another_make_are_not_taken_for_each_other(change: Any) -> None:
    env = EvenHips(made("BipedalWalker-v3"))
    env.reset(seed=0)
    walker: Any = env.unwrapped
    legs, hip = list(walker.legs), walker.joints[0].angle
    exchange_legs(walker)
    assert walker.legs == legs[2:] + legs[:2]
    assert walker.joints[2].angle == hip
    exchange_legs(change(env).unwrapped)
    assert walker.legs == legs[2:] + legs[:2]  # they stay
    assert walker.joints[0].angle == pytest.approx(hip, abs=1e-6)  # and move
