"""The canonical point of an orbit as the one that looks most like what the agent was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from equirl.agents.training.evaluation import stacked
from equirl.agents.transfer.branch_table import acting_network
from equirl.errors import AgentError
from equirl.symmetrize import LearnedScore


def learn_familiarity(
    model: BaseAlgorithm, observations: Sequence[Any], steps: int = 400, batch_size: int = 256
) -> None:
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

    Raises:
        AgentError: the agent has no such score.
    """
    symmetrized = acting_network(model).symmetrized
    score = symmetrized.canonical_score
    if not isinstance(score, LearnedScore):
        raise AgentError("there is no score to learn: canonical, canonical_score=learned")
    first = score.network[0]
    assert isinstance(first, nn.Linear)
    with torch.no_grad():
        x, _ = model.policy.obs_to_tensor(stacked(observations))
        flat: Tensor = symmetrized.along_orbit(score.preprocess, x).to(first.weight.dtype)
        mean = flat.mean(dim=(0, 1))
        spread = flat.std(dim=(0, 1))
        spread = spread.clamp(min=1e-3 * float(spread.mean()) + 1e-9)
    optimizer = torch.optim.AdamW(score.network.parameters(), lr=1e-2, weight_decay=1e-2)
    for _ in range(steps):
        rows = torch.randint(flat.shape[1], (batch_size,), device=flat.device)
        scores = score.network((flat[:, rows] - mean) / spread)[..., 0]
        loss = -scores.log_softmax(dim=0)[0].mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.no_grad():  # the same function of what was not standardised
        first.weight.div_(spread)
        first.bias.sub_(first.weight @ mean)
    state = score.state_dict()
    for part in model.policy.modules():
        if isinstance(part, LearnedScore):
            part.load_state_dict(state)
