"""α learned for a frozen agent: where a symmetry that fails in places is let go of."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from equirl.agents.relaxed_loss import relaxed_weighting
from equirl.agents.transfer.branch_table import (
    Branches,
    Transitions,
    acting_network,
    acts_by_values,
    branch_table,
)
from equirl.agents.transfer.weight_fitting import fit_standardised
from equirl.agents.transfer.weight_learning import WeightingState, seeded
from equirl.errors import AgentError
from equirl.symmetrize import RelaxedWeighting
from equirl.symmetrize.relaxing import let_go


def learn_alpha(
    model: BaseAlgorithm,
    played: Transitions,
    inner: WeightingState,
    *,
    seed: int = 0,
    reward_scale: float = 1.0,
    steps: int = 900,
    batch_size: int = 256,
) -> float:
    """Learn α(s) of a `relaxed` agent over `lambda`; its Q-network stays as it is.

    With δ_G and δ the Bellman errors of Q_G and Q, each for itself, α comes of the mixture
    (1 − p) δ_G + p δ that is nearest to 0, by `RelaxedWeighting.loss`. A target that both share, as
    in training, would be r + γ max_b Q_R(s′, b), and whichever Q_R begins as would be judged by
    itself: nothing but α moves here.

    Args:
        model: an agent of DQN with ``method="relaxed"``, ``inner="lambda"`` and one α for all
            actions, ``per_action=False``; gets the λ and the α.
        played: transitions, by any agent.
        inner: the λ of Q_G.
        seed: of the minibatches.
        reward_scale: see `branch_table`.
        steps: gradient steps.
        batch_size: transitions in each.

    Returns:
        The mean of α over the states that were played.

    Raises:
        AgentError: the agent has no α to learn, or an actor.
    """
    weighting = relaxed_weighting(acting_network(model))
    if weighting is None or weighting.inner is None or not acts_by_values(model):
        raise AgentError("there is no α: the method must be relaxed over lambda, of a DQN agent")
    if not weighting.is_shared:
        raise AgentError("one α is learned of every state: the agent must have per_action=False")
    weighting.inner.load_state_dict(inner)
    table = branch_table(model, played, reward_scale)
    taken = table.actions.long()[:, None]
    symmetric, plain = (
        now.gather(1, taken)[:, 0] - table.rewards - table.discounts * following.amax(dim=1)
        for now, following in zip(
            _both(weighting, table.now), _both(weighting, table.following), strict=True
        )
    )
    nothing = torch.zeros_like(plain)

    def loss(standardised: Tensor) -> Tensor:
        rows = torch.randint(len(table), (batch_size,), device=taken.device)
        candidates = weighting.candidates(standardised[rows])
        return weighting.loss(candidates, symmetric[rows], plain[rows], nothing[rows])

    features = table.now.features[0]
    weighting.train()
    with seeded(seed):
        fit_standardised(weighting.h, features, loss, steps)
    weighting.eval()
    for part in model.policy.modules():  # the target network's, too
        if isinstance(part, RelaxedWeighting) and part is not weighting:
            part.load_state_dict(weighting.state_dict())
    with torch.no_grad():
        return float(let_go(weighting.evidence(features)).mean())


@torch.no_grad()
def _both(weighting: RelaxedWeighting, branches: Branches) -> tuple[Tensor, Tensor]:
    """Q_G and Q, each ``[N, actions]``."""
    inner: Any = weighting.inner
    return branches.q_values(inner.eval()), branches.values[0]
