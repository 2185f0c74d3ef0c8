"""Normalisation by statistics of whole orbits: as invariant as the task, and SB3's otherwise."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import (
    VecNormalize,
    VecTransposeImage,
    sync_envs_normalization,
)

from equirl import Symmetry
from equirl.agents import (
    EquivariantDQN,
    SymmetricVecNormalize,
)
from equirl.agents.vec_normalize import OrbitMeanStd
from equirl.envs import symmetry_of
from equirl.errors import AgentError
from shared.normalized_tasks import (
    CASES,
    Array,
    asymmetric,
    envs_of,
    moved_by,
    normalized,
    symmetry,
)


def q_values(model: DQN, observations: Array) -> Array:
    with torch.no_grad():
        values: Array = model.q_net(model.policy.obs_to_tensor(observations)[0]).numpy()
    return values


@pytest.mark.parametrize("name", CASES)
def test_after_10_000_asymmetric_observations_the_statistics_are_invariant(name: str) -> None:
    space, generators, _ = CASES[name]
    statistics = OrbitMeanStd(space.shape, symmetry(name))
    observations = asymmetric(space, 10_000)
    plain = observations.astype(np.float64)
    for start in range(0, 10_000, 100):
        statistics.update(observations[start : start + 100])
    assert statistics.count == pytest.approx(10_000 * symmetry(name).group.order)
    scale = np.diag(statistics.var.ravel())
    for generator, (move, _) in generators.items():
        # gμ = μ
        np.testing.assert_allclose(move(statistics.mean), statistics.mean, rtol=0, atol=1e-10)
        assert np.abs(moved_by(name, generator, plain).mean(0) - plain.mean(0)).max() > 0.1
        # Aσ² = σ²A, with A the linear part of g: its columns are g(e) - g(0)
        points = np.eye(plain[0].size).reshape(-1, *space.shape)
        columns = [(move(point) - move(0 * point)).ravel() for point in points]
        linear = np.stack(columns, axis=1)
        np.testing.assert_allclose(linear @ scale, scale @ linear, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_mean_and_variance_are_those_of_all_moved_observations(name: str) -> None:
    space, _, mixed = CASES[name]
    statistics = OrbitMeanStd(space.shape, symmetry(name))
    observations = asymmetric(space, 500)
    for part in np.split(observations, 5):
        statistics.update(part)
    orbit = symmetry(name).orbit(observations.astype(np.float64)).reshape(-1, *space.shape)
    np.testing.assert_allclose(statistics.mean, orbit.mean(axis=0), rtol=1e-5, atol=1e-5)
    if not mixed:  # otherwise it is an average over the entries that are mixed
        np.testing.assert_allclose(statistics.var, orbit.var(axis=0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_statistics_are_invariant_before_anything_is_seen(name: str) -> None:
    space, generators, _ = CASES[name]
    statistics = OrbitMeanStd(space.shape, symmetry(name))
    for move, _ in generators.values():
        np.testing.assert_allclose(move(statistics.mean), statistics.mean, rtol=0, atol=1e-12)


def test_combined_and_copied_statistics_are_invariant_too() -> None:
    space, both, own = spaces.Box(-5, 5, (4,)), np.random.default_rng(0), RunningMeanStd(shape=(4,))
    swapped = Symmetry.from_generators(space, spaces.Discrete(2), {"s": ([1, 0, 3, 2], [1, 0])})
    first, second = both.normal([1, 0, 2, 0], 2, (50, 4)), both.normal(1, 1, (30, 4))
    statistics, expected = OrbitMeanStd((4,), swapped), OrbitMeanStd((4,), swapped)
    statistics.update(first)
    expected.update(first)
    expected.update(second)
    own.count = 0
    own.update(second)
    statistics.combine(own)
    copied = statistics.copy()
    statistics.update(first)
    assert isinstance(copied, OrbitMeanStd)
    for name in ("mean", "var", "count"):
        np.testing.assert_allclose(getattr(copied, name), getattr(expected, name))


def test_statistics_of_a_large_image_need_no_square_matrix() -> None:
    frames = spaces.Box(0, 255, (84, 84, 4), np.uint8)
    flip = Symmetry.from_generators(frames, spaces.Discrete(2), {"flip": (np.flipud, [1, 0])})
    statistics = OrbitMeanStd(frames.shape, flip)
    statistics.update(asymmetric(frames, 3))
    np.testing.assert_allclose(statistics.mean[::-1], statistics.mean, atol=1e-10)
    np.testing.assert_allclose(statistics.var[::-1], statistics.var, atol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_q_values_are_symmetric_through_it_and_from_the_replay_buffer(name: str) -> None:
    envs = normalized(name)
    model = EquivariantDQN(
        "MlpPolicy",
        envs,
        policy_kwargs={"net_arch": [8]},
        buffer_size=300,
        learning_starts=100,
        train_freq=20,
        seed=0,
        device="cpu",
    )
    model.learn(200)
    observations = asymmetric(CASES[name][0], 50, seed=1)
    here = q_values(model, envs.normalize_obs(observations))
    assert np.ptp(here, axis=1).max() > 1e-3
    stored = model.replay_buffer.observations[:200, 0]
    from_buffer = q_values(model, model.replay_buffer._normalize_obs(stored, envs))
    assert np.abs(stored).max() > 3  # raw, as SB3 keeps them
    for generator, (_, permutation) in CASES[name][1].items():
        there = q_values(model, envs.normalize_obs(moved_by(name, generator, observations)))
        np.testing.assert_allclose(there[:, permutation], here, rtol=1e-5, atol=1e-5)
        moved = envs.normalize_obs(moved_by(name, generator, stored))
        there = q_values(model, moved)
        np.testing.assert_allclose(there[:, permutation], from_buffer, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name, (*_, mixed) in CASES.items() if not mixed])
def test_clipped_observations_keep_the_symmetry(name: str) -> None:
    envs = normalized(name, clip_obs=0.5)
    envs.reset()
    carried = symmetry_of(envs)
    observations = asymmetric(CASES[name][0], 50, seed=1)
    here = envs.normalize_obs(observations)
    assert (np.abs(here) == 0.5).mean() > 0.1
    for generator in CASES[name][1]:
        there = envs.normalize_obs(moved_by(name, generator, observations))
        expected = carried.transform_observation(generator, here)
        np.testing.assert_allclose(there, expected, rtol=1e-5, atol=1e-5)


def test_images_turned_by_sb3_are_normalised_as_turned() -> None:
    for name in ("image", "negative-image"):
        envs = SymmetricVecNormalize(VecTransposeImage(envs_of(name)))
        for _ in range(3):
            envs.reset()
        (mean,) = (envs.obs_rms.mean,)
        assert mean.shape == CASES[name][0].shape[2:] + CASES[name][0].shape[:2]
        for move, _ in CASES[name][1].values():
            there = np.transpose(move(np.transpose(mean, (1, 2, 0))), (2, 0, 1))
            np.testing.assert_allclose(there, mean, atol=1e-10)
        model = EquivariantDQN("MlpPolicy", envs, buffer_size=100, device="cpu")
        assert model.symmetry == symmetry_of(envs)


@pytest.mark.parametrize("name", ["signed-permutation", "offset", "rotation"])
def test_saving_and_loading_keeps_statistics_and_symmetry(name: str, tmp_path: Path) -> None:
    envs = normalized(name, norm_reward=False)
    envs.reset()
    for _ in range(30):
        envs.step(np.array([0]))
    envs.save(str(tmp_path / "normalize.pkl"))
    loaded: Any = VecNormalize.load(str(tmp_path / "normalize.pkl"), envs_of(name))
    assert type(loaded) is SymmetricVecNormalize
    assert loaded.symmetry == envs.symmetry
    observations = asymmetric(CASES[name][0], 20, seed=1)
    np.testing.assert_array_equal(
        loaded.normalize_obs(observations), envs.normalize_obs(observations)
    )
    pickled = pickle.loads(pickle.dumps(envs.obs_rms))
    for statistics in (loaded.obs_rms, pickled):
        assert statistics.count == envs.obs_rms.count
        statistics.update(observations)
        for move, _ in CASES[name][1].values():
            np.testing.assert_allclose(move(statistics.mean), statistics.mean, atol=1e-10)
    model = EquivariantDQN("MlpPolicy", loaded, buffer_size=100, device="cpu")
    assert model.symmetry == symmetry_of(envs)


def test_a_plain_file_is_not_loaded_as_a_symmetric_one(tmp_path: Path) -> None:
    path = str(tmp_path / "normalize.pkl")
    VecNormalize(envs_of("offset")).save(path)
    with pytest.raises(
        AgentError, match=r"plain VecNormalize.*SymmetricVecNormalize\.from_plain\("
    ):
        SymmetricVecNormalize.load(path, envs_of("offset"))
    converted = SymmetricVecNormalize.from_plain(path, envs_of("offset"))
    converted.save(path)
    again = SymmetricVecNormalize.load(path, envs_of("offset"))
    np.testing.assert_array_equal(again.obs_rms.mean, converted.obs_rms.mean)


def test_an_agent_is_loaded_and_trained_on_with_its_statistics(tmp_path: Path) -> None:
    envs = normalized("offset")
    kwargs: dict[str, Any] = {"buffer_size": 200, "learning_starts": 20, "train_freq": 10}
    model = EquivariantDQN("MlpPolicy", envs, device="cpu", seed=0, **kwargs)
    model.learn(60)
    model.save(tmp_path / "agent")
    envs.save(str(tmp_path / "normalize.pkl"))
    again: Any = VecNormalize.load(str(tmp_path / "normalize.pkl"), envs_of("offset"))
    loaded = EquivariantDQN.load(tmp_path / "agent", env=again, device="cpu")
    observations = asymmetric(CASES["offset"][0], 20)
    np.testing.assert_array_equal(
        q_values(loaded, again.normalize_obs(observations)),
        q_values(model, envs.normalize_obs(observations)),
    )
    loaded.learn(60, reset_num_timesteps=False)
    assert loaded.num_timesteps == 120


def test_sb3_copies_the_statistics_to_an_evaluation_environment() -> None:
    training, evaluation = normalized("offset"), normalized("offset", training=False)
    training.reset()
    sync_envs_normalization(training, evaluation)
    assert isinstance(evaluation.obs_rms, OrbitMeanStd)
    np.testing.assert_array_equal(evaluation.obs_rms.mean, training.obs_rms.mean)


def test_rewards_are_normalised_as_by_sb3() -> None:
    ours, theirs = normalized("offset"), VecNormalize(envs_of("offset"))
    rewards = []
    for envs in (ours, theirs):
        envs.reset()
        rewards.append([envs.step(np.array([action]))[1][0] for action in (0, 1, 1, 0, 1, 1)])
    assert rewards[0] == rewards[1]
