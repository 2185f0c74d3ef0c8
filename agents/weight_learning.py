"""λ learned for a frozen agent: how much to believe each branch of an orbit, from little play."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3 import DQN
from torch import Tensor, nn

from equirl.agents.branch_table import (
    BranchTable,
    Transitions,
    branch_table,
    play_transitions,
    weighting_of,
)
from equirl.agents.evaluation import play_episodes
from equirl.agents.race import Race, race
from equirl.weightings import INFINITE_BETA, LambdaWeighting, score_spread

WeightingState = dict[str, Tensor]
"""The state of a `LambdaWeighting`: a candidate."""

BETAS = (-3.0, 0.0, 1.0, math.inf)
"""The one-parameter family λ = exp(β · score / σ). 0 is equitune, ∞ equizero. Below 0 the branch
that promises least counts most: a remedy where the network over-estimates what it does not know.
Few, so that each of them can play often enough to be known."""

FITTED, REFINED = "fitted", "refined"
"""The candidates whose h, and whose β and h, are learned."""

FEWEST_STEPS = 1000
"""Environment steps below which nothing can be said of λ."""

EPSILON = 0.3
"""Random actions while transitions are collected; never while candidates are compared. With 0.1
most of what a failing agent plays is the one loop it is caught in."""

ROUNDS_OF_FITTING, ROUNDS_OF_REFINING = 4, 2
LEARNING_SHARE = 0.6
"""Of the steps; comparing the candidates takes the others."""

HEAD_START = 0.05
"""By so much another candidate's Bellman error has to be below equitune's to be preferred: errors
that hardly differ tell nothing, and most agents are best averaged."""


@dataclass(frozen=True)
class LearnedWeights:
    """What was learned, and how it was chosen.

    Args:
        chosen: name of the candidate that the model now has.
        beta: its β.
        residuals: of each candidate, the standard deviation of Q_G's Bellman error.
        race: what the candidates that were played got.
        steps: environment steps, all in all.
    """

    chosen: str
    beta: float
    residuals: dict[str, float]
    race: Race
    steps: int


def set_weighting(model: DQN, state: WeightingState) -> None:
    """Give both Q-networks of a `lambda` agent these weights."""
    weighting_of(model).load_state_dict(state)
    model.q_net_target.load_state_dict(model.q_net.state_dict())


def with_beta(weighting: LambdaWeighting, beta: float, spread: float) -> WeightingState:
    """λ = exp(β · score / σ), with σ = ``spread`` and h = 0."""
    state = copy.deepcopy(weighting.state_dict())
    finite = max(-INFINITE_BETA, min(beta, INFINITE_BETA + 0.1))
    state["asinh_beta"].fill_(math.asinh(finite))
    state["running_score_spread"].fill_(spread)
    state["h.2.weight"].zero_()
    state["h.2.bias"].zero_()
    return state


def learn_weights(
    model: DQN,
    original: DQN,
    make_env: Callable[[], gym.Env[Any, Any]],
    *,
    steps: int = 10_000,
    seed: int = 0,
    on_step: Callable[[], None] = lambda: None,
) -> LearnedWeights:
    """Learn λ of a `lambda` agent; its Q-network stays as it is.

    1. Play, and fit h(φ(gs)) = −E[log δ(gs)²], δ being the Bellman error of branch gs for itself:
       weights inversely proportional to the variance make the best mean of estimates. This tells
       the states the network knows from those it has never seen.
    2. Refine β and h by the Double-DQN loss of Q_G (van Hasselt et al. 2016), Q frozen.
    3. Race both, and the β-family with h = 0, for return, the refined one and both end
       points before all others; between those whose returns do not differ the Bellman error of
       Q_G decides, as measured on the same play, and equitune where that hardly differs.

    Args:
        model: an agent with ``method="lambda"``; gets the chosen weights.
        original: the plain agent; plays in the beginning.
        make_env: makes the environment, as it is to be played.
        steps: environment steps in all; the last episode may go beyond.
        seed: of everything that is random.
        on_step: called after each environment step.

    Raises:
        AgentError: the agent has no λ to learn.
        ValueError: fewer than 1000 steps.
    """
    if steps < FEWEST_STEPS:
        raise ValueError(f"steps must be at least {FEWEST_STEPS}, got {steps}")
    candidates, table, played = {}, None, Transitions([], [], [], [], [])
    each = int(LEARNING_SHARE * steps) // (ROUNDS_OF_FITTING + ROUNDS_OF_REFINING)
    weighting = copy.deepcopy(weighting_of(model)).eval()
    first_seed = 1_000_000 * (seed + 3)
    with _seeded(seed):
        for round_ in range(ROUNDS_OF_FITTING + ROUNDS_OF_REFINING):
            players = [original, model] if round_ == 0 else [model]
            played += play_transitions(
                players, make_env, each, EPSILON, first_seed + 10_000 * round_, on_step
            )
            table = branch_table(model, played)
            if round_ == 0:
                weighting.load_state_dict(
                    with_beta(weighting, 1.0, float(score_spread(table.now.scores)))
                )
            if round_ < ROUNDS_OF_FITTING:
                learned = FITTED
                fit_bellman_error(weighting, table)
            else:
                learned = REFINED
                refine(weighting, table)
            candidates[learned] = copy.deepcopy(weighting.state_dict())
            set_weighting(model, weighting.state_dict())
    assert table is not None
    spread = float(score_spread(table.now.scores))
    for beta in BETAS:
        candidates[beta_name(beta)] = with_beta(weighting, beta, spread)

    residuals = {}
    for name, state in candidates.items():
        weighting.load_state_dict(state)
        residuals[name] = table.residual(weighting)

    def play(name: str, round_: int) -> tuple[float, int]:
        set_weighting(model, candidates[name])
        episodes = play_episodes(model, make_env, [first_seed + 500_000 + round_])
        for _ in range(int(episodes.lengths[0])):
            on_step()
        return float(episodes.returns[0]), int(episodes.lengths[0])

    ahead = {beta_name(0.0): 1 - HEAD_START}
    order = sorted(residuals, key=lambda name: residuals[name] * ahead.get(name, 1.0))
    first = (REFINED, beta_name(0.0), beta_name(math.inf))
    seen = race(order, play, steps - len(played), first)
    set_weighting(model, candidates[seen.winner])
    beta = float(weighting_of(model).beta.detach())
    return LearnedWeights(seen.winner, beta, residuals, seen, len(played) + seen.steps)


def beta_name(beta: float) -> str:
    """How a member of the β-family is called."""
    known = {0.0: "equitune", math.inf: "equizero"}
    return known.get(beta, f"beta={beta:g}")


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
        chosen = table.actions[rows][:, None]
        q = table.now.of(rows).q_values(weighting).gather(1, chosen)[:, 0]
        loss = nn.functional.smooth_l1_loss(q, targets)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if step % target_every == 0:
            target.load_state_dict(weighting.state_dict())


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
