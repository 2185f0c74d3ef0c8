"""Actions and log-probabilities of π without a distribution that is built and checked each time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    DiagGaussianDistribution,
)
from torch import Tensor

from equirl.agents.shortcuts.layers import Array
from equirl.agents.shortcuts.points import FEW_ROWS
from equirl.recording import is_recording

if TYPE_CHECKING:
    from equirl.agents.actor_critic.symmetrized_actor_critic import SymmetrizedActorCritic

LOG_ROOT = 0.5 * math.log(2 * math.pi)


def drawn_of_few(
    policy: SymmetrizedActorCritic, parameters: Tensor, deterministic: bool
) -> tuple[Tensor, Tensor] | None:
    """Actions, ``[batch, …]``, and log π(a | s), ``[batch]``, by the random numbers of SB3.

    None for other distributions than the categorical one and the Gaussian, or where PyTorch has to
    run. SB3 builds a distribution and checks it for every action, which takes as long as a network.

    Args:
        policy: whose distribution it is.
        parameters: logits, or the mean of the Gaussian, as `actor_critic_of_few` gives them.
        deterministic: the most likely actions.
    """
    kind = type(policy.action_dist)
    if not _may_look(policy, parameters) or len(parameters) > FEW_ROWS or parameters.requires_grad:
        return None
    given: Array = parameters.numpy()
    if not math.isfinite(given.sum()):
        return None
    if kind is CategoricalDistribution:
        logits = given - given.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        likely = np.exp(logits)
        if not deterministic:  # the largest pᵢ / Eᵢ, as `torch.multinomial` finds it, unchecked
            likely /= torch.empty(given.shape, dtype=parameters.dtype).exponential_().numpy()
        chosen = likely.argmax(axis=1)
        log_prob = logits[np.arange(len(logits)), chosen]
        return torch.from_numpy(chosen), torch.from_numpy(log_prob)
    if kind is DiagGaussianDistribution:
        log_std: Array = policy.symmetric_log_std().detach().numpy()
        std = np.exp(log_std)
        actions = given
        if not deterministic:
            noise: Array = torch.empty(given.shape, dtype=parameters.dtype).normal_().numpy()
            actions = given + std * noise
        terms = 0.5 * ((actions - given) / std) ** 2 + log_std + LOG_ROOT
        return torch.from_numpy(actions), torch.from_numpy(-terms.sum(axis=1))
    return None


def evaluated(
    policy: SymmetrizedActorCritic, parameters: Tensor, actions: Tensor
) -> tuple[Tensor, Tensor] | None:
    """log π(a | s) and the entropy, each ``[batch]`` with a graph, in a third of PyTorch's calls.

    None for other distributions than the categorical one and the Gaussian, and where PyTorch has to
    look at the numbers, as some are not finite, or at the actions.

    Args:
        policy: whose distribution it is.
        parameters: logits, or the mean of the Gaussian, ``[batch, parameters]``.
        actions: a, ``[batch]``, or ``[batch, entries]`` of a Gaussian.
    """
    kind = type(policy.action_dist)
    if not _may_look(policy, parameters) or not math.isfinite(float(parameters.detach().sum())):
        return None
    if kind is CategoricalDistribution:
        if actions.dtype != torch.int64 or actions.shape != parameters.shape[:1]:
            return None
        logits = parameters.log_softmax(dim=1)
        log_prob = logits.gather(1, actions[:, None])[:, 0]
        return log_prob, -(logits.exp() * logits).sum(dim=1)
    if kind is DiagGaussianDistribution:
        if actions.dtype != parameters.dtype or actions.shape != parameters.shape:
            return None
        log_std = policy.symmetric_log_std()
        if not math.isfinite(float(log_std.detach().sum())):
            return None
        errors = (actions - parameters) * (-log_std).exp()
        log_prob = -0.5 * errors.square().sum(dim=1) - (log_std + LOG_ROOT).sum()
        entropy = (log_std + (0.5 + LOG_ROOT)).sum()
        return log_prob, entropy.expand(len(parameters))
    return None


def _may_look(policy: Any, parameters: Tensor) -> bool:
    return (
        policy.symmetrized.order > 1
        and policy.shortcuts
        and not is_recording()
        and type(parameters) is Tensor
        and parameters.device.type == "cpu"
        and not torch.compiler.is_compiling()
    )
