"""Training: bit for bit plain DQN without a symmetry, and everything SB3 does with a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import (
    NormalizeObservation,
    RecordEpisodeStatistics,
    TransformObservation,
)
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
)

from equirl import Symmetry
from equirl.agents import EquivariantDQN, EquivariantDQNPolicy, OrbitReplayBuffer
from equirl.agents.callbacks import EquivarianceCallback, EvaluationCallback
from equirl.envs import SymmetryWrapper
from equirl.envs.grid_world import GRID_WORLD_GENERATORS
from equirl.errors import SymmetryError

METHODS = ["equitune", "lambda", "equizero", "canonical"]
MIRROR = {"mirror": (np.negative, [1, 0])}
SMALL: dict[str, Any] = {
    "buffer_size": 1000,
    "learning_starts": 50,
    "policy_kwargs": {"net_arch": [16]},
    "seed": 0,
    "device": "cpu",
}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Pixel(gym.Env[np.ndarray, np.int64]):
    """A bright pixel walks left or right on a dim random background, rewarded for going right."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
        self.action_space = spaces.Discrete(2)

    def _observe(self) -> np.ndarray:
        image = self.np_random.integers(0, 32, (36, 36, 1), np.uint8)
        image[18, self._column] = 255
        return image

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._column = int(self.np_random.integers(6, 30))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._column += 2 * int(action) - 1
        over = not 2 <= self._column < 34
        return self._observe(), float(self._column - 18) / 18, over, False, {}


def trained(
    method: str,
    policy: str,
    make_env: Callable[[], gym.Env[Any, Any]],
    *,
    watched: bool,
    path: Path,
) -> dict[str, torch.Tensor]:
    """The parameters after 2,000 steps; for all methods but plain, with the trivial group."""
    kwargs: dict[str, Any] = {
        "buffer_size": 2000,
        "learning_rate": 1e-3,
        "target_update_interval": 500,
        "seed": 3,
        "device": "cpu",
    }
    if policy == "CnnPolicy":
        # Mostly random actions and few updates: what counts is the same on every path.
        kwargs |= {"train_freq": 50, "batch_size": 16, "exploration_final_eps": 0.8}
        kwargs["policy_kwargs"] = {"features_extractor_kwargs": {"features_dim": 32}}
    env = make_env()
    if method == "plain":
        model = DQN(policy, env, **kwargs)
    elif method == "augment":
        replay = {"symmetry": Symmetry.trivial(env.observation_space, env.action_space)}
        model = DQN(
            policy,
            env,
            replay_buffer_class=OrbitReplayBuffer,
            replay_buffer_kwargs=replay,
            **kwargs,
        )
    else:
        model = EquivariantDQN(policy, SymmetryWrapper(env, {}), method, **kwargs)
    callbacks = [
        EquivarianceCallback(every=300),
        EvaluationCallback(make_env, path, every=700, seeds=range(2)),
    ]
    model.learn(2000, callback=callbacks if watched else None)
    return {**model.policy.state_dict(), "stored": torch.from_numpy(model.replay_buffer.rewards)}


@pytest.fixture(scope="module")
def plain_mlp(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("plain")
    return trained("plain", "MlpPolicy", cartpole, watched=False, path=path)


@pytest.fixture(scope="module")
def plain_cnn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("plain")
    return trained("plain", "CnnPolicy", Pixel, watched=False, path=path)


def cartpole() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")


def assert_same(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(actual) == list(expected)
    for key, value in expected.items():
        assert torch.equal(actual[key], value), key


@pytest.mark.parametrize("watched", [False, True], ids=["alone", "with-callbacks"])
@pytest.mark.parametrize("method", [*METHODS, "augment"])
def test_with_the_trivial_group_training_is_bit_for_bit_that_of_stock_mlp_dqn(
    method: str, watched: bool, plain_mlp: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    assert_same(trained(method, "MlpPolicy", cartpole, watched=watched, path=tmp_path), plain_mlp)


@pytest.mark.parametrize("method", [*METHODS, "augment"])
def test_with_the_trivial_group_training_is_bit_for_bit_that_of_stock_cnn_dqn(
    method: str, plain_cnn: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    assert_same(trained(method, "CnnPolicy", Pixel, watched=False, path=tmp_path), plain_cnn)


@pytest.mark.parametrize("method", METHODS)
def test_with_a_real_symmetry_training_differs_from_stock_dqn(
    method: str, plain_mlp: dict[str, torch.Tensor]
) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), method, seed=3, device="cpu", buffer_size=2000)
    model.learn(300)
    key = "q_net.q_net.0.weight"
    assert not torch.equal(model.policy.state_dict()[key], plain_mlp[key])


def states(model: DQN, count: int = 64) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)


def q_values(model: DQN) -> torch.Tensor:
    with torch.no_grad():
        return model.q_net(model.policy.obs_to_tensor(states(model))[0])


@pytest.mark.parametrize("method", METHODS)
def test_our_policy_lives_a_whole_life_in_stock_dqn(method: str, tmp_path: Path) -> None:
    env = SymmetryWrapper(cartpole())
    policy_kwargs = {"symmetry": env.symmetry, "method": method, "net_arch": [16]}
    model = DQN(EquivariantDQNPolicy, env, **{**SMALL, "policy_kwargs": policy_kwargs})
    model.learn(150)
    model.save(tmp_path / "agent")
    for loaded in (
        DQN.load(tmp_path / "agent", device="cpu"),
        DQN.load(tmp_path / "agent", env=env, device="cpu"),
    ):
        assert type(loaded.policy) is EquivariantDQNPolicy
        assert torch.equal(q_values(loaded), q_values(model))
        actions, _ = loaded.predict(states(loaded), deterministic=True)
        np.testing.assert_array_equal(actions, model.predict(states(model), deterministic=True)[0])
        mirrored, _ = loaded.predict(-states(loaded), deterministic=True)
        np.testing.assert_array_equal(mirrored, 1 - actions)


@pytest.mark.parametrize("variant", [
    {"method": "equitune"},
    {"method": "lambda", "init": "equizero"},
    {"method": "equizero", "gradient": "straight_through"},
    {"method": "canonical", "canonical_score": "learned", "gradient": "straight_through"},
], ids=METHODS)  # fmt: skip
def test_a_loaded_agent_acts_as_before_and_trains_on(
    variant: dict[str, Any], tmp_path: Path
) -> None:
    model = EquivariantDQN("MlpPolicy", SymmetryWrapper(cartpole()), **variant, **SMALL)
    model.learn(150)
    model.save(tmp_path / "agent")
    with_env = EquivariantDQN.load(tmp_path / "agent", env=cartpole(), device="cpu")
    without_env = EquivariantDQN.load(tmp_path / "agent", device="cpu")
    for loaded in (with_env, without_env):
        assert loaded.symmetry == model.symmetry
        assert {**loaded.policy_kwargs, "symmetry": None} == {
            "gradient": "selected",
            "init": "equitune",
            "canonical_score": "lexicographic",
            **variant,
            "net_arch": [16],
            "symmetry": None,
        }
        assert torch.equal(q_values(loaded), q_values(model))
    without_env.set_env(SymmetryWrapper(cartpole()))
    for loaded in (with_env, without_env):
        before = q_values(loaded)
        loaded.learn(100, reset_num_timesteps=False)
        assert loaded.num_timesteps >= 250
        assert not torch.equal(q_values(loaded), before)
        left, right = loaded.q_net(torch.zeros(1, 4))[0].tolist()
        assert left == pytest.approx(right, abs=1e-6)


def test_training_on_moves_the_weights_of_the_loaded_lambda_and_its_target(tmp_path: Path) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), "lambda", target_update_interval=20, **SMALL)
    model.learn(100)
    model.save(tmp_path / "agent")
    loaded = EquivariantDQN.load(tmp_path / "agent", env=cartpole(), device="cpu")
    weighting = loaded.q_net.symmetrized.weighting
    beta, spread = weighting.beta.item(), weighting.running_score_spread.item()
    assert beta != 0
    assert spread == model.q_net.symmetrized.weighting.running_score_spread.item() > 0
    loaded.learn(100, reset_num_timesteps=False)
    assert weighting.beta.item() != beta
    target = loaded.q_net_target.symmetrized.weighting
    loaded._n_calls = 19
    loaded._on_step()
    for key, value in weighting.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key
    assert target.running_score_spread.item() != spread


@pytest.mark.parametrize("method", METHODS)
def test_predict_takes_one_observation_and_many(method: str) -> None:
    model = EquivariantDQN("MlpPolicy", "CartPole-v1", method, **SMALL)
    many, _ = model.predict(states(model), deterministic=True)
    assert many.shape == (64,)
    assert set(many.tolist()) == {0, 1}
    for observation, action in zip(states(model), many, strict=True):
        one, _ = model.predict(observation, deterministic=True)
        assert one.shape == ()
        assert one == action


@pytest.mark.parametrize("method", METHODS)
def test_the_callbacks_and_the_evaluation_of_sb3_work(method: str, tmp_path: Path) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), method, **SMALL)
    model.learn(
        120,
        callback=[
            EvalCallback(
                Monitor(SymmetryWrapper(cartpole())),
                n_eval_episodes=2,
                eval_freq=60,
                log_path=str(tmp_path),
                best_model_save_path=str(tmp_path),
                verbose=0,
            ),
            CheckpointCallback(60, str(tmp_path), name_prefix="agent"),
        ],
    )
    assert np.load(tmp_path / "evaluations.npz")["results"].shape == (2, 2)
    assert (tmp_path / "agent_60_steps.zip").is_file()
    last = EquivariantDQN.load(tmp_path / "agent_120_steps", device="cpu")
    assert last.num_timesteps == 120
    best = EquivariantDQN.load(tmp_path / "best_model", device="cpu")
    mean, _ = evaluate_policy(best, Monitor(cartpole()), n_eval_episodes=2)
    assert mean >= 8  # no CartPole episode is shorter


@pytest.mark.parametrize("method", METHODS)
def test_four_environments_at_once(method: str) -> None:
    envs = make_vec_env("CartPole-v1", n_envs=4, seed=0)
    model = EquivariantDQN("MlpPolicy", envs, method, **SMALL)
    before = q_values(model)
    model.learn(160)
    assert model.num_timesteps == 160
    assert model.symmetry.group.names == ("e", "mirror")
    assert not torch.equal(q_values(model), before)


def in_a_process(env: gym.Env[Any, Any]) -> Callable[[], gym.Env[Any, Any]]:
    """Makes the same environment in a process that cannot import this module."""
    return partial(gym.make, env.spec)


def test_environments_in_processes_of_their_own() -> None:
    envs = SubprocVecEnv([in_a_process(SymmetryWrapper(cartpole()))] * 4)
    try:
        model = EquivariantDQN("MlpPolicy", envs, "lambda", **SMALL)
        assert model.symmetry == SymmetryWrapper(cartpole()).symmetry
        model.learn(160)
        mean, _ = evaluate_policy(model, envs, n_eval_episodes=4, warn=False)
    finally:
        envs.close()
    assert model.num_timesteps == 160
    assert mean >= 8


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (cartpole(), r"hides what is in its processes: wrap each .*, SymmetryWrapper\(env\)"),
        (
            NormalizeObservation(SymmetryWrapper(cartpole())),
            r"SymmetryWrapper\(NormalizeObservation\(…\), symmetry\)",
        ),
    ],
    ids=["unwrapped", "normalised"],
)
def test_a_symmetry_that_cannot_be_seen_in_another_process_is_refused(
    env: gym.Env[Any, Any], message: str
) -> None:
    envs = SubprocVecEnv([in_a_process(env)])
    try:
        with pytest.raises(SymmetryError, match=message):
            EquivariantDQN("MlpPolicy", envs, **SMALL)
    finally:
        envs.close()


@pytest.mark.parametrize("method", METHODS)
def test_n_step_returns_work(method: str) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), method, n_steps=3, **SMALL)
    assert isinstance(model.replay_buffer, NStepReplayBuffer)
    before = q_values(model)
    model.learn(120)
    assert not torch.equal(q_values(model), before)


@pytest.mark.parametrize("method", METHODS)
def test_images_train_through_the_aliases(method: str) -> None:
    env = gym.make("equirl/GridWorld-v0", size=36)
    kwargs = {**SMALL, "buffer_size": 100, "learning_starts": 20, "batch_size": 4}
    kwargs["policy_kwargs"] = {"features_extractor_kwargs": {"features_dim": 16}}
    model = EquivariantDQN("CnnPolicy", env, method, **kwargs)
    before = model.q_net.q_net[0].weight.detach().clone()
    model.learn(30)
    assert model.symmetry.group.order == 8
    assert model.observation_space.shape == (3, 36, 36)
    assert not torch.equal(model.q_net.q_net[0].weight, before)
    observation, _ = env.reset(seed=0)
    action, _ = model.predict(observation, deterministic=True)
    for g in range(8):
        moved = model.symmetry.transform_observation(g, observation)
        assert model.predict(moved, deterministic=True)[0] == model.symmetry.transform_action(
            g, action
        )


@pytest.mark.parametrize(
    "env",
    [
        "CartPole-v1",
        gym.make("CartPole-v1"),
        SymmetryWrapper(gym.make("CartPole-v1")),
        RecordEpisodeStatistics(gym.make("CartPole-v1")),
        DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2),
        VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")]), norm_obs=False),
    ],
    ids=["id", "bare", "wrapped", "monitored", "vectorized", "rewards-normalised"],
)
def test_the_symmetry_is_read_off_the_environment(env: Any) -> None:
    model = EquivariantDQN("MlpPolicy", env, **SMALL)
    assert model.symmetry.group.names == ("e", "mirror")
    assert model.symmetry.permutations.tolist() == [[0, 1], [1, 0]]
    model.learn(60)


def test_a_symmetry_can_be_given_as_symmetry_generators_or_function() -> None:
    env = Monitor(unregistered())
    symmetry = Symmetry.from_generators(env.observation_space, env.action_space, MIRROR)
    for given in (symmetry, MIRROR, lambda *_: MIRROR, lambda *_: symmetry):
        model = EquivariantDQN("MlpPolicy", env, "equizero", symmetry=given, **SMALL)
        assert model.symmetry == symmetry


def test_a_given_symmetry_comes_before_that_of_the_environment() -> None:
    model = EquivariantDQN("MlpPolicy", SymmetryWrapper(cartpole()), symmetry={}, **SMALL)
    assert model.symmetry.group.order == 1
    symmetry = SymmetryWrapper(cartpole()).symmetry
    kwargs = {**SMALL, "policy_kwargs": {"symmetry": symmetry, "method": "equizero"}}
    model = EquivariantDQN("MlpPolicy", SymmetryWrapper(cartpole()), symmetry={}, **kwargs)
    assert model.symmetry is symmetry
    assert model.q_net.symmetrized.method == "equizero"


def test_generators_are_given_for_images_as_the_environment_shows_them() -> None:
    env = gym.make("equirl/GridWorld-v0", size=5)
    model = EquivariantDQN("MlpPolicy", env, symmetry=GRID_WORLD_GENERATORS, **SMALL)
    assert model.observation_space.shape == (3, 5, 5)
    assert model.symmetry.observation_space.shape == (5, 5, 3)
    assert model.symmetry.group.order == 8


class Unregistered(gym.Env[np.ndarray, np.int64]):
    """Nobody has declared a symmetry of this."""

    observation_space = spaces.Box(-1, 1, (4,))
    action_space = spaces.Discrete(2)


def unregistered() -> gym.Env[Any, Any]:
    return Unregistered()


class NamedCartPole(SymmetryWrapper[Any, Any]):
    """CartPole with its observation under a key."""

    def __init__(self) -> None:
        named = TransformObservation(
            cartpole(), lambda s: {"state": s}, spaces.Dict(state=cartpole().observation_space)
        )
        super().__init__(named, {"mirror": ({"state": np.negative}, [1, 0])})


@pytest.mark.parametrize(
    ("make_env", "message"),
    [
        (unregistered, r"no symmetry is known for Unregistered: .*SymmetryWrapper\(env, \{"),
        (
            lambda: VecNormalize(DummyVecEnv([cartpole])),
            "VecNormalize normalises .*: use equirl.agents.SymmetricVecNormalize, or norm_obs",
        ),
        (
            lambda: VecExtractDictObs(DummyVecEnv([NamedCartPole]), "state"),
            "VecExtractDictObs may change .*: do the same inside each environment",
        ),
        (
            lambda: NormalizeObservation(cartpole()),
            r"NormalizeObservation may change .*: declare the symmetry of what comes out, "
            r"SymmetryWrapper\(NormalizeObservation\(…\), symmetry\)",
        ),
        (
            lambda: NormalizeObservation(SymmetryWrapper(cartpole())),
            r"SymmetryWrapper\(NormalizeObservation\(…\), symmetry\)",
        ),
        (
            lambda: DummyVecEnv([cartpole, lambda: SymmetryWrapper(cartpole(), {})]),
            "the vectorized environments have different symmetries",
        ),
    ],
    ids=[
        "unknown",
        "VecNormalize",
        "VecExtractDictObs",
        "NormalizeObservation",
        "outside",
        "different",
    ],
)
def test_an_environment_without_a_certain_symmetry_is_refused_with_what_to_do(
    make_env: Callable[[], Any], message: str
) -> None:
    with pytest.raises(SymmetryError, match=message) as caught:
        EquivariantDQN("MlpPolicy", make_env(), **SMALL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("outside", [lambda envs: envs, VecMonitor], ids=["outermost", "inside"])
def test_running_statistics_are_refused_whoever_declares_the_symmetry(
    outside: Callable[[Any], Any], tmp_path: Path
) -> None:
    symmetry = SymmetryWrapper(cartpole()).symmetry
    message = r"use SymmetricVecNormalize, or VecNormalize\(…, norm_obs=False\)"
    envs = outside(VecNormalize(DummyVecEnv([cartpole])))
    kwargs = {**SMALL, "policy_kwargs": {"symmetry": symmetry, "net_arch": [16]}}
    with pytest.raises(SymmetryError, match=message):
        EquivariantDQN("MlpPolicy", envs, **kwargs)
    with pytest.raises(
        SymmetryError, match=r"use equirl\.agents\.SymmetricVecNormalize, or norm_obs"
    ):
        EquivariantDQN("MlpPolicy", envs, symmetry=symmetry, **SMALL)
    model = EquivariantDQN("MlpPolicy", cartpole(), **SMALL)
    model.save(tmp_path / "agent")
    with pytest.raises(SymmetryError, match=message):
        model.set_env(envs)
    with pytest.raises(SymmetryError, match=message):
        EquivariantDQN.load(tmp_path / "agent", env=envs, device="cpu")


def test_a_symmetry_of_other_spaces_is_refused() -> None:
    acrobot = SymmetryWrapper(gym.make("Acrobot-v1")).symmetry
    with pytest.raises(SymmetryError, match=r"moves Discrete\(3\), the policy has Discrete\(2\)"):
        EquivariantDQN("MlpPolicy", cartpole(), symmetry=acrobot, **SMALL)
    wide = Symmetry.from_generators(spaces.Box(-9, 9, (16,)), spaces.Discrete(2), MIRROR)
    for envs in (cartpole(), VecFrameStack(DummyVecEnv([cartpole]), 4)):
        with pytest.raises(SymmetryError, match=r"was declared for .*\(16,\).*(sees|has) .*\(4,\)"):
            EquivariantDQN("MlpPolicy", envs, symmetry=wide, **SMALL)


@pytest.mark.parametrize("name", ["method", "gradient", "init"])
def test_a_word_that_does_not_exist_is_answered_with_those_that_do(name: str) -> None:
    known = {
        "method": "equitune, lambda, equizero, canonical",
        "gradient": "selected, straight_through",
        "init": "equitune, equizero",
    }[name]
    with pytest.raises(ValueError, match=f"^{name} must be one of {known}, got 'equitone'$"):
        EquivariantDQN("MlpPolicy", cartpole(), **{name: "equitone"}, **SMALL)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("method", METHODS)
def test_an_agent_trained_on_a_gpu_acts_the_same_on_a_cpu(method: str, tmp_path: Path) -> None:
    model = EquivariantDQN("MlpPolicy", cartpole(), method, **{**SMALL, "device": "cuda"})
    model.learn(100, callback=EquivarianceCallback(every=50))
    model.save(tmp_path / "agent")
    loaded = EquivariantDQN.load(tmp_path / "agent", device="cpu")
    torch.testing.assert_close(q_values(loaded), q_values(model).cpu(), rtol=1e-4, atol=1e-5)
