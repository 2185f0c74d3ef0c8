"""Actions, distributions, values and quantiles are exactly equivariant, whatever the algorithm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equirl.actions import GroupAction
from equirl.agents.policy_spaces import for_policy
from equirl.agents.symmetrized_actor import critic_values
from equirl.testing import assert_equivariant
from shared.off_policy_agents import ALGORITHMS, BOXES, OBSERVATIONS, Double, agent, environment
from shared.tried import examples

VARIANTS: list[dict[str, Any]] = [
    {"method": "equitune"},
    {"method": "lambda"},
    {"method": "lambda", "init": "equizero"},
    {"method": "equizero"},
    {"method": "equizero", "gradient": "straight_through"},
    {"method": "canonical"},
    {"method": "canonical", "canonical_score": "learned", "gradient": "straight_through"},
]


def states(model: Any, rows: int, seed: int) -> Any:
    """Random states, one that nothing moves, and one that some elements leave in place."""
    space = model.observation_space
    space.seed(seed)
    samples = [space.sample() for _ in range(rows)]
    if isinstance(samples[0], dict):
        parts = {key: np.stack([s[key] for s in samples]) for key in samples[0]}
        parts["action"][0], parts["action"][1, 1] = 0, parts["action"][1, 0]
        parts["place"][:2] = 2
        return {key: torch.as_tensor(part) for key, part in parts.items()}
    batch = np.stack(samples)
    batch[0] = 0
    if batch.ndim == 2:
        batch[1, 1] = batch[1, 0]
    return torch.as_tensor(batch)


@settings(deadline=None, max_examples=examples(4))
@given(data=st.data())
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_everything_that_a_policy_gives_is_equivariant(algorithm: str, data: Any) -> None:
    variant = data.draw(st.sampled_from(VARIANTS), label="variant")
    observations = data.draw(st.sampled_from(sorted(OBSERVATIONS)), label="observations")
    box = data.draw(st.sampled_from(sorted(BOXES)), label="box")
    # A learned canonical score sees observations as SB3 preprocesses them, in single precision.
    doubled = data.draw(st.booleans(), label="float64") and "canonical_score" not in variant
    shared = {} if algorithm == "qrdqn" else {"n_critics": data.draw(st.integers(1, 3))}
    model: Any = agent(
        algorithm,
        variant["method"],
        observations,
        box,
        options={key: value for key, value in variant.items() if key != "method"},
        policy_kwargs={**shared, **({"features_extractor_class": Double} if doubled else {})},
    )
    policy = model.policy.double() if doubled else model.policy
    policy.set_training_mode(data.draw(st.booleans(), label="training"))
    x = states(model, 5, data.draw(st.integers(0, 99), label="seed"))
    symmetry = for_policy(model.symmetry, model.observation_space)
    dtype = torch.float64 if doubled else torch.float32
    with torch.set_grad_enabled(data.draw(st.booleans(), label="gradient")):
        if algorithm == "qrdqn":
            quantiles = symmetry.q_values.copies(5)
            for network in (policy.quantile_net, policy.quantile_net_target):
                assert_equivariant(network, symmetry.observations, quantiles, x)
                assert network(x).dtype == dtype
            return
        actors = {"actor": policy.actor, "actor_target": getattr(policy, "actor_target", None)}
        for actor in filter(None, actors.values()):
            check_actor(actor, symmetry, x)
        for critic in (policy.critic, policy.critic_target):
            check_critic(critic, x, dtype)


def check_actor(actor: Any, symmetry: Any, x: Any) -> None:
    if not hasattr(actor, "log_std"):
        assert_equivariant(actor, symmetry.observations, symmetry.scaled_actions, x)
        return
    moved = (symmetry.scaled_actions, symmetry.log_stds)
    assert_equivariant(
        lambda s: actor.get_action_dist_params(s)[:2], symmetry.observations, moved, x
    )


def check_critic(critic: Any, x: Any, dtype: torch.dtype) -> None:
    points = critic.points
    actions = torch.rand(5, 3, generator=torch.Generator().manual_seed(1), dtype=dtype) * 2 - 1
    actions[0] = 0
    invariant = GroupAction.trivial(points.group_action.group, critic.value_shape)
    joined = points.join(x, actions)
    assert_equivariant(
        lambda point: critic.values(*points.split(point)), points.group_action, invariant, joined
    )
    if hasattr(critic, "q1_forward"):
        both = critic.q1_forward(x, actions), critic(x, actions)[0]
        torch.testing.assert_close(*both)


@pytest.mark.covering(1)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("method", ["equizero", "canonical"])
@pytest.mark.parametrize("algorithm", ["sac", "td3", "tqc"])
def test_a_point_chosen_once_gives_actor_and_critics_what_they_choose_themselves(
    algorithm: str, method: str, ties: bool
) -> None:
    model: Any = agent(algorithm, method)
    x = states(model, 6, 3)[0 if ties else 2 :]
    weighed = model.actor.weigh(x)
    assert (weighed.weights.chosen is None) == ties
    actions = torch.rand(len(x), 3) * 2 - 1
    found = (
        (model.actor, model.actor.combined(x, weighed), model.actor.combined(x)),
        (
            model.critic,
            critic_values(model.critic, x, actions, weighed),
            model.critic.values(x, actions),
        ),
    )
    for network, shared, alone in found:
        torch.testing.assert_close(shared, alone)
        learned = [p for p in network.parameters() if p.requires_grad]
        slopes = [
            torch.autograd.grad(each.square().sum(), learned, allow_unused=True)
            for each in (shared, alone)
        ]
        for mine, theirs in zip(*slopes, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", ["equitune", "lambda", "equizero", "canonical"])
@pytest.mark.parametrize("algorithm", ["sac", "tqc"])
def test_log_probabilities_are_invariant(algorithm: str, method: str) -> None:
    model: Any = agent(algorithm, method, box="offset")
    x = states(model, 6, 0)
    actor, symmetry = model.actor, model.symmetry
    actions = torch.rand(6, 3) * 1.8 - 0.9
    mean, log_std, _ = actor.get_action_dist_params(x)
    before = actor.action_dist.proba_distribution(mean, log_std).log_prob(actions)
    for g in range(symmetry.group.order):
        moved = symmetry.transform_observation(g, x)
        mean, log_std, _ = actor.get_action_dist_params(moved)
        distribution = actor.action_dist.proba_distribution(mean, log_std)
        after = distribution.log_prob(symmetry.scaled_actions.transform(g, actions))
        torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("algorithm", ["sac", "td3", "tqc"])
def test_equizero_acts_on_the_branch_that_the_plain_critic_thinks_best(algorithm: str) -> None:
    model: Any = agent(algorithm, "equizero")
    x = states(model, 6, 3)[2:]
    actor, symmetry = model.actor, model.symmetry
    best: Any = None
    with torch.no_grad():
        for g in range(symmetry.group.order):
            moved = symmetry.transform_observation(g, x)
            outputs = actor._plain(moved) if hasattr(actor, "log_std") else actor.mu(moved)
            action = outputs[:, :3].tanh() if hasattr(actor, "log_std") else outputs
            score = model.critic.estimates(moved, action).amin(dim=1)
            back = symmetry.scaled_actions.transform(int(symmetry.group.inverses[g]), action)
            if best is None:
                best = score, back
            better = (score > best[0])[:, None]
            best = torch.maximum(score, best[0]), torch.where(better, back, best[1])
        chosen = model.policy._predict(x, deterministic=True)
    torch.testing.assert_close(chosen, best[1])


@pytest.mark.parametrize("box", BOXES)
def test_actions_of_the_environment_move_with_its_observations(box: str) -> None:
    model: Any = agent("sac", "equizero", box=box)
    symmetry = environment("sac", box=box).symmetry
    x = np.stack([model.observation_space.sample() for _ in range(4)])
    before, _ = model.predict(x, deterministic=True)
    for g in range(symmetry.group.order):
        after, _ = model.predict(symmetry.transform_observation(g, x), deterministic=True)
        np.testing.assert_allclose(after, symmetry.transform_action(g, before), atol=1e-5)
