"""`greedy_action`: arg max Q_G(s, ·) for one observation, its few numbers as Python's own."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equirl.agents.perceptron import is_unheard, run_layers
from equirl.group_actions import GroupAction
from equirl.symmetrize import Symmetrized
from equirl.weightings import INFINITE_BETA, TIE_TOLERANCE, LambdaWeighting, largest_entry

FEW = 64
"""Up to this many Q-values, one tensor operation takes longer to begin than Python to be done."""


def greedy_action(symmetrized: Symmetrized, observation: Any) -> Tensor | None:
    """The action ``[1]`` for a batch of one observation, with `equizero` and `lambda` on a CPU.

    None where something else is asked for, and `Symmetrized` itself has to run.
    """
    weighting = symmetrized.weighting
    is_ours = (
        isinstance(observation, Tensor)
        and len(observation) == 1
        and observation.device.type == "cpu"
        and symmetrized.order > 1
        and (symmetrized.method == "equizero" or weighting is not None)
        and symmetrized.score is largest_entry
        and is_unheard(symmetrized)
        and (weighting is None or (is_unheard(weighting) and is_unheard(weighting.h)))
        and not torch.compiler.is_compiling()
    )
    if not is_ours:
        return None
    with torch.no_grad():
        outputs, features = symmetrized.outputs(observation)
        if outputs.numel() > FEW or outputs.dtype not in TIE_TOLERANCE:
            return None
        rows: list[list[float]] = outputs[:, 0].tolist()
        if not math.isfinite(sum(map(sum, rows))):
            return None
        branches = [
            [row[ga] for ga in moved]
            for row, moved in zip(rows, _moved(symmetrized.output_action), strict=True)
        ]
        agreed = _agreed(branches)
        if agreed is not None:
            return torch.from_numpy(np.array([agreed]))
        shares = _shares(rows, TIE_TOLERANCE[outputs.dtype], weighting, features)
    q_values = [0.0] * len(rows[0])
    for share, branch in zip(shares, branches, strict=True):
        if share:
            q_values = [q + share * own for q, own in zip(q_values, branch, strict=True)]
    return torch.from_numpy(np.array([q_values.index(max(q_values))]))


def _agreed(branches: list[list[float]]) -> int | None:
    """The one best action of every branch g⁻¹Q(gs), which no weights can change; else None."""
    first = branches[0]
    action = first.index(max(first))
    for branch in branches:
        best = branch[action]
        if best < max(branch) or branch.count(best) > 1:
            return None
    return action


def moved_actions(q_values: GroupAction) -> Tensor:
    """The numbers of the actions ga, ``[|G|, actions]``."""
    order, actions = q_values.group.order, q_values.leaves[0].size
    numbers = torch.arange(actions, dtype=torch.float64).expand(order, 1, actions)
    moved: Tensor = q_values.pull_back(numbers)[:, 0].long()
    return moved


@lru_cache
def _moved(q_values: GroupAction) -> list[list[int]]:
    moved: list[list[int]] = moved_actions(q_values).tolist()
    return moved


def _shares(
    rows: list[list[float]], tolerance: float, weighting: LambdaWeighting | None, features: Tensor
) -> list[float]:
    """Multiples of the weights w_g, as `shared_among_best` and `LambdaWeighting` give them."""
    scores = [max(row) for row in rows]
    size = max(max(map(abs, row)) for row in rows)
    least = max(scores) - tolerance * size
    beta = math.inf if weighting is None else math.sinh(float(weighting.asinh_beta))
    if weighting is None or beta >= INFINITE_BETA:
        return [float(score >= least) for score in scores]
    running = float(weighting.running_score_spread)
    unit = max(running if running > 0 else 1.0, 1e-4 * size)
    h: list[float] = run_layers(weighting.h, features[:, 0])[:, 0].tolist()
    logits = [
        own + beta * min(score - least, 0.0) / unit for own, score in zip(h, scores, strict=True)
    ]
    largest = max(logits)
    return [math.exp(logit - largest) for logit in logits]
