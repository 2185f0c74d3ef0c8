"""λ learned for a frozen agent: how much to believe each branch of an orbit, from little play."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from equirl.agents.training.evaluation import play_episodes
from equirl.agents.transfer.branch_table import (
    BranchTable,
    Transitions,
    acts_by_values,
    branch_table,
    play_transitions,
    weighting_of,
)
from equirl.agents.transfer.successive_halving import Halving, successive_halving
from equirl.agents.transfer.weight_fitting import fit_bellman_error, fit_familiarity, refine
from equirl.symmetrize import INFINITE_BETA, LambdaWeighting, score_spread

WeightingState = dict[str, Tensor]
"""The state of a `LambdaWeighting`: a candidate."""

BETAS = (0.0, math.inf, -3.0)
"""Of the one-parameter family λ = exp(β · score / σ), the preferred first. 0 is equitune, ∞
equizero. Below 0 the branch that promises least counts most: a remedy where the network
over-estimates what it does not know. Few, so that each of them can play often enough."""

LEARNED = "learned"
"""The candidate that is learned."""

FAMILIAR, BELIEVED = "familiar", "believed"
"""Candidates of an actor: h that tells the agent's own states from the others of their orbits, and
h that tells where its critic is right."""

SHARPNESS = 20.0
"""So many times as large is h of these, which all but chooses one branch: an average of two
estimates of Q is one, an average of two gaits is none."""

FEWEST_STEPS = 1000
"""Environment steps below which nothing can be said of λ."""

EPSILON = 0.3
"""Random actions while transitions are collected; never while candidates are compared. With 0.1
most of what a failing agent plays is the one loop it is caught in."""

ROUNDS = 5
"""Of playing with what has been learned and learning from all that was played: all but the last
fit, the last two refine."""

LEARNING_SHARE = 0.5
"""Of the steps; comparing the candidates takes the others."""


@dataclass(frozen=True)
class LearnedWeights:
    """What was learned, and how it was chosen.

    Args:
        chosen: name of the candidate that the model now has.
        beta: its β.
        compared: the episodes that the candidates played.
        steps: environment steps, all in all.
        played: the transitions that it was learned from.
    """

    chosen: str
    beta: float
    compared: Halving
    steps: int
    played: Transitions = field(compare=False)


def set_weighting(model: BaseAlgorithm, state: WeightingState) -> None:
    """Give all networks of a `lambda` agent, the targets too, these weights."""
    weighting_of(model)  # or refused
    for part in model.policy.modules():
        if isinstance(part, LambdaWeighting):
            part.load_state_dict(state)


def with_beta(weighting: LambdaWeighting, beta: float, spread: float) -> WeightingState:
    """λ = exp(β · score / σ), with σ = ``spread`` and h = 0."""
    state = copy.deepcopy(weighting.state_dict())
    finite = max(-INFINITE_BETA, min(beta, INFINITE_BETA + 0.1))
    state["asinh_beta"].fill_(math.asinh(finite))
    state["running_score_spread"].fill_(spread)
    state["h.2.weight"].zero_()
    state["h.2.bias"].zero_()
    return state


def sharpened(weighting: LambdaWeighting) -> WeightingState:
    """The same λ with `SHARPNESS` times its h."""
    h = ("h.2.weight", "h.2.bias")
    return {
        name: value * SHARPNESS if name in h else value.clone()
        for name, value in weighting.state_dict().items()
    }


def seeds_of(learning_seed: int) -> range:
    """The seeds of the episodes that `learn_weights` may play."""
    first = 1_000_000 * (learning_seed + 3)
    return range(first, first + 1_000_000)


def learn_weights(
    model: BaseAlgorithm,
    original: BaseAlgorithm,
    make_env: Callable[[], gym.Env[Any, Any]],
    *,
    steps: int = 10_000,
    seed: int = 0,
    reward_scale: float = 1.0,
    on_step: Callable[[], None] = lambda: None,
) -> LearnedWeights:
    """Learn λ of a `lambda` agent; its Q-network stays as it is.

    1. Play, and fit h(φ(gs)) = −E[log δ(gs)²], δ being the Bellman error of branch gs for itself:
       weights inversely proportional to the variance make the best mean of estimates. This tells
       the states the network knows from those it has never seen.
    2. Refine β and h by the Double-DQN loss of Q_G (van Hasselt et al. 2016), Q frozen.
    3. Let the result, both end points and β = -3 with h = 0 play for return, by successive
       halving; among equals the first of them in this order wins.

    Of an actor there are other candidates beside the end points: h that tells the states that the
    original came to from the others of their orbits (`fit_familiarity`), and h of step 1, both with
    `SHARPNESS`.

    Args:
        model: an agent with ``method="lambda"``; gets the chosen weights.
        original: the plain agent; plays in the beginning.
        make_env: makes the environment, as it is to be played.
        steps: environment steps in all; the last episode may go beyond.
        seed: of everything that is random.
        reward_scale: see `branch_table`.
        on_step: called after each environment step.

    Raises:
        AgentError: the agent has no λ to learn.
        ValueError: fewer than 1000 steps.
    """
    if steps < FEWEST_STEPS:
        raise ValueError(f"steps must be at least {FEWEST_STEPS}, got {steps}")
    budget = int(LEARNING_SHARE * steps)
    with seeded(seed):
        learning = _Learning(model, make_env, seeds_of(seed).start, reward_scale, on_step)
        if acts_by_values(model):
            for round_ in range(ROUNDS):
                learning.play(budget // ROUNDS, [original, model] if round_ == 0 else [model])
                if round_ < ROUNDS - 1:
                    learning.fit()
                if round_ >= ROUNDS - 2:
                    learning.refine()
            learning.add_family(BETAS)
        else:
            learning.play(budget // 2, [original], epsilon=0.0)
            learning.add_familiar()
            learning.play(budget - budget // 2, [original, model])
            learning.add_believed()
            learning.add_family(BETAS[:2])
        compared = learning.compare(steps - learning.steps)
    beta = float(weighting_of(model).beta.detach())
    return LearnedWeights(compared.winner, beta, compared, learning.steps, learning.played)


class _Learning:
    """What is known so far of the λ of an agent, which always has the weights learned last.

    Args:
        model: the agent.
        make_env: makes the environment.
        first_seed: of the episodes; a million from there on are this learning's own.
        reward_scale: see `branch_table`.
        on_step: called after each environment step.
    """

    def __init__(
        self,
        model: BaseAlgorithm,
        make_env: Callable[[], gym.Env[Any, Any]],
        first_seed: int,
        reward_scale: float,
        on_step: Callable[[], None],
    ) -> None:
        self.model, self.make_env, self.on_step = model, make_env, on_step
        self.first_seed, self.reward_scale = first_seed, reward_scale
        self.weighting = copy.deepcopy(weighting_of(model)).eval()
        self.candidates: dict[str, WeightingState] = {}
        self.played = Transitions([], [], [], [], [])
        self.rounds = 0
        self.steps = 0
        self.table: BranchTable

    def play(self, steps: int, players: Sequence[BaseAlgorithm], epsilon: float = EPSILON) -> None:
        """Collect transitions."""
        seed = self.first_seed + 10_000 * self.rounds
        self.played += play_transitions(players, self.make_env, steps, epsilon, seed, self.on_step)
        self.steps += steps
        self.table = branch_table(self.model, self.played, self.reward_scale)
        if self.rounds == 0:
            spread = float(score_spread(self.table.now.scores))
            self.weighting.load_state_dict(with_beta(self.weighting, 1.0, spread))
        self.rounds += 1

    def fit(self) -> None:
        """Fit h to all that was played."""
        fit_bellman_error(self.weighting, self.table)
        set_weighting(self.model, self.weighting.state_dict())

    def refine(self) -> None:
        """Refine β and h on all that was played."""
        refine(self.weighting, self.table)
        self.candidates[LEARNED] = copy.deepcopy(self.weighting.state_dict())
        set_weighting(self.model, self.candidates[LEARNED])

    def add_familiar(self) -> None:
        """The candidate of what was played so far, by the original alone."""
        self.weighting.load_state_dict(with_beta(self.weighting, 0.0, 1.0))
        fit_familiarity(self.weighting, self.table.now.features)
        self.candidates[FAMILIAR] = sharpened(self.weighting)
        set_weighting(self.model, self.candidates[FAMILIAR])

    def add_believed(self) -> None:
        """The candidate of all that was played."""
        self.weighting.load_state_dict(with_beta(self.weighting, 0.0, 1.0))
        fit_bellman_error(self.weighting, self.table)
        self.candidates[BELIEVED] = sharpened(self.weighting)

    def add_family(self, betas: Sequence[float]) -> None:
        """Candidates with h = 0."""
        spread = float(score_spread(self.table.now.scores))
        for beta in betas:
            self.candidates[beta_name(beta)] = with_beta(self.weighting, beta, spread)

    def compare(self, budget: int) -> Halving:
        """Find the best candidate, the learned one preferred, and give the agent its weights."""
        first_seed = self.first_seed + 500_000

        def play(name: str, episode: int) -> tuple[float, int]:
            set_weighting(self.model, self.candidates[name])
            episodes = play_episodes(self.model, self.make_env, [first_seed + episode])
            for _ in range(int(episodes.lengths[0])):
                self.on_step()
            return float(episodes.returns[0]), int(episodes.lengths[0])

        seen = successive_halving(list(self.candidates), play, budget)
        self.steps += seen.steps
        set_weighting(self.model, self.candidates[seen.winner])
        return seen


def beta_name(beta: float) -> str:
    """How a member of the β-family is called."""
    known = {0.0: "equitune", math.inf: "equizero"}
    return known.get(beta, f"beta={beta:g}")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch draws by this seed inside, and goes on as before outside."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
