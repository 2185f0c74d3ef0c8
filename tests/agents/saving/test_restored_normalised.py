"""An agent trained behind statistics, read from its file as a function of raw observations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import DQN

from equirl.agents import EquivariantDQN, EquivariantPPO, SymmetricVecNormalize
from equirl.agents.native.native_policies import NativeEquivariantPolicy
from equirl.agents.saving.normalised import with_normalisation
from equirl.agents.saving.restore import restore
from equirl.agents.saving.saved_agent import read_agent
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
