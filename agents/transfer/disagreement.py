"""Whether averaging over the orbit would destroy a policy, told from a few of its own states."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from equirl.agents.actor_critic.symmetrized_actor_critic import SymmetrizedActorCritic
from equirl.agents.symmetrized_actor import SymmetrizedActor
from equirl.agents.symmetrized_network import OrbitView
from equirl.agents.transfer.branch_table import acting_network, taken_values, view_orbits

USUAL_NOISE = 0.1
"""Standard deviation, of -1 … 1, of the exploration of agents that have none of their own."""


RISKY = 0.15
"""The risk from which on averaging is warned of: of the 26 agents in docs/transfer.md none below it
loses more than a tenth beyond its interval, and six of the 13 above it do."""


@dataclass(frozen=True)
class Disagreement:
    """How much averaging changes what an agent does: means over states it came to itself.

    Distances are total variations, 0 … 1, between policies with the agent's own exploration noise;
    where actions are chosen by Q-values, 0 or 1: whether another one is the best. Of actions of
    several independent parts, each with a distance TV_i, it is the upper bound 1 − Π_i (1 − TV_i).

    Args:
        change: from the policy to the averaged one.
        away: from the averaged policy to the nearest of the branches that it averages: near 0
            where they agree, near 1 where there are several and the average is none of them.
        regret: what the agent's own critic says that averaging costs, as a part of the value:
            E[Q(s, π(s)) − Q(s, π̄(s))] / ((1 − γ) E|V(s)|), which is the loss up to the change in
            the states that are visited (Kakade & Langford 2002); None where it judges no actions.
        one_sided: how surely its states are told from the others of their orbits, see
            `learn_familiarity`.
    """

    change: float
    away: float
    regret: float | None
    one_sided: float

    @property
    def risk(self) -> float:
        """0 … 1: that the average follows branches which know nothing of where they are asked.

        A branch gs far from what the agent has met is extrapolated; it does harm where it differs.
        """
        return self.change * self.one_sided

    def __str__(self) -> str:
        advice = "averaging may destroy it" if self.risk >= RISKY else "averaging should do no harm"
        return (
            f"averaging changes {self.change:.0%} of the policy, and its own states are told from "
            f"the others of their orbits with certainty {self.one_sided:.2f}: risk "
            f"{self.risk:.2f}, {advice}"
        )


@torch.no_grad()
def disagreement(
    model: BaseAlgorithm, observations: Sequence[Any], one_sided: float
) -> Disagreement:
    """Measure an agent on states that it came to as it was.

    Args:
        model: the agent made equivariant, with ``method="lambda"``, which looks at all there is.
        observations: as the environment gives them.
        one_sided: what `learn_familiarity` gave for them.
    """
    network, view = acting_network(model), view_orbits(model, observations)
    distance, averaged = _policies(network, view)
    distances = torch.stack([distance(branch, averaged) for branch in view.branches])
    regret = None
    if not isinstance(network, SymmetrizedActorCritic):
        if isinstance(network, SymmetrizedActor):
            policy: Any = model.policy
            scaled = network.mean_action(averaged).cpu().numpy()
            actions: Any = policy.unscale_action(scaled.reshape(-1, *policy.action_space.shape))
        else:
            actions = averaged.argmax(dim=1).cpu().numpy()
        lost = view.scores[0] - taken_values(model, view, observations, actions)[0]
        gamma: float = getattr(model, "gamma")  # noqa: B009 (BaseAlgorithm has none)
        regret = float(lost.mean() / ((1 - gamma) * view.scores[0].abs().mean() + 1e-9))
    return Disagreement(
        float(distances[0].mean()), float(distances.amin(dim=0).mean()), regret, one_sided
    )


def _policies(network: Any, view: OrbitView) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor]:
    """The distance of two policies, by the outputs that stand for them, and the averaged one."""
    averaged = view.branches.mean(dim=0)
    if isinstance(network, SymmetrizedActorCritic):
        size = averaged.shape[1] - 1  # the value comes last
        if getattr(network, "log_std", None) is None:
            parts = _distributions(network.action_space, size)
            return lambda one, other: _of_logits(one[:, :size], other[:, :size], parts), averaged
        scales = network.symmetric_log_std()
        std = _sde_std(network, scales, view) if network.use_sde else scales.exp()
        return lambda one, other: _of_means((one - other)[:, :size] / std), averaged
    if isinstance(network, SymmetrizedActor):
        if getattr(network, "use_sde", False):
            log_std: Any = network.log_std
            std = _sde_std(network, log_std, view)
        elif hasattr(network, "log_std"):
            size = averaged.shape[1] // 2
            std = view.branches[0, :, size:].exp()
            return lambda one, other: _of_means((one - other)[:, :size] / std), averaged
        else:
            std = torch.tensor(USUAL_NOISE)
        return lambda one, other: _of_means((one - other) / std), averaged
    return lambda one, other: (one.argmax(1) != other.argmax(1)).to(one.dtype), averaged


def _sde_std(network: Any, log_std: Tensor, view: OrbitView) -> Tensor:
    """Of gSDE noise (arXiv 2005.05719), at each state, ``[N, actions]``."""
    std: Tensor = network.action_dist.get_std(log_std)
    return (view.features[0].square() @ std.square()).sqrt() + 1e-6


def _of_means(gaps: Tensor) -> Tensor:
    """Between Gaussians of equal covariance, of gaps ``[N, actions]`` in standard deviations."""
    return torch.erf(gaps.norm(dim=1) / math.sqrt(8))


def _distributions(space: spaces.Space[Any], logits: int) -> list[int]:
    """How many logits each of the independent distributions of actions has; 1: of a bit."""
    if isinstance(space, spaces.MultiDiscrete):
        return [int(count) for count in space.nvec.flat]
    if isinstance(space, spaces.MultiBinary):
        bits = int(np.prod(space.shape))
        return [logits // bits] * bits  # two of each bit where bits can be masked
    return [logits]


def _of_logits(one: Tensor, other: Tensor, parts: list[int]) -> Tensor:
    """``[N]``; of several independent distributions an upper bound, 1 − Π_i (1 − TV_i)."""
    same = torch.ones_like(one[:, 0])
    for a, b in zip(*(torch.split(logits, parts, dim=1) for logits in (one, other)), strict=True):
        if a.shape[1] == 1:  # beside a logit of 0
            a, b = (torch.cat([torch.zeros_like(part), part], dim=1) for part in (a, b))
        same = same * (1 - 0.5 * (a.softmax(dim=1) - b.softmax(dim=1)).abs().sum(dim=1))
    return 1 - same
