"""TQC policies: the distribution of actions is equivariant, that of returns invariant."""

from __future__ import annotations

from typing import Any

from sb3_contrib.tqc.policies import Actor, Critic, TQCPolicy
from torch import Tensor

from equirl.agents.features import ForDicts, ForImages
from equirl.agents.sac.policies import EquivariantSquashedActor, SymmetrizedSACPolicy
from equirl.agents.symmetrized_critic import SymmetrizedCritic
from equirl.symmetrize.weightings import Weights


class EquivariantTQCActor(EquivariantSquashedActor, Actor):
    """The actor of TQC made equivariant, see `EquivariantSquashedActor`."""


class EquivariantQuantileCritic(SymmetrizedCritic, Critic):
    """The critics of TQC made invariant, every quantile by itself, see `SymmetrizedCritic`.

    What a plain critic thinks of (s, a), where it scores a branch, is the mean of its quantiles.
    """

    def __init__(self, *, n_quantiles: int = 25, n_critics: int = 2, **kwargs: Any) -> None:
        self.value_shape = (n_critics, n_quantiles)
        super().__init__(n_quantiles=n_quantiles, n_critics=n_critics, **kwargs)

    def forward(self, obs: Any, action: Tensor, weights: Weights | None = None) -> Tensor:
        """The quantiles of every critic, ``[batch, critics, quantiles]``."""
        if self.symmetrized.order == 1:
            return super().forward(obs, action)
        return self.values(obs, action, weights)

    def estimates(self, observations: Any, actions: Tensor) -> Tensor:
        """See `SymmetrizedCritic`."""
        return super().forward(observations, actions).mean(dim=2)

    def _plain(self, points: dict[str, Tensor]) -> Tensor:
        return super().forward(*self.points.split(points))


class EquivariantTQCPolicy(SymmetrizedSACPolicy, TQCPolicy):
    """`TQCPolicy` with an equivariant actor and invariant critics; works in stock `TQC`.

    See `EquivariantSACPolicy`; a branch's score is min_i of the mean quantile of critic i.
    """

    actor_class = EquivariantTQCActor
    critic_class = EquivariantQuantileCritic


class EquivariantTQCCnnPolicy(ForImages, EquivariantTQCPolicy):
    """`EquivariantTQCPolicy` for images: NatureCNN unless told otherwise."""


class EquivariantTQCMultiInputPolicy(ForDicts, EquivariantTQCPolicy):
    """`EquivariantTQCPolicy` for dict observations."""
