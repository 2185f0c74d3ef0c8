"""The canonical point of an orbit as the one that looks most like what the agent was trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from equirl.agents.training.evaluation import stacked
from equirl.agents.transfer.branch_table import acting_network
from equirl.agents.transfer.weight_fitting import fit_standardised
from equirl.errors import AgentError
from equirl.symmetrize import LearnedScore

SEEN_SHARE = 0.8
"""Of the states, the first of them: what is learned from."""


def learn_familiarity(
    model: BaseAlgorithm, observations: Sequence[Any], steps: int = 400, batch_size: int = 256
) -> float:
    """Learn the canonical score c of a frozen agent from states that it came to as it was.

    c is to tell s from the other gs: the loss is −log softmax_g c(gs) at g = e, the negative
    log-likelihood of which point of the orbit was met. At its minimum c(gs) − c(s) is the log ratio
    of how often gs and s are met, so that the agent is asked what to do at the point that it knows
    best. After the prior of Mondal et al. 2023 (arXiv 2310.01647), here from the agent's own play.

    Args:
        model: an agent with ``method="canonical", canonical_score="learned"``.
        observations: as the environment gives them; at most some thousands.
        steps: gradient steps.
        batch_size: states in each.

    Returns:
        How surely the last fifth of the states, which were not learned from, are told from the
        others of their orbits, 0 … 1: 1 − loss / log |G|. Near 1 the agent has seen only one side
        of the world, and knows nothing of the others; near 0 all alike.

    Raises:
        AgentError: the agent has no such score.
    """
    symmetrized = acting_network(model).symmetrized
    score = symmetrized.canonical_score
    if not isinstance(score, LearnedScore):
        raise AgentError("there is no score to learn: canonical, canonical_score=learned")
    network = score.network
    with torch.no_grad():
        x, _ = model.policy.obs_to_tensor(stacked(observations))
        flat: Tensor = symmetrized.along_orbit(score.preprocess, x)
        flat = flat.to(next(network.parameters()).dtype)

    seen = max(1, int(SEEN_SHARE * flat.shape[1]))

    def loss(standardised: Tensor) -> Tensor:
        rows = torch.randint(seen, (batch_size,), device=flat.device)
        return _unlikelihood(network(standardised[:, rows]))

    fit_standardised(network, flat, loss, steps, learning_rate=1e-2)
    with torch.no_grad():
        left = float(_unlikelihood(network(flat[:, seen:] if seen < flat.shape[1] else flat)))
    state = score.state_dict()
    for part in model.policy.modules():
        if isinstance(part, LearnedScore):
            part.load_state_dict(state)
    return max(0.0, 1 - left / math.log(len(flat)))


def _unlikelihood(scores: Tensor) -> Tensor:
    """−log softmax_g c(gs) at g = e, the mean over states, of ``[|G|, states, 1]``."""
    return -scores[..., 0].log_softmax(dim=0)[0].mean()
