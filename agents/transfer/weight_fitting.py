"""β and h of λ fitted to a table of transitions, the Q-network frozen."""

from __future__ import annotations

import copy

import torch
from torch import nn

from equirl.agents.transfer.branch_table import BranchTable
from equirl.symmetrize import LambdaWeighting


def fit_bellman_error(
    weighting: LambdaWeighting, table: BranchTable, steps: int = 600, batch_size: int = 512
) -> None:
    """Fit h(φ(gs)) = −E[log δ(gs)²] from where it is, the features standardised meanwhile."""
    features = table.now.features.flatten(0, 1)
    mean, spread = features.mean(dim=0), features.std(dim=0)
    spread = spread.clamp(min=0.1 * float(spread.mean()) + 1e-6)
    squared = table.bellman_errors().flatten().square()
    floor = 1e-6 * table.now.values.var() + torch.finfo(squared.dtype).tiny
    logarithms = (squared + floor).log()
    first, last = weighting.h[0], weighting.h[2]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        first.bias.add_(first.weight @ mean)
        first.weight.mul_(spread)
        if not last.weight.any():
            last.bias.copy_(-logarithms.mean())
    optimizer = torch.optim.AdamW(weighting.h.parameters(), lr=2e-3, weight_decay=1e-3)
    for _ in range(steps):
        rows = torch.randint(len(features), (batch_size,), device=features.device)
        predicted = weighting.h((features[rows] - mean) / spread)[:, 0]
        loss = (predicted + logarithms[rows]).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
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
