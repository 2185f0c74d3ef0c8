"""Actors that are exactly equivariant, and the weights that they share with their critics.

A critic has the weights of the actor whose actions it judges. Where the method scores, an actor is
scored by the critic that it is trained with: the actor by the critic, and where there is a target
actor (TD3, DDPG), that one by the target critic. SAC and TQC have no target actor: their target
critics weigh as the actor does, which chooses a' at s' as well.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from equirl.agents.shortcuts.few_rows import actor_of_few
from equirl.agents.symmetrized_critic import SymmetrizedCritic
from equirl.agents.symmetrized_network import OrbitView, SymmetrizationArguments
from equirl.errors import AgentError
from equirl.recording import is_recording
from equirl.symmetrize import Branches, RelaxedWeights, Symmetrized
from equirl.symmetrize.methods import Relaxed
from equirl.symmetrize.structures import map_parts
from equirl.symmetrize.weightings import Weights, magnitude


class Weighed(NamedTuple):
    """An actor's orbit of one batch of states.

    Args:
        weights: w_g(s) of every branch; None: those of the method itself, which need nothing.
        outputs: of the plain actor along the orbit, ``[|G|, batch, outputs]``, where they were
            needed for the weights, and can be combined.
        relaxed: what the weights of `relaxed` are made of.
        is_plain: whether the weights are [g = e], those of the plain networks.
    """

    weights: Weights | None
    outputs: Tensor | None
    relaxed: RelaxedWeights | None = None
    is_plain: bool = False

    @property
    def plain(self) -> Weighed:
        """The same orbit as the plain networks see it, which look at s alone."""
        return self._replace(weights=None, relaxed=None, is_plain=True)


class SymmetrizedActor(SymmetrizationArguments):
    """π_G(s) = Σ_g w_g(s) · g⁻¹π(gs), with π the plain actor of the class that follows.

    With `equizero` and `lambda` a branch's score is what the plain critics think of its own action,
    min_i Q_i(gs, π(gs)), without gradient.
    """

    symmetrized: Symmetrized
    judge: Callable[[Any, Tensor], Tensor] | None = None
    """What the policy sets: the plain critics, from (s, a) to ``[batch, critics]``."""

    @abstractmethod
    def layers(self) -> tuple[list[nn.Module], list[list[nn.Module]]]:
        """Those behind the features extractor, and the heads behind them, put together."""

    @abstractmethod
    def mean_action(self, outputs: Tensor) -> Tensor:
        """The action in -1 … 1 that the plain actor means by its outputs, ``[rows, actions]``."""

    def weigh(self, obs: PyTorchObs) -> Weighed:
        """The weights of a batch of states, once for everybody who needs them.

        Where one g of each orbit is chosen, s is moved by it here, once for actor and critics.
        """
        weighed, method = self._weigh(obs), self.symmetrized.method
        if weighed.weights is None or not (method.is_hard and method.is_plain) or is_recording():
            return weighed
        weights = self.symmetrized.with_chosen(obs, weighed.weights)
        return weighed._replace(weights=weights)

    def _weigh(self, obs: PyTorchObs) -> Weighed:
        symmetrized, method = self.symmetrized, self.symmetrized.method
        if symmetrized.order == 1 or method.is_average:
            return Weighed(None, None)
        if not (method.needs_scores or method.needs_features):
            return Weighed(symmetrized.weights(obs), None)
        # As in Symmetrized.forward: of a hard choice only the chosen branch needs a graph.
        reruns = torch.is_grad_enabled() and method.is_hard and method.is_plain
        with torch.set_grad_enabled(torch.is_grad_enabled() and not reruns):
            outputs, features = symmetrized.outputs(obs)
        scored = self._scores(obs, outputs.detach()) if method.needs_scores else (None, None)
        orbit = symmetrized.looked_at(obs, outputs, features, *scored)
        if isinstance(method, Relaxed):
            relaxed = method.parts(orbit, symmetrized.weighting)
            return Weighed(relaxed.weights, outputs, relaxed)
        weights = method.weights(orbit, symmetrized.weighting)
        return Weighed(weights, None if reruns else outputs)

    def weights(self, obs: PyTorchObs) -> Weights | None:
        """The weights alone, see `weigh`."""
        return self._weigh(obs).weights

    def combined(self, obs: PyTorchObs, weighed: Weighed | None = None) -> Tensor:
        """The outputs of the symmetrized actor, ``[batch, outputs]``."""
        few = None if weighed is not None else actor_of_few(self, obs)
        if few is not None:
            return few
        if weighed is None and self.symmetrized.method.needs_scores:
            weighed = self._weigh(obs)
        outputs: Tensor
        if weighed is not None and weighed.is_plain and weighed.outputs is not None:
            outputs = weighed.outputs[0]
        elif weighed is None or weighed.weights is None or weighed.outputs is None:
            outputs = self.symmetrized(obs, None if weighed is None else weighed.weights)
        else:
            outputs = self.symmetrized.combine(weighed.outputs, weighed.weights)
        return outputs

    @torch.no_grad()
    def branches(self, obs: PyTorchObs) -> Branches:
        """The branches g⁻¹π(gs), ``[|G|, batch, outputs]``, and their weights."""
        weights = self._weigh(obs).weights
        if weights is None:
            return self.symmetrized.branches(obs)
        outputs, _ = self.symmetrized.outputs(obs)
        return Branches(self.symmetrized.pull_back(outputs), weights.values)

    @torch.no_grad()
    def view_orbit(self, obs: PyTorchObs) -> OrbitView:
        """See `SymmetrizationArguments`."""
        outputs, features = self.symmetrized.outputs(obs)
        scored = self._scores(obs, outputs)
        return OrbitView(self.symmetrized.pull_back(outputs), *scored, features)

    @torch.no_grad()
    def _scores(self, obs: PyTorchObs, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """min_i Q_i(gs, π(gs)), ``[|G|, batch]``, and the size of what they came from."""
        if self.judge is None:
            raise AgentError(
                f"an actor of method={self.symmetrized.method.name} needs the critics of its "
                "policy, which score its branches: save and load the policy, or the agent"
            )
        rows = map_parts(
            lambda part: part.transpose(0, 1).flatten(0, 1), self.symmetrized.orbit(obs)
        )
        actions = self.mean_action(outputs.transpose(0, 1).flatten(0, 1))
        with _parameters_as_constants(self.judge):
            values = self.judge(rows, actions)
        values = values.view(-1, len(outputs), values.shape[1]).transpose(0, 1)
        # Where Q happens to be near zero, the numbers that it was computed from are not.
        return values.amin(dim=2), magnitude(values).clamp(min=1)


def critic_values(
    critic: SymmetrizedCritic, observations: Any, actions: Tensor, weighed: Weighed | None
) -> Tensor:
    """What all critics give for (s, a) with the weights of an actor, ``[batch, *value_shape]``."""
    if weighed is not None and weighed.is_plain:
        return critic.plain_values(observations, actions)
    return critic.values(observations, actions, None if weighed is None else weighed.weights)


@contextmanager
def _parameters_as_constants(judge: Any) -> Iterator[None]:
    """Lets `torch.jit.trace` record an actor alone: of modules outside it, it takes constants."""
    critic = getattr(judge, "__self__", None)
    is_tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    learned = []
    if is_tracing and isinstance(critic, nn.Module):
        learned = [p for p in critic.parameters() if p.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)


def connect(actor: SymmetrizedActor, critic: SymmetrizedCritic, *others: SymmetrizedCritic) -> None:
    """Let the critic score the actor's branches, and all of them weigh as the actor does.

    Args:
        actor: of a policy.
        critic: that it is trained with.
        others: further critics of its actions.
    """
    actor.judge = critic.estimates
    for each in (critic, *others):
        each.actor_weights = actor.weights
