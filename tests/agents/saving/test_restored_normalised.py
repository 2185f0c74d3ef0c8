"""An agent trained behind statistics, read from its file as a function of raw observations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from equirl.agents import EquivariantDQN, EquivariantPPO, SymmetricVecNormalize, from_pretrained
from equirl.agents.native.native_policies import NativeEquivariantPolicy
from equirl.agents.saving.normalised import with_normalisation
from equirl.agents.saving.reading.saved_normalisation import read_normalisation
from equirl.agents.saving.restore import restore
from equirl.agents.saving.saved_agent import read_agent
from equirl.envs import SymmetryWrapper
from equirl.errors import AgentError
from shared.normalized_tasks import CASES, asymmetric, envs_of, symmetry

LEARNED = {"method": "canonical", "canonical_score": "learned", "gradient": "straight_through"}


def native(envs: Any) -> Any:
    kwargs = {"symmetry": symmetry("signed-permutation"), "net_arch": [16]}
    return DQN(NativeEquivariantPolicy, envs, policy_kwargs=kwargs, device="cpu", buffer_size=99)


def learned_score(envs: Any) -> Any:
    return EquivariantPPO("MlpPolicy", envs, **LEARNED, n_steps=8, batch_size=8, device="cpu")


def averaged(envs: Any) -> Any:
    return EquivariantDQN("MlpPolicy", envs, device="cpu", buffer_size=99)


def outputs(model: Any, observations: Any) -> torch.Tensor:
    policy, seen = model.policy, model.policy.obs_to_tensor(observations)[0]
    with torch.no_grad():
        if hasattr(policy, "q_net"):
            return torch.as_tensor(policy.q_net(seen))
        return torch.as_tensor(policy.get_distribution(seen).distribution.logits)


@pytest.mark.parametrize("make", [native, learned_score, averaged])
def test_it_gives_of_an_observation_what_the_agent_gave_of_the_normalised_one(
    make: Any, tmp_path: Path
) -> None:
    envs = SymmetricVecNormalize(envs_of("signed-permutation"), symmetry=None)
    envs.reset()
    for _ in range(20):
        envs.step(np.array([0]))
    model = make(envs)
    model.save(tmp_path / "agent.zip")
    envs.save(str(tmp_path / "agent.vecnormalize.pkl"))
    agent = read_agent(tmp_path / "agent.zip")
    normalised = with_normalisation(agent, tmp_path / "agent.vecnormalize.pkl")
    (env,) = envs_of("signed-permutation").envs
    restored = restore(normalised, env, "cpu")
    raw = asymmetric(CASES["signed-permutation"][0], 50, seed=2)
    wanted = outputs(model, envs.normalize_obs(raw))
    torch.testing.assert_close(outputs(restored, raw), wanted, rtol=1e-5, atol=1e-5)
    assert (outputs(restore(agent, env, "cpu"), raw) - wanted).abs().max() > 1e-3


class Unit(gym.Env[Any, Any]):
    """A place between 0 and 1, which is mirrored about the middle."""

    observation_space = spaces.Box(0, 1, (1,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.np_random.uniform(0, 1, 1).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.np_random.uniform(0, 1, 1).astype(np.float32), 0.0, False, False, {}


def test_a_symmetry_of_normalised_observations_that_is_none_of_raw_ones_is_refused(
    tmp_path: Path,
) -> None:
    def make() -> Any:
        return SymmetryWrapper(Unit(), {"mirror": (lambda o: 1 - o, [1, 0])})

    envs = SymmetricVecNormalize(DummyVecEnv([make]))
    EquivariantPPO("MlpPolicy", envs, n_steps=8, batch_size=8, device="cpu").learn(8).save(
        tmp_path / "agent.zip"
    )
    envs.save(str(tmp_path / "statistics.pkl"))
    agent = read_agent(tmp_path / "agent.zip")
    with pytest.raises(AgentError, match="behind SymmetricVecNormalize"):
        with_normalisation(agent, tmp_path / "statistics.pkl")


def test_statistics_of_rewards_alone_are_read(tmp_path: Path) -> None:
    VecNormalize(DummyVecEnv([Unit]), norm_obs=False).save(str(tmp_path / "statistics.pkl"))
    found = read_normalisation(tmp_path / "statistics.pkl")
    assert not found.observations
    assert found.settings["norm_reward"]


def test_what_lies_in_the_current_folder_says_nothing_of_a_model_that_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("vecnormalize.pkl").touch()
    Path("config.yaml").write_text("normalize: true\n")
    plain = DQN("MlpPolicy", "CartPole-v1", buffer_size=1, device="cpu")
    assert from_pretrained(plain, "CartPole-v1", buffer_size=1, device="cpu")
