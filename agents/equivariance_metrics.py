"""What `EquivarianceCallback` records: how far networks are from symmetric, and what is chosen.

Policies, and algorithms whose policies are plain, say it themselves: they have a method
``equivariance_metrics(observations)``, made of what stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from equirl.actions import GroupAction
from equirl.agents.symmetrized_network import acting_network
from equirl.symmetrize import Branches, RelaxedWeighting, Symmetrized, alpha_of
from equirl.verification import equivariance_error

if TYPE_CHECKING:
    from equirl.agents.symmetrized_actor import SymmetrizedActor
    from equirl.agents.symmetrized_critic import SymmetrizedCritic

MAX_ELEMENTS_SHOWN = 48
"""Larger groups get no curve per element."""

Metrics = dict[str, float]


@torch.no_grad()
def error_alone(
    function: Callable[[Any], Tensor], moves: GroupAction, output: GroupAction, observations: Any
) -> Metrics:
    """The largest difference between f(gs) and g f(s), all that a plain network shows."""
    return {"equivariance_error": equivariance_error(function, moves, output, observations)}


@torch.no_grad()
def value_error_alone(function: Callable[[Any], Tensor], moves: GroupAction, x: Any) -> Metrics:
    """The largest difference between f(gx) and f(x), for a critic f."""
    at_rest = GroupAction.trivial(moves.group, tuple(function(x).shape[1:]))
    return {"value_equivariance_error": equivariance_error(function, moves, at_rest, x)}


@torch.no_grad()
def symmetrized_metrics(
    function: Callable[[Any], Tensor], symmetrized: Symmetrized, observations: Any
) -> Metrics:
    """Of a symmetrized network alone.

    Args:
        function: the network.
        symmetrized: how it is symmetrized.
        observations: a batch.
    """
    branches = symmetrized.branches(observations)
    moves, output = symmetrized.input_action, symmetrized.output_action
    return {
        **error_alone(function, moves, output, observations),
        "orbit_disagreement": disagreement(branches.values),
        **weight_metrics(symmetrized, branches.weights),
    }


@torch.no_grad()
def actor_critic_metrics(
    parameters_and_values: Callable[[Any], tuple[Tensor, Tensor]],
    output: GroupAction,
    symmetrized: Symmetrized,
    branches: Branches,
    observations: Any,
) -> Metrics:
    """Of an actor and a critic that run together.

    Args:
        parameters_and_values: π_G(s) and V_G(s).
        output: how the parameters move.
        symmetrized: how both are symmetrized.
        branches: of these observations, the value in the last column.
        observations: a batch.
    """
    moves = symmetrized.input_action
    return {
        **error_alone(lambda obs: parameters_and_values(obs)[0], moves, output, observations),
        **value_error_alone(lambda obs: parameters_and_values(obs)[1], moves, observations),
        "orbit_disagreement": disagreement(branches.values[..., :-1]),
        "value_orbit_disagreement": disagreement(branches.values[..., -1:]),
        **weight_metrics(symmetrized, branches.weights),
    }


@torch.no_grad()
def actor_and_critics_metrics(
    actor: SymmetrizedActor, critic: SymmetrizedCritic, observations: Any
) -> Metrics:
    """Of an actor, and of the critics that judge its actions a = π_G(s).

    Args:
        actor: of a policy.
        critic: of the same policy.
        observations: a batch.
    """
    symmetrized, branches = actor.symmetrized, actor.branches(observations)
    moves, output = symmetrized.input_action, symmetrized.output_action
    actions = actor.mean_action(actor.combined(observations))
    points = critic.points.join(observations, actions)
    q_values = critic.symmetrized.outputs(points)[0]  # of the plain critics, along the orbit
    return {
        **error_alone(actor.combined, moves, output, observations),
        **value_error_alone(
            lambda x: critic.values(*critic.points.split(x)), critic.points.group_action, points
        ),
        "orbit_disagreement": disagreement(branches.values),
        "value_orbit_disagreement": disagreement(q_values),
        **weight_metrics(symmetrized, branches.weights),
    }


def disagreement(branches: Tensor) -> float:
    """Standard deviation of g⁻¹M(gs), ``[|G|, batch, …]``, over g, mean over everything else."""
    return float(branches.std(dim=0, correction=0).mean())


def weight_metrics(symmetrized: Symmetrized, weights: Tensor) -> Metrics:
    """Of the weights ``[|G|, batch]``: their entropy, the mean of each, and β.

    Where each entry of an output has its own, ``[|G|, batch, entries]``, of all of them.
    """
    weights = weights.flatten(1)
    group = symmetrized.input_action.group
    metrics = {}
    if group.order > 1:
        entropy = -torch.special.xlogy(weights, weights).sum(dim=0).mean()
        metrics["weight_entropy"] = float(entropy / np.log(group.order))
    if group.order <= MAX_ELEMENTS_SHOWN:
        for name, weight in zip(group.names, weights.mean(dim=1).tolist(), strict=True):
            metrics[f"chosen/{name}"] = weight
    weighting: Any = symmetrized.weighting
    learned: Any = weighting.inner if isinstance(weighting, RelaxedWeighting) else weighting
    if isinstance(weighting, RelaxedWeighting) and weighting.chooses:
        metrics["alpha_by_action"] = float(weighting.is_by_entry)
    if learned is not None:
        metrics["lambda_inverse_temperature"] = float(learned.beta)
    return metrics


@torch.no_grad()
def alphas(model: BaseAlgorithm, observations: Any) -> Tensor | None:
    """α of an agent with ``method="relaxed"``, ``[batch]`` or ``[batch, actions]``, else None."""
    acting = acting_network(model.policy)
    if acting is None or not isinstance(acting.symmetrized.weighting, RelaxedWeighting):
        return None
    return alpha_of(acting.symmetrized, observations)
