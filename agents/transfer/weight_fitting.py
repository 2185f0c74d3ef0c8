"""β and h of λ fitted to a table of transitions, the Q-network frozen."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from equirl.agents.transfer.branch_table import BranchTable
from equirl.symmetrize import LambdaWeighting


def fit_bellman_error(
    weighting: LambdaWeighting, table: BranchTable, steps: int = 600, batch_size: int = 512
) -> None:
    """Fit h(φ(gs)) = −E[log δ(gs)²] from where it is, the features standardised meanwhile."""
    features = table.now.features.flatten(0, 1)
    squared = table.bellman_errors().flatten().square()
    values = table.now.values if table.is_value_based else table.now.scores
    floor = 1e-6 * values.var() + torch.finfo(squared.dtype).tiny
    logarithms = (squared + floor).log()

    def loss(standardised: Tensor) -> Tensor:
        rows = torch.randint(len(features), (batch_size,), device=features.device)
        predicted = weighting.h(standardised[rows])[:, 0]
        error: Tensor = (predicted + logarithms[rows]).square().mean()
        return error

    last = weighting.h[2]
    assert isinstance(last, nn.Linear)
    if not last.weight.any():
        with torch.no_grad():
            last.bias.copy_(-logarithms.mean())
    fit_standardised(weighting.h, features, loss, steps)


def fit_familiarity(
    weighting: LambdaWeighting, features: Tensor, steps: int = 400, batch_size: int = 256
) -> None:
    """Fit h(φ(gs)) so that w_g(s) is the probability that gs was met, where s or another gs was.

    The loss is −log w_e(s), with β = 0 (`learn_familiarity` learns a canonical score likewise): the
    average where all sides of the world look alike, one branch where the agent knows one side only.

    Args:
        weighting: gets the h.
        features: φ along the orbits of states that the agent came to as it was,
            ``[|G|, N, features]``.
        steps: gradient steps.
        batch_size: states in each.
    """

    def loss(standardised: Tensor) -> Tensor:
        rows = torch.randint(standardised.shape[1], (batch_size,), device=features.device)
        weights: Tensor = weighting.h(standardised[:, rows])[..., 0].log_softmax(dim=0)
        return -weights[0].mean()

    fit_standardised(weighting.h, features, loss, steps)


def fit_standardised(
    network: nn.Sequential,
    inputs: Tensor,
    loss: Callable[[Tensor], Tensor],
    steps: int,
    learning_rate: float = 2e-3,
) -> None:
    """Minimise a loss by AdamW, the inputs ``[…, entries]`` of a network standardised meanwhile.

    Args:
        network: begins with a linear layer; is in the end a function of the inputs as they were.
        inputs: all that the loss is of.
        loss: from the standardised inputs.
        steps: gradient steps.
        learning_rate: of AdamW.
    """
    first, every = network[0], tuple(range(inputs.dim() - 1))
    assert isinstance(first, nn.Linear)
    mean, spread = inputs.mean(dim=every), inputs.flatten(0, -2).std(dim=0)
    spread = spread.clamp(min=0.1 * float(spread.mean()) + 1e-6)
    standardised = (inputs - mean) / spread
    with torch.no_grad():
        first.bias.add_(first.weight @ mean)
        first.weight.mul_(spread)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(loss(standardised))
        optimizer.step()
    with torch.no_grad():
        first.weight.div_(spread)
        first.bias.sub_(first.weight @ mean)


def refine(
    weighting: LambdaWeighting,
    table: BranchTable,
    steps: int = 900,
    batch_size: int = 256,
    target_every: int = 50,
) -> None:
    """Double DQN (van Hasselt et al. 2016) with nothing but β and h to learn."""
    target = copy.deepcopy(weighting)
    optimizer = torch.optim.Adam(weighting.parameters(), lr=1e-3)
    for step in range(steps):
        rows = torch.randint(len(table), (batch_size,), device=table.actions.device)
        following = table.following.of(rows)
        with torch.no_grad():
            best = following.q_values(weighting).argmax(dim=1, keepdim=True)
            values = following.q_values(target).gather(1, best)[:, 0]
            targets = table.rewards[rows] + table.discounts[rows] * values
        chosen = table.actions[rows].long()[:, None]
        q = table.now.of(rows).q_values(weighting).gather(1, chosen)[:, 0]
        loss = nn.functional.smooth_l1_loss(q, targets)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if step % target_every == 0:
            target.load_state_dict(weighting.state_dict())
