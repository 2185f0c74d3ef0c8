"""`greedy_action`: arg max Q_G(s, ·) for one observation, its few numbers as Python's own."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor

from equirl.actions import GroupAction
from equirl.agents.shortcuts.perceptron import has_no_hooks, run_layers
from equirl.symmetrize import (
    INFINITE_BETA,
    TIE_TOLERANCE,
    LambdaWeighting,
    Symmetrized,
    largest_entry,
)

if TYPE_CHECKING:
    from equirl.agents.dqn.policies import EquivariantQNetwork

FEW = 64
"""Up to this many Q-values, one tensor operation takes longer to begin than Python to be done."""


def greedy_action(q_net: EquivariantQNetwork, observation: Any) -> Tensor | None:
    """The action ``[1]`` for a batch of one observation, with `equizero` and `lambda` on a CPU.

    None where something else is asked for, and the network itself has to run.
    """
    symmetrized = q_net.symmetrized
    weighting = symmetrized.weighting
    is_ours = (
        isinstance(observation, Tensor)
        and len(observation) == 1
        and observation.device.type == "cpu"
        and symmetrized.order > 1
        and symmetrized.method.needs_scores
        and symmetrized.score is largest_entry
        and has_no_hooks(symmetrized)
        and (weighting is None or _is_plain_lambda(weighting))
        and not torch.compiler.is_compiling()
    )
    if not is_ours:
        return None
    with torch.no_grad():
        action = best_action(symmetrized, *_along_orbit(q_net, observation))
    return None if action is None else torch.from_numpy(np.array([action]))


def _is_plain_lambda(weighting: Any) -> bool:
    is_ours = type(weighting) is LambdaWeighting
    return is_ours and has_no_hooks(weighting) and has_no_hooks(weighting.h)


def best_action(symmetrized: Symmetrized, outputs: Tensor, features: Tensor) -> int | None:
    """arg max Q_G(s, ·) of one s, for `equizero` and `lambda`.

    None where there are too many numbers, or some that are not finite.

    Args:
        symmetrized: how the outputs are combined.
        outputs: Q(gs, ·), ``[|G|, actions]``.
        features: of gs, ``[|G|, feature_dim]``.
    """
    if outputs.numel() > FEW or outputs.dtype not in TIE_TOLERANCE:
        return None
    rows: list[list[float]] = outputs.tolist()
    if not math.isfinite(sum(map(sum, rows))):
        return None
    branches = [
        [row[ga] for ga in moved]
        for row, moved in zip(rows, _moved(symmetrized.output_action), strict=True)
    ]
    agreed = _agreed(branches)
    if agreed is not None:
        return agreed
    shares = _shares(rows, TIE_TOLERANCE[outputs.dtype], symmetrized.weighting, features)
    q_values = [0.0] * len(rows[0])
    for share, branch in zip(shares, branches, strict=True):
        if share:
            q_values = [q + share * own for q, own in zip(q_values, branch, strict=True)]
    return q_values.index(max(q_values))


def _along_orbit(q_net: EquivariantQNetwork, observation: Any) -> tuple[Tensor, Tensor]:
    """Q(gs, ·) and the features of gs, ``[|G|, …]``, of a batch of one observation."""
    symmetrized, extractor, space = (
        q_net.symmetrized,
        q_net.features_extractor,
        q_net.observation_space,
    )
    is_vector = (
        type(extractor) is FlattenExtractor
        and isinstance(space, spaces.Box)
        and space.dtype == np.float32
        and observation.dtype == torch.float32
        and has_no_hooks(extractor)
        and has_no_hooks(extractor.flatten)
        and has_no_hooks(q_net.q_net)
    )
    if not is_vector:
        outputs, features = symmetrized.outputs(observation)
        return outputs[:, 0], features[:, 0]
    *hidden, last = q_net.q_net
    # One array is one block of entries, whose maps are spared being looked up by `orbit`.
    rows = symmetrized.input_action.maps[0].orbit(observation.flatten(1))[0]
    features = run_layers(hidden, rows)
    return run_layers([last], features), features


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
    h: list[float] = run_layers(weighting.h, features).flatten().tolist()
    logits = [
        own + beta * min(score - least, 0.0) / unit for own, score in zip(h, scores, strict=True)
    ]
    largest = max(logits)
    return [math.exp(logit - largest) for logit in logits]
