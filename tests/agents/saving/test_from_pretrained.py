"""`from_pretrained`, and the statistics of `VecNormalize` that an agent was trained behind."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import TRPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from equirl.agents.saving.from_pretrained import from_pretrained
from equirl.agents.saving.reading.saved_normalisation import read_normalisation
from equirl.agents.saving.restore import restore
from equirl.agents.saving.saved_agent import read_agent
from equirl.envs import SymmetryWrapper
from equirl.envs.known_symmetries.box2d import EvenHips
from equirl.errors import AgentError, MethodError
from shared.off_policy_agents import Random
from shared.sampled import Sampled, q_values, raw_observations

AGENTS = Path(__file__).parents[3] / ".." / "shared" / "data" / "rl_zoo_agents"
needs_public_agents = pytest.mark.skipif(
    not AGENTS.is_dir(), reason=f"the public agents are not at {AGENTS}"
)
VECTOR = spaces.Box(-9, 9, (4,))
TASKS: dict[str, tuple[spaces.Space[Any], Any, str]] = {
    "vector": (VECTOR, np.negative, "MlpPolicy"),
    "dict": (
        spaces.Dict(a=VECTOR, b=spaces.MultiBinary(2)),
        {"a": np.negative, "b": np.flip},
        "MultiInputPolicy",
    ),
}


def normalised(name: str, folder: Path) -> tuple[DQN, VecNormalize, SymmetryWrapper[Any, Any]]:
    """A plain agent behind `VecNormalize`, both saved, and its environment with a mirror."""
    space, mirror, policy = TASKS[name]
    env = SymmetryWrapper(Sampled(space), {"mirror": (mirror, [1, 0])})
    keys = ["a"] if isinstance(space, spaces.Dict) else None
    behind = VecNormalize(DummyVecEnv([lambda: env]), norm_obs_keys=keys, clip_obs=1.5)
    model = DQN(policy, behind, buffer_size=50, learning_starts=0, device="cpu", seed=0)
    model.learn(40)
    (folder / "agent").mkdir()
    model.save(folder / "agent" / "agent.zip")
    behind.save(str(folder / "statistics.pkl"))
    return model, behind, env


@pytest.mark.parametrize("name", sorted(TASKS))
def test_normalisation_is_part_of_the_network(name: str, tmp_path: Path) -> None:
    plain, behind, env = normalised(name, tmp_path)
    model: Any = from_pretrained(
        tmp_path / "agent" / "agent.zip",
        env,
        "equitune",
        normalize=tmp_path / "statistics.pkl",
        buffer_size=1,
        device="cpu",
    )
    assert set(model.policy.state_dict()) == set(plain.policy.state_dict())
    seen = raw_observations(env.observation_space)
    moved = env.symmetry.transform_observation("mirror", seen)
    here, there = (q_values(plain, behind.normalize_obs(raw)) for raw in (seen, moved))
    torch.testing.assert_close(q_values(model, seen), (here + there[:, [1, 0]]) / 2)
    model.save(tmp_path / "ours.zip")
    again = restore(read_agent(tmp_path / "ours.zip"), device="cpu")
    assert torch.equal(q_values(again, seen), q_values(model, seen))


@needs_public_agents
@pytest.mark.parametrize("path", sorted(AGENTS.glob("*.pkl")), ids=lambda path: path.name)
def test_public_statistics_are_read(path: Path) -> None:
    found = read_normalisation(path)
    agent = read_agent(path.with_name(path.name.replace(".vecnormalize.pkl", ".zip")))
    assert agent.observation_space.space is not None
    found.check_fits(agent.observation_space.space)
    assert found.clip_obs == 10
    assert found.observations[None].count > 1e5
    with pytest.raises(AgentError, match=r"statistics of observations of shape"):
        found.check_fits(spaces.Box(-1, 1, (5,)))


def test_statistics_are_those_that_vecnormalize_has(tmp_path: Path) -> None:
    _, behind, _ = normalised("vector", tmp_path)
    found = read_normalisation(tmp_path / "statistics.pkl")
    assert found.observation_space == VECTOR
    for mine, theirs in (
        (found.observations[None], behind.obs_rms),
        (found.returns, behind.ret_rms),
    ):
        np.testing.assert_array_equal(mine.mean, theirs.mean)
        np.testing.assert_array_equal(mine.var, theirs.var)
        assert mine.count == theirs.count


def test_what_is_no_statistics_is_refused_in_one_line_and_not_run(tmp_path: Path) -> None:
    normalised("vector", tmp_path)
    whole = (tmp_path / "statistics.pkl").read_bytes()
    witness = tmp_path / "witness"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (witness,)

    bad = tmp_path / "bad.pkl"
    contents = [b"", b"hello", whole[:100], whole[:-1], pickle.dumps({"obs_rms": 1})]
    for content in [*contents, pickle.dumps(Trap())]:
        bad.write_bytes(content)
        with pytest.raises(AgentError) as refusal:
            read_normalisation(bad)
        assert str(refusal.value).isprintable()
        assert str(bad) in str(refusal.value)
    with pytest.raises(AgentError):
        read_normalisation(tmp_path / "missing.pkl")
    assert not witness.exists()


def test_statistics_that_lie_beside_the_agent_are_not_overlooked(tmp_path: Path) -> None:
    _, _, env = normalised("vector", tmp_path)
    path = tmp_path / "agent" / "agent.zip"
    (tmp_path / "statistics.pkl").rename(path.with_name("vecnormalize.pkl"))
    with pytest.raises(AgentError, match="lies beside"):
        from_pretrained(path, env)
    from_pretrained(path, env, normalize=False, buffer_size=1)


ON_POLICY = {
    "ppo-CartPole-v1": (PPO, {"mirror": ([-1] * 4, [1, 0])}),
    "ppo-Acrobot-v1": (PPO, {"mirror": ([1, -1, 1, -1, -1, -1], [2, 1, 0])}),
    "ppo-LunarLanderContinuous-v2": (PPO, {"mirror": ([-1, 1, -1, 1, -1, -1, 1, 1], [1, -1])}),
    "a2c-BipedalWalker-v3": (A2C, {"legs": (lambda s: s[LEGS], lambda a: a[[2, 3, 0, 1]])}),
    "trpo-Acrobot-v1": (TRPO, {"mirror": ([1, -1, 1, -1, -1, -1], [2, 1, 0])}),
}
"""By file, its algorithm and a symmetry; Acrobot and the walker come with statistics."""
LEGS = [0, 1, 2, 3, *range(9, 14), *range(4, 9), *range(14, 24)]


@needs_public_agents
@pytest.mark.parametrize("name", ON_POLICY)
def test_a_public_actor_critic_computes_on_raw_observations_what_it_did(name: str) -> None:
    cls, generators = ON_POLICY[name]
    path, statistics = AGENTS / f"{name}.zip", AGENTS / f"{name}.vecnormalize.pkl"
    saved = read_agent(path)
    env = SymmetryWrapper(
        Random(saved.observation_space.space, saved.action_space.space), generators
    )
    found = read_normalisation(statistics) if statistics.is_file() else None
    ours: Any = from_pretrained(path, env, "equizero", normalize=found or False, device="cpu")
    plain: Any = cls(
        "MlpPolicy",
        env,
        policy_kwargs=saved.policy_kwargs({}),
        use_sde=saved.architecture.use_sde,
        device="cpu",
    )
    plain.policy.load_state_dict(saved.weights)
    raw = 2 * np.random.default_rng(0).normal(size=(20, *env.observation_space.shape))
    seen = raw
    if found is not None:
        moments = found.observations[None]
        seen = ((raw - moments.mean) / np.sqrt(moments.var + found.epsilon)).clip(-10, 10)
    with torch.no_grad():
        x, y = (torch.as_tensor(each, dtype=torch.float32) for each in (raw, seen))
        features = plain.policy.mlp_extractor(plain.policy.extract_features(y))
        expected = plain.policy.action_net(features[0]), plain.policy.value_net(features[1])
        torch.testing.assert_close(
            ours.policy._plain(x), torch.cat(expected, dim=1), atol=1e-4, rtol=1e-4
        )


@needs_public_agents
def test_a_public_agent_with_gsde_acts_deterministically_and_is_not_trained() -> None:
    model = from_pretrained(
        AGENTS / "a2c-BipedalWalker-v3.zip",
        SymmetryWrapper(EvenHips(gym.make("BipedalWalker-v3"))),
        normalize=AGENTS / "a2c-BipedalWalker-v3.vecnormalize.pkl",
        device="cpu",
    )
    raw = np.random.default_rng(0).normal(size=(3, 24))
    here, _ = model.predict(raw, deterministic=True)
    there, _ = model.predict(raw[:, LEGS], deterministic=True)
    np.testing.assert_allclose(here[:, [2, 3, 0, 1]], there, atol=1e-5)
    with pytest.raises(MethodError, match="gSDE"):
        model.learn(8)


def test_a_model_in_memory_brings_the_statistics_it_is_trained_behind(tmp_path: Path) -> None:
    plain, behind, env = normalised("vector", tmp_path)
    model: Any = from_pretrained(plain, env, "equitune", buffer_size=1, device="cpu")
    seen = raw_observations(env.observation_space)
    moved = env.symmetry.transform_observation("mirror", seen)
    here, there = (q_values(plain, behind.normalize_obs(raw)) for raw in (seen, moved))
    torch.testing.assert_close(q_values(model, seen), (here + there[:, [1, 0]]) / 2)


def test_a_model_in_memory_brings_its_own_classes() -> None:
    class Doubled(torch.nn.ReLU):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    kwargs = {"activation_fn": Doubled, "net_arch": [8]}
    plain = DQN("MlpPolicy", "CartPole-v1", policy_kwargs=kwargs, buffer_size=1, device="cpu")
    model: Any = from_pretrained(plain, "CartPole-v1", "equizero", buffer_size=1, device="cpu")
    assert model.policy.activation_fn is Doubled
    assert torch.equal(model.q_net.q_net[0].weight, plain.q_net.q_net[0].weight)
    with pytest.raises(AgentError, match="equivariant already"):
        from_pretrained(model, "CartPole-v1")


def test_minibatches_larger_than_one_environments_rollout_are_no_warning(tmp_path: Path) -> None:
    trained = PPO(
        "MlpPolicy", make_vec_env("CartPole-v1", 4), n_steps=8, batch_size=32, device="cpu"
    )
    trained.save(tmp_path / "agent.zip")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        from_pretrained(tmp_path / "agent.zip", "CartPole-v1", device="cpu")
    with pytest.warns(UserWarning, match="mini-batch size"):
        from_pretrained(tmp_path / "agent.zip", "CartPole-v1", n_steps=16, device="cpu")
