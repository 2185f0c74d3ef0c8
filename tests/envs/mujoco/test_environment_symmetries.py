"""Symmetries of MuJoCo environments: of the observation, and shared by the reward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco", reason="needs equirl[mujoco]")

import gymnasium as gym  # noqa: E402
from gymnasium.wrappers import (  # noqa: E402
    ClipReward,
    FrameStackObservation,
    RescaleAction,
    TransformObservation,
)

from equirl.declaring import Mirror  # noqa: E402
from equirl.envs import symmetry_of  # noqa: E402
from equirl.envs.mujoco import (  # noqa: E402
    environment_symmetries,
    model_symmetries,
    names_of,
    symmetry_of_mujoco,
)
from equirl.errors import SymmetryError  # noqa: E402
from equirl.symmetry import Symmetry  # noqa: E402


@pytest.mark.parametrize(
    ("env_id", "names"),
    [
        ("Ant-v5", {"mirror_y"}),
        ("Walker2d-v5", {"exchange_thigh_thigh_left"}),
        ("Swimmer-v5", {"mirror_y"}),
        ("Reacher-v5", {"mirror_y"}),
    ],
)
def test_whole_steps_of_gymnasiums_environments_are_equivariant(
    env_id: str, names: set[str]
) -> None:
    """Independently of how it was found: the mirrored state is reached by the mirrored motion."""
    env = gym.make(env_id).unwrapped
    found = environment_symmetries(env)
    assert set(found.symmetry.group.names) == {"e", *names}
    (mirror,) = names
    generator = model_symmetries(env.model).generators[mirror]
    for seed in range(3):
        observations, rewards = _played(env, seed)
        mirrored, others = _played(env, seed, generator, found.symmetry)
        wanted = found.symmetry.transform_observation(mirror, observations)
        np.testing.assert_allclose(mirrored, wanted, atol=1e-6)
        np.testing.assert_allclose(others, rewards, atol=1e-6)


def _played(
    env: Any, seed: int, mirror: Any = None, symmetry: Symmetry | None = None
) -> tuple[Any, Any]:
    """Some steps, or those from the moved state with the moved actions."""
    env.reset(seed=seed)
    state = env.data.qpos.copy(), env.data.qvel.copy()
    if mirror is not None:
        state = mirror.qpos(state[0]), mirror.qvel(state[1])
    env.data.qacc_warmstart[:] = 0
    env.set_state(*state)
    rng, steps = np.random.default_rng(seed), []
    for _ in range(3):
        action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
        if symmetry is not None:
            action = symmetry.transform_action(1, action)
        steps.append(env.step(action)[:2])
    return np.stack([o for o, _ in steps]), [float(r) for _, r in steps]


def test_ants_turn_is_not_shared_by_a_reward_for_x() -> None:
    found = environment_symmetries(gym.make("Ant-v5", include_cfrc_ext_in_observation=False))
    assert "reward" in found.refused["turn_90"]
    assert found.entry_names[:6] == ("root_z", "root_qw", "root_qx", "root_qy", "root_qz", "hip_1")
    assert all(isinstance(one, Mirror) for one in found.generators["mirror_y"])


def test_a_reward_that_looks_at_no_direction_shares_the_turns() -> None:
    env = gym.make("Ant-v5", forward_reward_weight=0, contact_cost_weight=0)
    assert symmetry_of_mujoco(env).group.order == 8


@pytest.mark.parametrize(
    ("env_id", "arguments"),
    [
        ("Walker2d-v5", {"xml_file": "walker2d.xml"}),
        ("Ant-v5", {"main_body": 4}),
        ("Ant-v5", {"contact_force_range": (-1.0, 0.2)}),
    ],
)
def test_the_registered_symmetry_is_not_that_of_another_model_or_reward(
    env_id: str, arguments: dict[str, Any]
) -> None:
    env = gym.make(env_id, **arguments)
    with pytest.raises(SymmetryError, match=f"hold with {next(iter(arguments))}=.*of_mujoco"):
        symmetry_of(env)
    assert environment_symmetries(env).symmetry.group.order == 1


def test_an_environment_without_symmetry_is_refused_with_the_reason() -> None:
    with pytest.raises(SymmetryError, match="head"):
        symmetry_of_mujoco(gym.make("HalfCheetah-v5"))


def test_a_layout_declares_what_another_environment_observes() -> None:
    env = gym.make("Swimmer-v5")
    layout = [("qpos", slice(2, None)), ("qvel", slice(None))]
    assert symmetry_of_mujoco(env, layout) == symmetry_of_mujoco(env)
    with pytest.raises(SymmetryError, match="10 entries"):
        symmetry_of_mujoco(env, [("qpos", slice(None)), ("qvel", slice(None))])
    with pytest.raises(SymmetryError, match="velocity"):
        symmetry_of_mujoco(env, [("velocity", slice(8))])
    with pytest.raises(SymmetryError, match="layout"):
        symmetry_of_mujoco(env, [("qvel", slice(None)), ("qpos", slice(2, None))])


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "stacked": lambda env: FrameStackObservation(env, 2),
    "rescaled actions": lambda env: RescaleAction(env, np.float32(0), np.float32(1)),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_what_is_found_is_carried_through_wrappers(name: str) -> None:
    env = WRAPPED[name](gym.make("Swimmer-v5"))
    found, registered = symmetry_of_mujoco(env), symmetry_of(env)
    observation, action = env.observation_space.sample(), env.action_space.sample()
    np.testing.assert_array_equal(
        found.transform_observation(1, observation),
        registered.transform_observation(1, observation),
    )
    np.testing.assert_array_equal(
        found.transform_action(1, action), registered.transform_action(1, action)
    )
    assert names_of(env) == (None, None)
    with pytest.raises(SymmetryError, match=r"wrappers change that: give env.unwrapped"):
        environment_symmetries(env)


def test_what_is_found_is_not_taken_through_a_wrapper_that_is_not_known_to_keep_it() -> None:
    env = gym.make("Swimmer-v5")
    shifted = TransformObservation(env, lambda seen: seen + 1, env.observation_space)
    for ask in (symmetry_of_mujoco, environment_symmetries):
        with pytest.raises(SymmetryError, match="TransformObservation may change observations"):
            ask(shifted)
    assert names_of(shifted) == (None, None)
    assert names_of(ClipReward(env, -1)) == names_of(env.unwrapped) != (None, None)


def test_the_search_leaves_the_random_numbers_of_an_environment_where_they_were() -> None:
    env, other = gym.make("Swimmer-v5"), gym.make("Swimmer-v5")
    for one in (env, other):
        one.reset(seed=7)
    symmetry_of_mujoco(env)
    assert not env.unwrapped.data.time  # and not in the middle of an episode
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])


def test_only_environments_of_mujoco_have_a_model() -> None:
    with pytest.raises(SymmetryError):
        symmetry_of_mujoco(gym.make("CartPole-v1"))


def test_all_that_a_humanoid_observes_of_its_bodies_is_mapped() -> None:
    """Inertias, velocities and contact forces; the legs of the model as it comes differ."""
    env = gym.make("Humanoid-v5")
    model, data = env.unwrapped.model, env.unwrapped.data
    for joint in ("hip_y", "knee"):
        left, right = model.joint(f"left_{joint}"), model.joint(f"right_{joint}")
        left.armature, left.stiffness = right.armature, right.stiffness
    mujoco.mj_setConst(model, data)
    found = environment_symmetries(env)
    assert found.symmetry.group.names == ("e", "mirror_y")
    assert len(found.entry_names) == 348


@pytest.mark.parametrize("env_id", ["Ant-v5", "Walker2d-v5", "Swimmer-v5", "Reacher-v5"])
def test_what_is_found_is_what_is_registered(env_id: str) -> None:
    env = gym.make(env_id)
    try:
        registered = symmetry_of(env)
    except SymmetryError:
        pytest.skip("no symmetry of it is registered")
    found, mirror = symmetry_of_mujoco(env), registered.group.generators[0]
    observation, action = env.observation_space.sample(), env.action_space.sample()
    np.testing.assert_array_equal(
        found.transform_observation(1, observation),
        registered.transform_observation(mirror, observation),
    )
    np.testing.assert_array_equal(
        found.transform_action(1, action), registered.transform_action(mirror, action)
    )
