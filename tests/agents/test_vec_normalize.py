"""Normalisation by statistics of whole orbits: as invariant as the task, and SB3's otherwise."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecNormalize,
    VecTransposeImage,
    sync_envs_normalization,
)

from equirl import Symmetry
from equirl.agents import (
    EquivariantDQN,
    OrbitDictReplayBuffer,
    OrbitReplayBuffer,
    SymmetricVecNormalize,
)
from equirl.agents.vec_normalize import OrbitMeanStd
from equirl.envs import SymmetryWrapper, symmetry_of
from equirl.errors import SymmetryError

Array = np.ndarray
THIRD = np.array([[-0.5, -np.sqrt(0.75)], [np.sqrt(0.75), -0.5]])
SKEW = np.array([[0.0, -1.0], [1.0, -1.0]])  # a third of a turn in hexagonal coordinates


def block(*matrices: Array) -> Array:
    size = sum(len(matrix) for matrix in matrices)
    joined, start = np.zeros((size, size)), 0
    for matrix in matrices:
        end = start + len(matrix)
        joined[start:end, start:end] = matrix
        start = end
    return joined


def affine(matrix: Array, centre: Array) -> Callable[[Array], Array]:
    return lambda s: (matrix @ (s - centre) + centre).astype(s.dtype)


# By name: observations, generators as NumPy code, whether entries are mixed.
CASES: dict[str, tuple[spaces.Box, dict[str, Any], bool]] = {
    "signed-permutation": (
        spaces.Box(-9, 9, (4,)),
        {
            "r": (lambda s: np.stack([-s[1], s[0], s[2], -s[3]]), [3, 0, 1, 2]),
            "s": (lambda s: s * np.array([-1, 1, 1, 1], s.dtype), [0, 3, 2, 1]),
        },
        False,
    ),
    "permutation": (
        spaces.Box(-9, 9, (2, 3)),
        {"shift": (lambda s: np.roll(s, 1, axis=1), [1, 2, 0])},
        False,
    ),
    "offset": (
        spaces.Box(0, 6, (3,)),
        {"mirror": (lambda s: np.stack([6 - s[0], 10 - s[2], 10 - s[1]]), [1, 0])},
        False,
    ),
    "rotation": (
        spaces.Box(-9, 9, (3,)),
        {"third": (affine(block(THIRD, np.eye(1)), np.array([1, 2, 0])), [1, 2, 0])},
        True,
    ),
    "two-rotations": (
        spaces.Box(-9, 9, (5,)),
        {"third": (affine(block(SKEW, THIRD, np.eye(1)), np.arange(5.0)), [1, 2, 0])},
        True,
    ),
    "triangular": (
        spaces.Box(-9, 9, (3,)),
        {"shear": (affine(np.array([[1, 1, 0], [0, -1, 0], [0, 0, 1.0]]), np.ones(3)), [1, 0])},
        True,
    ),
    "image": (
        spaces.Box(0, 255, (5, 5, 2), np.uint8),
        {"r": (np.rot90, [3, 0, 1, 2]), "s": (np.fliplr, [0, 3, 2, 1])},
        False,
    ),
    "negative-image": (
        spaces.Box(0, 255, (4, 4, 1), np.uint8),
        {"negative": (lambda s: 255 - s, [1, 0])},
        False,
    ),
}
BOARD = spaces.Box(0, 1, (4, 4, 2), np.bool_)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def asymmetric(space: spaces.Box, count: int, seed: int = 0) -> Array:
    """Observations that lie on one side, spread differently in every entry and correlated."""
    random, n = np.random.default_rng(seed), int(np.prod(space.shape))
    if space.dtype == np.uint8:
        chance = random.uniform(0.05, 0.6, n)
        return (
            (random.random((count, n)) ** 3 * 255 * chance)
            .astype(np.uint8)
            .reshape(count, *space.shape)
        )
    mixing = random.normal(size=(n, n))
    points = random.normal(size=(count, n)) @ mixing + random.uniform(1, 3, n)
    return points.astype(space.dtype).reshape(count, *space.shape)


class Drawn(gym.Env[Any, np.int64]):
    """Asymmetric observations, in episodes of five."""

    def __init__(self, space: spaces.Box, actions: int, observations: Array | None = None) -> None:
        self.observation_space, self.action_space = space, spaces.Discrete(actions)
        self._observations = asymmetric(space, 60) if observations is None else observations
        self._time = 0

    def _observe(self) -> Array:
        self._time += 1
        observation: Array = self._observations[self._time % len(self._observations)]
        return observation

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        return self._observe(), float(action), self._time % 5 == 0, False, {}


def symmetry(name: str) -> Symmetry:
    space, generators, _ = CASES[name]
    actions = len(next(iter(generators.values()))[1])
    return Symmetry.from_generators(space, spaces.Discrete(actions), generators)


def envs_of(name: str, observations: Array | None = None) -> DummyVecEnv:
    declared = symmetry(name)
    env = Drawn(declared.observation_space, int(declared.action_space.n), observations)  # type: ignore[arg-type]
    return DummyVecEnv([lambda: SymmetryWrapper(env, declared)])


def normalized(name: str, observations: Array | None = None, **kwargs: Any) -> Any:
    if CASES[name][2]:
        kwargs["clip_obs"] = np.inf
    return SymmetricVecNormalize(envs_of(name, observations), **kwargs)


def moved_by(name: str, generator: str, observations: Array) -> Array:
    """Each moved by NumPy, not by the code under test."""
    move = CASES[name][1][generator][0]
    return np.stack([move(observation) for observation in observations])


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


@pytest.mark.parametrize("plain", [False, True], ids=["symmetric", "plain"])
@pytest.mark.parametrize("name", ["offset", "signed-permutation", "rotation"])
def test_orbit_replay_moves_observations_before_they_are_normalised(name: str, plain: bool) -> None:
    envs = VecNormalize(envs_of(name)) if plain else normalized(name)
    model = DQN(
        "MlpPolicy",
        envs,
        buffer_size=200,
        learning_starts=30,
        train_freq=10,
        replay_buffer_class=OrbitReplayBuffer,
        replay_buffer_kwargs={"symmetry": symmetry(name)},
        policy_kwargs={"net_arch": [8]},
        device="cpu",
        seed=0,
    )
    model.learn(40)  # no observation comes twice
    buffer: Any = model.replay_buffer
    stored, after = buffer.observations[:40, 0], buffer.next_observations[:40, 0]
    states = symmetry(name).orbit(stored), symmetry(name).orbit(after)
    known = np.concatenate([envs.normalize_obs(s).reshape(*s.shape[:2], -1) for s in states], -1)
    rewards = envs.normalize_reward(buffer.rewards[:40, 0])
    seen = set()
    samples = buffer.sample(80, env=envs)
    for k in range(80):
        pair = np.concatenate([samples.observations[k], samples.next_observations[k]])
        g, row = np.argwhere(np.abs(known - pair).max(axis=-1) < 1e-5)[0]
        seen.add(int(g))
        action = symmetry(name).transform_action(int(g), int(buffer.actions[row, 0, 0]))
        assert int(samples.actions[k]) == action
        assert float(samples.rewards[k]) == pytest.approx(float(rewards[row]))
    assert seen == set(range(symmetry(name).group.order))


def test_orbit_replay_refuses_the_symmetry_of_normalised_observations() -> None:
    envs = normalized("offset")
    arguments: dict[str, Any] = {"buffer_size": 100, "learning_starts": 10, "device": "cpu"}
    arguments["replay_buffer_kwargs"] = {"symmetry": symmetry_of(envs)}
    model = DQN("MlpPolicy", envs, replay_buffer_class=OrbitReplayBuffer, **arguments)
    with pytest.raises(SymmetryError, match="before they are normalised"):
        model.learn(30)


class Pair(gym.Env[Any, np.int64]):
    """A Dict observation."""

    observation_space = spaces.Dict(place=spaces.Box(-1, 1, (2,)))
    action_space = spaces.Discrete(2)


class Walk(Pair):
    """To the left or to the right of where it was."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super(Pair, self).reset(seed=seed)
        self.place = np.array([0.5, 0.1], np.float32)
        return {"place": self.place}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = self.place * np.float32(0.97) + np.float32([0.02, 0.1]) * (2 * action - 1)
        return {"place": self.place}, 1.0, False, False, {}


def test_orbit_replay_of_dicts_moves_before_plain_normalisation() -> None:
    mirror = {"mirror": ({"place": lambda place: 1 - place[::-1]}, [1, 0])}
    declared = Symmetry.from_generators(Pair.observation_space, Pair.action_space, mirror)
    envs = VecNormalize(DummyVecEnv([Walk]))
    model = DQN(
        "MultiInputPolicy",
        envs,
        buffer_size=100,
        learning_starts=100,
        replay_buffer_class=OrbitDictReplayBuffer,
        replay_buffer_kwargs={"symmetry": declared},
        device="cpu",
        seed=0,
    )
    model.learn(20)
    buffer: Any = model.replay_buffer
    samples = buffer.sample(40, env=envs)
    stored = buffer.observations["place"][:20, 0]
    known: Any = [envs.normalize_obs({"place": s})["place"] for s in (stored, 1 - stored[:, ::-1])]
    seen = set()
    for observation in samples.observations["place"].numpy():
        g, _ = np.argwhere(np.abs(np.stack(known) - observation).max(axis=-1) < 1e-6)[0]
        seen.add(int(g))
    assert seen == {0, 1}


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
            r"not bool: put DtypeObservation\(env, np.float32\)",
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
    space, generators, _ = CASES["offset"]
    envs = DummyVecEnv([lambda: Drawn(space, 2)])
    model = EquivariantDQN(
        "MlpPolicy",
        SymmetricVecNormalize(envs, symmetry("offset")),
        symmetry=generators,
        buffer_size=100,
        device="cpu",
    )
    mirrored = model.symmetry.transform_observation("mirror", np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(mirrored, [-1, -3, -2])
