"""``method="relaxed"`` of actors and critics: what it begins as, learns, saves and refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, TRPO
from stable_baselines3 import PPO, SAC

from equirl import Symmetry
from equirl.agents import (
    EquivarianceCallback,
    EquivariantA2C,
    EquivariantActorCriticPolicy,
    EquivariantDDPG,
    EquivariantMaskablePPO,
    EquivariantPPO,
    EquivariantQRDQN,
    EquivariantSAC,
    EquivariantTD3,
    EquivariantTQC,
    EquivariantTRPO,
)
from equirl.agents.equivariance_metrics import alphas
from equirl.agents.saving.export import export_policy
from equirl.agents.symmetrized_network import acting_network
from equirl.envs import SymmetryWrapper
from equirl.errors import MethodError
from equirl.testing import assert_equivariant
from shared.rarely import rarely

OFF_POLICY: dict[str, Any] = {
    "sac": EquivariantSAC,
    "td3": EquivariantTD3,
    "ddpg": EquivariantDDPG,
    "tqc": EquivariantTQC,
}
ON_POLICY: dict[str, Any] = {
    "ppo": EquivariantPPO,
    "a2c": EquivariantA2C,
    "maskable": EquivariantMaskablePPO,
    "trpo": EquivariantTRPO,
}
VALUES: dict[str, Any] = {"qrdqn": EquivariantQRDQN}
ALGORITHMS = OFF_POLICY | ON_POLICY | VALUES
REPLAYED = {"learning_starts": 32, "batch_size": 32, "buffer_size": 5000, "learning_rate": 3e-3}
ROLLED_OUT = {"n_steps": 128, "batch_size": 64, "n_epochs": 4, "learning_rate": 3e-3}
SETTINGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(OFF_POLICY, REPLAYED),
    "ppo": ROLLED_OUT,
    "a2c": {"n_steps": 64},
    "maskable": ROLLED_OUT,
    "trpo": {"n_steps": 128, "batch_size": 64, "learning_rate": 3e-3},
    "qrdqn": {**REPLAYED, "train_freq": 1, "policy_kwargs": {"n_quantiles": 20}},
}
INNER = ["equitune", "lambda", "equizero", "canonical"]


class OneStep(gym.Env[Any, Any]):
    """s in -1 … 1, mirrored; one step, rewarded for the side of s, or for how far out it is."""

    def __init__(self, discrete: bool, broken: bool) -> None:
        self.broken = broken
        self.observation_space = spaces.Box(-1, 1, (1,))
        self.action_space = spaces.Discrete(2) if discrete else spaces.Box(-1, 1, (1,))
        self.symmetry = Symmetry.from_generators(
            self.observation_space,
            self.action_space,
            {"mirror": ([-1], [1, 0] if discrete else [-1])},
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.state, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        (s,) = self.state
        reward = np.sign(s) if self.broken else 2 * abs(s) - 1
        return self.state, float(reward), True, False, {}

    def action_masks(self) -> np.ndarray:
        return np.ones(2, bool)


def agent(name: str, broken: bool = True, method: str = "relaxed", **kwargs: Any) -> Any:
    env = OneStep(name not in OFF_POLICY, broken)
    kwargs = {"symmetry": env.symmetry, **SETTINGS[name], **kwargs}
    policy_kwargs = {"net_arch": [16], **kwargs.pop("policy_kwargs", {})}
    return ALGORITHMS[name](
        "MlpPolicy", env, method, policy_kwargs=policy_kwargs, seed=0, device="cpu", **kwargs
    )


def let_go_somewhere(model: Any) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.policy.named_parameters():
            if name.endswith("weighting.h.2.weight"):
                parameter.normal_(std=0.1)
            elif name.endswith("weighting.h.2.bias"):
                parameter.fill_(0.5)
    return model


def acted(model: Any, obs: torch.Tensor) -> torch.Tensor:
    """The parameters of the distribution, or the action; without a graph."""
    network = acting_network(model.policy)
    with torch.no_grad():
        if hasattr(network, "combined"):
            outputs: torch.Tensor = network.combined(obs)
            return outputs
        if model.__class__.__name__ == "EquivariantQRDQN":
            return network(obs).flatten(1)
        return torch.cat(network.parameters_and_values(obs), dim=1)


OBSERVATIONS = torch.linspace(-1, 1, 21)[:, None]


@pytest.mark.covering(1)
@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("name", ["ppo", "sac", "td3", "qrdqn"])
def test_it_begins_as_its_inner_method_exactly(name: str, inner: str) -> None:
    model, same = agent(name, inner=inner), agent(name, method=inner)
    missing = same.policy.load_state_dict(model.policy.state_dict(), strict=False)
    assert not missing.missing_keys or inner == "lambda"
    torch.testing.assert_close(
        acted(model, OBSERVATIONS), acted(same, OBSERVATIONS), rtol=0, atol=1e-6
    )
    assert float(alphas(model, OBSERVATIONS).abs().max()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo", "trpo", "sac", "td3", "qrdqn"])
def test_alpha_rises_where_values_are_not_symmetric_and_stays_0_where_they_are(name: str) -> None:
    steps = 3000 if name in ON_POLICY else 350
    broken, whole = (agent(name, broken).learn(steps) for broken in (True, False))
    assert float(alphas(broken, OBSERVATIONS).mean()) > 0.7
    if name == "qrdqn":  # which still fits, and not equally well at s and its mirror image
        assert float(alphas(whole, OBSERVATIONS).mean()) < 0.3
    else:
        assert float(alphas(whole, OBSERVATIONS).max()) < 0.1


@pytest.mark.long
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_teaches_it_and_a_saved_agent_lets_go_of_the_same(
    name: str, tmp_path: Path
) -> None:
    model = let_go_somewhere(agent(name, inner="lambda"))
    before = acting_network(model.policy).symmetrized.weighting.h[-1].weight.clone()
    model.learn(130 if name in ON_POLICY else 40)
    weighting = acting_network(model.policy).symmetrized.weighting
    assert not torch.equal(weighting.h[-1].weight, before)
    measured = [float(getattr(weighting, f"running_{n}")) for n in ("error", "gap")]
    assert min(measured) > 0
    model.save(tmp_path / "agent.zip")
    loaded = ALGORITHMS[name].load(tmp_path / "agent.zip", device="cpu")
    assert torch.equal(acted(loaded, OBSERVATIONS), acted(model, OBSERVATIONS))
    assert loaded.predict(OBSERVATIONS.numpy(), deterministic=True)[0].shape[0] == 21


def test_alpha_learns_from_the_returns_before_anything_else_does() -> None:
    model = agent("ppo")
    model.learn(128)
    kept = {key: value.clone() for key, value in model.policy.state_dict().items()}
    weighting = model.policy.symmetrized.weighting
    model._learn_alpha(weighting)
    now = model.policy.state_dict()
    moved = {key for key, value in now.items() if not torch.equal(value, kept[key])}
    own = {
        *(f"running_{name}" for name in ("error", "gap")),
        *(f"h.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")),
    }
    assert moved == {f"symmetrized.weighting.{name}" for name in own}


def test_the_plain_loss_of_ppo_is_the_loss_of_ppo_for_the_plain_networks() -> None:
    model = agent("ppo", ent_coef=0.1).learn(128)
    (sample,) = model.rollout_buffer.get(128)
    actions = sample.actions.long().flatten()
    plain = PPO("MlpPolicy", OneStep(True, True), policy_kwargs={"net_arch": [16]}, device="cpu")
    plain.policy.load_state_dict(model.policy.state_dict(), strict=False)
    values, log_prob, entropy = plain.policy.evaluate_actions(sample.observations, actions)
    a = (sample.advantages - sample.advantages.mean()) / (sample.advantages.std() + 1e-8)
    ratio = (log_prob - sample.old_log_prob).exp()
    expected = -torch.min(ratio * a, ratio.clamp(0.8, 1.2) * a).mean() - 0.1 * entropy.mean()
    expected = expected + 0.5 * (values[:, 0] - sample.returns).square().mean()
    torch.testing.assert_close(model.plain_loss(sample, actions), expected)


@pytest.mark.parametrize("kind", ["gaussian", "bits", "categories"])
def test_the_region_of_trust_of_trpo_holds_the_plain_actor_too(kind: str) -> None:
    env = OneStep(kind == "categories", True)
    symmetry: Any = env.symmetry
    if kind == "bits":
        env.action_space = spaces.MultiBinary(2)
        actions = {"mirror": ([-1], [1, 0])}
        symmetry = Symmetry.from_generators(env.observation_space, env.action_space, actions)
    policy_kwargs = {"net_arch": [16], "ortho_init": False}
    model = EquivariantTRPO(
        "MlpPolicy", env, "relaxed", symmetry=symmetry, policy_kwargs=policy_kwargs,
        seed=0, device="cpu", **SETTINGS["trpo"],
    )  # fmt: skip
    model.learn(128)
    (sample,) = model.rollout_buffer.get(128)
    weight = model.policy.action_net.weight
    (up,) = torch.autograd.grad(model.plain_actor(sample)[1], weight)
    divergence, _ = model.plain_actor(sample)
    (slope,) = torch.autograd.grad(divergence, weight, create_graph=True)
    direction = torch.randn(slope.shape, generator=torch.Generator().manual_seed(0))
    (curvature,) = torch.autograd.grad((slope * direction).sum(), weight)
    assert float(slope.detach().abs().max()) < 1e-6  # it is least where the step begins
    assert float((curvature * direction).sum()) > 1e-3
    assert float(up.abs().max()) > 0


@pytest.mark.parametrize("name", ["ppo", "sac", "td3"])
def test_what_is_let_go_of_lies_between_the_symmetrized_and_the_plain_network(name: str) -> None:
    model = agent(name)
    symmetric = acted(model, OBSERVATIONS)
    alpha = alphas(let_go_somewhere(model), OBSERVATIONS).detach()[:, None]
    assert alpha.max() > 0
    assert alpha.min() < 1
    network = acting_network(model.policy)
    with torch.no_grad():
        plain = network._plain(OBSERVATIONS) if name != "td3" else network.mu(OBSERVATIONS)
    expected = (1 - alpha) * symmetric + alpha * plain
    torch.testing.assert_close(acted(model, OBSERVATIONS), expected, rtol=0, atol=1e-6)


def test_critics_and_actor_share_one_alpha() -> None:
    model = let_go_somewhere(agent("sac"))
    actions = torch.rand(21, 1) * 2 - 1
    weighed = model.actor.weigh(OBSERVATIONS)
    symmetric, plain = model.critic.both_values(OBSERVATIONS, actions, weighed.relaxed.kept)
    alpha = alphas(model, OBSERVATIONS).detach()[:, None]
    with torch.no_grad():
        values = torch.cat(model.critic(OBSERVATIONS, actions), dim=1)
        stock = SAC("MlpPolicy", OneStep(False, True), policy_kwargs={"net_arch": [16]})
        stock.critic.load_state_dict(model.critic.state_dict())
        torch.testing.assert_close(torch.cat(stock.critic(OBSERVATIONS, actions), dim=1), plain)
    torch.testing.assert_close(values, (1 - alpha) * symmetric + alpha * plain)


@pytest.mark.parametrize(
    ("name", "stock"), [("ppo", PPO), ("trpo", TRPO), ("sac", SAC), ("qrdqn", QRDQN)]
)
def test_with_the_trivial_group_it_is_the_parent_bit_for_bit(name: str, stock: Any) -> None:
    env = OneStep(name not in OFF_POLICY, True)
    trivial = Symmetry.trivial(env.observation_space, env.action_space)
    steps = 160 if name in ON_POLICY else 50
    ours = agent(name, symmetry=trivial).learn(steps)
    settings = {**SETTINGS[name], "seed": 0, "device": "cpu"}
    settings["policy_kwargs"] = {"net_arch": [16], **settings.get("policy_kwargs", {})}
    theirs = stock("MlpPolicy", env, **settings).learn(steps).policy.state_dict()
    assert ours.policy.state_dict().keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.policy.state_dict().items())


def test_the_policy_in_stock_ppo_stays_its_inner_method() -> None:
    env = SymmetryWrapper(OneStep(True, True), {"mirror": ([-1], [1, 0])})
    kwargs = {"symmetry": env.symmetry, "method": "relaxed"}
    model = PPO(EquivariantActorCriticPolicy, env, n_steps=64, policy_kwargs=kwargs, device="cpu")
    model.learn(64)
    policy: Any = model.policy
    assert_equivariant(
        lambda obs: policy.parameters_and_values(obs)[0],
        env.symmetry.observations,
        policy.output_action(),
        OBSERVATIONS,
    )


def test_tensorboard_shows_how_much_is_let_go_of(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = let_go_somewhere(agent("ppo", tensorboard_log=str(tmp_path)))
    model.learn(130, callback=EquivarianceCallback(every=50), log_interval=1)
    (run,) = tmp_path.iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    assert "equirl/alpha" in events.Tags()["histograms"]
    assert 0 < events.Scalars("equirl/alpha_mean")[0].value < 1


@pytest.mark.parametrize("name", ["ppo", "qrdqn"])
def test_only_dqn_has_an_alpha_of_every_action(name: str) -> None:
    with pytest.raises(MethodError, match=r"per_action=true is for DQN"):
        agent(name, per_action=True)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "inner"), rarely([("sac", "lambda"), ("td3", "equizero")], ("td3", "equizero"))
)
def test_a_program_of_an_actor_that_its_critics_score_can_be_opened(
    name: str, inner: str, tmp_path: Path
) -> None:
    model = let_go_somewhere(agent(name, inner=inner))
    export_policy(model, tmp_path / "policy.pt2", "torch")
    seen = np.linspace(-1, 1, 7, dtype=np.float32)[:, None]
    (actions,) = torch.export.load(tmp_path / "policy.pt2").module()(torch.from_numpy(seen))
    expected, _ = model.predict(seen, deterministic=True)
    np.testing.assert_allclose(actions.detach(), expected, atol=1e-5)
