"""What `EquivarianceCallback` records: how far networks are from symmetric, and what is chosen.

Policies, and algorithms whose policies are plain, say it themselves: they have a method
``equivariance_metrics(observations)``, made of what stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from equirl.actions import GroupAction
from equirl.agents.symmetrized_network import acting_network
from equirl.symmetrize import Branches, RelaxedWeighting, Symmetrized, alpha_of
from equirl.verification import equivariance_error

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
    invariant = GroupAction.trivial(moves.group, (1,))
    of_value = error_alone(
        lambda obs: parameters_and_values(obs)[1], moves, invariant, observations
    )
    return {
        **error_alone(lambda obs: parameters_and_values(obs)[0], moves, output, observations),
        "value_equivariance_error": of_value["equivariance_error"],
        "orbit_disagreement": disagreement(branches.values[..., :-1]),
        "value_orbit_disagreement": disagreement(branches.values[..., -1:]),
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
