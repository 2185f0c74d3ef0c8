"""The distribution of actions is equivariant as a whole, and the value invariant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equirl.actions import GroupAction
from equirl.agents import EquivariantA2C, EquivariantActorCriticPolicy, EquivariantPPO
from equirl.agents.policy_spaces import for_policy
from equirl.errors import AgentError, MethodError
from equirl.testing import assert_equivariant
from shared.actor_critic_tasks import ACTIONS, OBSERVATIONS, Wide, first, policy_name, seen, task
from shared.tried import examples

VARIANTS: dict[str, dict[str, Any]] = {
    "equitune": {"method": "equitune"},
    "lambda": {"method": "lambda"},
    "lambda from equizero": {"method": "lambda", "init": "equizero"},
    "equizero": {"method": "equizero"},
    "equizero straight through": {"method": "equizero", "gradient": "straight_through"},
    "canonical": {"method": "canonical"},
    "canonical learned": {"method": "canonical", "canonical_score": "learned"},
}
ALGORITHMS: dict[str, Any] = {"ppo": EquivariantPPO, "a2c": EquivariantA2C}


def agent(algorithm: str, observations: str, actions: str, **kwargs: Any) -> Any:
    env = task(observations, actions)
    policy_kwargs = {
        "features_extractor_class": Wide,
        "net_arch": {"pi": [8], "vf": [7]},
        **kwargs.pop("policy_kwargs", {}),
    }
    if algorithm == "ppo":
        kwargs = {"n_steps": 16, "batch_size": 8, "n_epochs": 2, **kwargs}
    return ALGORITHMS[algorithm](
        policy_name(env.observation_space),
        env,
        device="cpu",
        policy_kwargs=policy_kwargs,
        **{"symmetry": env.symmetry, "seed": 0, **kwargs},
    )


def stir(policy: Any, seed: int) -> None:
    """Weights far from the start, where logits are nearly 0 and all scales 1."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.dim() and "beta" not in str(parameter.shape):
                parameter.add_(0.3 * torch.randn_like(parameter))


@settings(max_examples=examples(8), deadline=None)
@given(
    st.sampled_from(sorted(ALGORITHMS)),
    st.sampled_from(sorted(OBSERVATIONS)),
    st.sampled_from(sorted(ACTIONS)),
    st.sampled_from(sorted(VARIANTS)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.integers(0, 99),
)
def test_the_policy_is_equivariant_on_every_space(
    algorithm: str,
    observations: str,
    actions: str,
    variant: str,
    double: bool,
    training: bool,
    learning: bool,
    shared: bool,
    seed: int,
) -> None:
    model = agent(
        algorithm,
        observations,
        actions,
        policy_kwargs={"share_features_extractor": shared},
        **VARIANTS[variant],
    )
    stir(model.policy, seed)
    policy = model.policy.double() if double else model.policy
    symmetry = for_policy(model.symmetry, model.observation_space)
    points = first(seen(model.symmetry, 6, seed))
    taken = torch.from_numpy(np.stack([model.action_space.sample() for _ in range(7)]))
    # As rollout buffers hand them out.
    floats = torch.float64 if double else torch.float32
    buffered = taken.to(floats) if actions == "multi-binary" else taken

    def evaluated(inputs: Any) -> tuple[torch.Tensor, ...]:
        with torch.set_grad_enabled(learning):
            # σ of lambda moves while a gradient is computed in training.
            policy.set_training_mode(training and not (learning and "lambda" in variant))
            obs, done = inputs["obs"], inputs["done"]
            values, log_prob, entropy = policy.evaluate_actions(obs, done)
            parameters = policy.parameters_and_values(obs)[0]
            return parameters.detach(), values.detach(), log_prob.detach(), entropy.detach()

    trivial, scalar = (GroupAction.trivial(symmetry.group, shape) for shape in ((1,), ()))
    outputs = (policy.output_action(), trivial, scalar, scalar)
    before = evaluated({"obs": points, "done": buffered})
    for g in range(symmetry.group.order):
        moved = {
            "obs": symmetry.transform_observation(g, points),
            "done": model.symmetry.transform_action(g, taken).to(buffered.dtype),
        }
        for action, was, now in zip(outputs, before, evaluated(moved), strict=True):
            expected = action.transform(g, was)
            tolerance = 1e-12 if double else 1e-5
            assert was.dtype == floats
            error = (now - expected).abs() / expected.abs().clamp(min=1)
            assert float(error.max()) < tolerance


@pytest.mark.covering(1)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("actions", ACTIONS)
def test_all_that_the_policy_computes_agrees(actions: str, variant: str) -> None:
    model = agent("ppo", "vector", actions, **VARIANTS[variant])
    policy = model.policy
    policy.set_training_mode(False)
    stir(policy, 1)
    points = seen(model.symmetry, 6, 0)
    with torch.no_grad():
        done, values, log_prob = policy(points)
        evaluated = policy.evaluate_actions(points, done)
        distribution = policy.get_distribution(points)
        torch.testing.assert_close(policy.predict_values(points), values)
        torch.testing.assert_close(evaluated[0], values)
        torch.testing.assert_close(evaluated[1], log_prob)
        torch.testing.assert_close(evaluated[2], distribution.entropy())
        torch.testing.assert_close(distribution.log_prob(done), log_prob)
    # The gradient is computed another way, and of the same numbers.
    again = policy.evaluate_actions(points, done)
    torch.testing.assert_close(again[1].detach(), log_prob)
    torch.testing.assert_close(again[0].detach(), values)


def test_the_network_inside_is_not_equivariant_by_itself() -> None:
    model = agent("ppo", "vector", "box")
    stir(model.policy, 0)
    points = seen(model.symmetry, 6, 0)
    branches = model.policy.branches(points)
    assert float(branches.values.std(dim=0).mean()) > 1e-2


def test_equizero_chooses_the_branch_that_the_plain_critic_values_most() -> None:
    model = agent("ppo", "vector", "box", method="equizero")
    stir(model.policy, 0)
    points = seen(model.symmetry, 6, 0)[1:]
    branches = model.policy.branches(points)
    values = branches.values[..., -1]
    rows = torch.arange(values.shape[1])
    expected = branches.values[values.argmax(dim=0), rows]
    with torch.no_grad():
        parameters, value = model.policy.parameters_and_values(points)
    torch.testing.assert_close(torch.cat([parameters, value], dim=1), expected)


def test_scales_are_equal_for_entries_that_the_group_exchanges() -> None:
    policy = agent("ppo", "vector", "box").policy
    with torch.no_grad():
        policy.log_std.copy_(torch.tensor([0.1, 0.4, 0.7]))
    torch.testing.assert_close(policy.symmetric_log_std(), torch.tensor([0.25, 0.25, 0.7]))


@pytest.mark.parametrize("method", ["equitune", "equizero", "lambda", "canonical"])
def test_parameters_have_the_keys_of_the_parent(method: str) -> None:
    from stable_baselines3.common.policies import ActorCriticPolicy

    model = agent("ppo", "vector", "box", method=method)
    plain = ActorCriticPolicy(
        model.observation_space,
        model.action_space,
        lambda _: 1e-3,
        features_extractor_class=Wide,
        net_arch={"pi": [8], "vf": [7]},
    )
    ours = list(model.policy.state_dict())
    if method == "lambda":
        ours = [key for key in ours if not key.startswith("symmetrized.weighting.")]
    assert ours == list(plain.state_dict())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_gsde_is_refused(algorithm: str) -> None:
    with pytest.raises(MethodError, match="gSDE"):
        agent(algorithm, "vector", "box", use_sde=True)


@pytest.mark.parametrize("squash", [False, True])
def test_an_agent_trained_with_gsde_is_evaluated(squash: bool) -> None:
    model = agent(
        "a2c",
        "vector",
        "box",
        use_sde=True,
        policy_kwargs={"evaluate_only": True, "squash_output": squash},
    )
    stir(model.policy, 0)
    points = seen(model.symmetry, 6, 0)

    def acting(obs: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(model.predict(obs.numpy(), deterministic=True)[0])

    assert_equivariant(acting, model.symmetry.observations, model.symmetry.actions, points)
    with pytest.raises(MethodError, match="gSDE"):
        model.predict(points.numpy(), deterministic=False)
    with pytest.raises(MethodError, match="gSDE"):
        model.learn(8)


def test_part_of_an_orbit_is_refused() -> None:
    with pytest.raises(MethodError, match="orbit_samples"):
        agent("ppo", "vector", "box", orbit_samples=1)


def test_a_distribution_of_a_users_own_that_would_not_be_called_is_refused() -> None:
    class Cooler(EquivariantActorCriticPolicy):
        def _get_action_dist_from_latent(self, latent_pi: torch.Tensor) -> Any:
            return super()._get_action_dist_from_latent(latent_pi / 10)

    with pytest.raises(AgentError, match=r"Cooler defines .*: define _distribution\(parameters\)"):
        EquivariantPPO(Cooler, "CartPole-v1", device="cpu")
