"""Public agents made equivariant: the networks inside compute what the plain ones did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN, TQC
from stable_baselines3 import DDPG, SAC

from equirl.agents import from_pretrained
from equirl.agents.saving.saved_agent import read_agent
from equirl.envs import SymmetryWrapper
from equirl.errors import AgentError
from shared.off_policy_agents import Random

AGENTS = Path(__file__).parents[3] / ".." / "shared" / "data" / "rl_zoo_agents"
pytestmark = pytest.mark.skipif(not AGENTS.is_dir(), reason="the public agents are not here")

PENDULUM = {"mirror": ([1, -1, -1], [-1])}
SWIMMER = {"mirror": ([-1] * 3 + [1] + [-1] * 4, [-1, -1])}
PUBLIC: dict[str, tuple[type[Any], Any]] = {
    "sac-Pendulum-v1": (SAC, PENDULUM),
    "ddpg-Pendulum-v1": (DDPG, PENDULUM),
    "tqc-Pendulum-v1": (TQC, PENDULUM),
    "sac-Swimmer-v3": (SAC, SWIMMER),
    "tqc-Swimmer-v3": (TQC, SWIMMER),
    "qrdqn-CartPole-v1": (QRDQN, {"mirror": ([-1] * 4, [1, 0])}),
    "qrdqn-Acrobot-v1": (QRDQN, {"mirror": ([1, -1, 1, -1, -1, -1], [2, 1, 0])}),
}
"""By file, its algorithm and a symmetry."""


@pytest.mark.parametrize("name", PUBLIC)
def test_the_plain_network_inside_computes_what_it_did(name: str) -> None:
    cls, generators = PUBLIC[name]
    path = AGENTS / f"{name}.zip"
    saved = read_agent(path)
    env = SymmetryWrapper(
        Random(saved.observation_space.space, saved.action_space.space), generators
    )
    ours: Any = from_pretrained(path, env, "equizero", buffer_size=10, device="cpu")
    settings = {"net_arch": ours.policy_kwargs["net_arch"]}
    for key in ("n_critics", "n_quantiles", "use_expln", "clip_mean", "activation_fn"):
        if key in ours.policy_kwargs:
            settings[key] = ours.policy_kwargs[key]
    kwargs = {"use_sde": True} if saved.architecture.use_sde else {}
    plain: Any = cls(
        "MlpPolicy", env, buffer_size=10, device="cpu", policy_kwargs=settings, **kwargs
    )
    plain.policy.load_state_dict(saved.weights)
    x = torch.randn(20, *env.observation_space.shape)
    with torch.no_grad():
        if cls is QRDQN:
            inside = ours.quantile_net.symmetrized.model(x)
            torch.testing.assert_close(inside, plain.quantile_net(x))
            return
        actions = plain.policy._predict(x, deterministic=True)
        actor = ours.actor.symmetrized
        torch.testing.assert_close(ours.actor.mean_action(actor.model(x)), actions)
        given = plain.critic(x, actions)
        given = torch.cat(given, dim=1) if isinstance(given, tuple) else given
        points = ours.critic.points.join(x, actions)
        torch.testing.assert_close(ours.critic.symmetrized.model(points), given)


def test_an_agent_trained_with_gsde_acts_deterministically_and_no_other_way() -> None:
    saved = read_agent(AGENTS / "sac-Pendulum-v1.zip")
    env = SymmetryWrapper(Random(saved.observation_space.space, saved.action_space.space), PENDULUM)
    model = from_pretrained(saved.path, env, "equizero", buffer_size=10, device="cpu")
    x = np.array([[0.6, 0.8, 0.1], [0.6, -0.8, -0.1]], np.float32)
    (one, other), _ = model.predict(x, deterministic=True)
    np.testing.assert_allclose(one, -other, atol=1e-5)
    with pytest.raises(AgentError, match="gSDE"):
        model.predict(x)


def test_an_agent_of_another_algorithm_is_refused() -> None:
    from equirl.agents import EquivariantSAC

    with pytest.raises(AgentError, match="ddpg"):
        EquivariantSAC.from_pretrained(AGENTS / "ddpg-Pendulum-v1.zip", "Pendulum-v1")
