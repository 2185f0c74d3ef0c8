"""Critics that are exactly invariant, Q(gs, ga) = Q(s, a), and weigh the orbit as their actor."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from equirl.actions import GroupAction
from equirl.agents.gradient_steps import overrides
from equirl.agents.shortcuts.perceptron import has_no_hooks
from equirl.agents.symmetrized_network import SymmetrizationArguments, carried
from equirl.errors import AgentError
from equirl.symmetrize import Method, Symmetrized, resolve
from equirl.symmetrize.methods import Canonical, Equitune
from equirl.symmetrize.weightings import Weights

OBSERVATION, ACTION = "observation", "action"


class StatesAndActions:
    """Points (s, a) as dicts of tensors, on which G acts as (gs, ga).

    Args:
        observations: the action on observations.
        actions: the action on flat actions.
    """

    def __init__(self, observations: GroupAction, actions: GroupAction) -> None:
        keys = [leaf.key for leaf in observations.leaves]
        self._is_dict = keys[0] is not None
        self._key = ACTION
        while self._key in keys:
            self._key = f"_{self._key}"
        leaves = [replace(leaf, key=leaf.key or OBSERVATION) for leaf in observations.leaves]
        leaves.append(replace(actions.leaves[0], key=self._key))
        blocks = (*observations.blocks, (len(leaves) - 1,))
        maps = (*observations.maps, *actions.maps)
        self.group_action = type(observations)(observations.group, tuple(leaves), blocks, maps)

    def join(self, observations: PyTorchObs, actions: Tensor) -> dict[str, Tensor]:
        """Observations and flat actions ``[batch, actions]`` as points."""
        if isinstance(observations, dict):
            return {**observations, self._key: actions}
        return {OBSERVATION: observations, self._key: actions}

    def split(self, points: dict[str, Tensor]) -> tuple[Any, Tensor]:
        """The inverse of `join`."""
        others = {key: part for key, part in points.items() if key != self._key}
        return others if self._is_dict else others[OBSERVATION], points[self._key]


class SymmetrizedCritic(SymmetrizationArguments):
    """Q_G(s, a) = Σ_g w_g(s) · Q(gs, ga), with Q the plain critics of the class that follows.

    The weights look at s alone. They are those of the actor whose actions the critic judges, see
    `equirl.agents.symmetrized_actor`, and no gradient flows into them.

    Args:
        kwargs: see `SymmetrizationArguments`, and everything that the plain class takes.

    Raises:
        SymmetryError: the symmetry does not fit the observations or actions.
    """

    actor_weights: Callable[[Any], Weights | None] | None = None
    """What the policy sets: from s to w_g(s); None stands for the method's own."""

    value_shape: tuple[int, ...]
    """Of what all plain critics together give for one (s, a)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        method = self._method()
        self._needs_actor = method.needs_scores or method.needs_features or method.scores_input
        symmetry = carried(self.symmetry, self)
        self._actions = symmetry.scaled_actions
        self.points = StatesAndActions(symmetry.observations, self._actions)
        self.symmetrized = self._symmetrized(self._plain, self.value_shape)

    @abstractmethod
    def estimates(self, observations: Any, actions: Tensor) -> Tensor:
        """What each plain critic thinks of (s, a), unsymmetrized, ``[batch, critics]``."""

    def values(self, observations: Any, actions: Tensor, weights: Weights | None = None) -> Tensor:
        """What all critics give for (s, a), ``[batch, *value_shape]``.

        Args:
            observations: s.
            actions: a, flat and scaled to -1 … 1, ``[batch, actions]``.
            weights: w_g(s), as the actor gives them; asked for here if left out.
        """
        return self._run_symmetrized(self.symmetrized, observations, actions, weights)

    def plain_values(self, observations: Any, actions: Tensor) -> Tensor:
        """What the plain critics give for (s, a), ``[batch, *value_shape]``."""
        return self._plain(self.points.join(observations, actions))

    @torch.no_grad()
    def both_values(
        self, observations: Any, actions: Tensor, weights: Weights
    ) -> tuple[Tensor, Tensor]:
        """With these weights, and of the plain critics, each ``[batch, *value_shape]``."""
        outputs, _ = self.symmetrized.outputs(self.points.join(observations, actions))
        return self.symmetrized.combine(outputs, weights), outputs[0]

    @abstractmethod
    def _plain(self, points: dict[str, Tensor]) -> Tensor:
        """All plain critics of the points (s, a), ``[rows, *value_shape]``."""

    def _run_symmetrized(
        self, symmetrized: Symmetrized, observations: Any, actions: Tensor, weights: Weights | None
    ) -> Tensor:
        if weights is None and self.actor_weights is not None:
            with torch.no_grad():
                weights = self.actor_weights(observations)
        elif weights is None and symmetrized.order > 1 and self._needs_actor:
            raise AgentError(
                f"critics of method={self.symmetry_args['method']} need the actor of their policy, "
                "which weighs the branches: save and load the policy, or the agent"
            )
        if weights is not None and weights.chosen is not None:
            g, points = weights.chosen
            moved = self.points.join(points, self._actions.move_each(g, actions))
            chosen: Tensor = symmetrized.model(moved)  # invariant: nothing is to be moved back
            return chosen
        values: Tensor = symmetrized(self.points.join(observations, actions), _constant(weights))
        return values

    def _symmetrized(self, plain: Callable[..., Tensor], shape: tuple[int, ...]) -> Symmetrized:
        action = self.points.group_action
        invariant = GroupAction.trivial(action.group, shape)
        return Symmetrized(plain, action, invariant, _given_weights(self._method()))

    def _method(self) -> Method:
        return resolve(**{k: v for k, v in self.symmetry_args.items() if k != "symmetry"})


class EquivariantContinuousCritic(SymmetrizedCritic, ContinuousCritic):
    """The critics of SAC, TD3 and DDPG made invariant, see `SymmetrizedCritic`.

    Its parameters have the keys of `ContinuousCritic`. With the trivial group it computes bit for
    bit what `ContinuousCritic` does.
    """

    def __init__(self, *, n_critics: int = 2, **kwargs: Any) -> None:
        self.value_shape = (n_critics,)
        super().__init__(n_critics=n_critics, **kwargs)
        self.symmetrized_first = self._symmetrized(self._plain_first, (1,))

    def forward(
        self, obs: Any, actions: Tensor, weights: Weights | None = None
    ) -> tuple[Tensor, ...]:
        """Q_G(s, a) of every critic, each ``[batch, 1]``."""
        if self.symmetrized.order == 1:
            return super().forward(obs, actions)
        return self.values(obs, actions, weights).chunk(self.n_critics, dim=1)

    def q1_forward(self, obs: Any, actions: Tensor, weights: Weights | None = None) -> Tensor:
        """Q_G(s, a) of the first critic alone, ``[batch, 1]``."""
        if self.symmetrized.order == 1:
            return super().q1_forward(obs, actions)
        return self._run_symmetrized(self.symmetrized_first, obs, actions, weights)

    def estimates(self, observations: Any, actions: Tensor) -> Tensor:
        """See `SymmetrizedCritic`."""
        return torch.cat(super().forward(observations, actions), dim=1)

    def standard_networks(self) -> list[Any] | None:
        """The layers of each critic, where `estimates` is what they and nothing else compute."""
        changed = overrides(self, EquivariantContinuousCritic, ("estimates", "extract_features"))
        if changed or not all(map(has_no_hooks, self.q_networks)):
            return None
        return [list(network.children()) for network in self.q_networks]

    def _plain(self, points: dict[str, Tensor]) -> Tensor:
        return self.estimates(*self.points.split(points))

    def _plain_first(self, points: dict[str, Tensor]) -> Tensor:
        return super().q1_forward(*self.points.split(points))


def _given_weights(method: Method) -> Method:
    """The same method for a model that is given its weights, and has none of its own to learn."""
    if method.needs_features:
        return Equitune()
    return Canonical(gradient=method.options["gradient"]) if method.scores_input else method


def _constant(weights: Weights | None) -> Weights | None:
    if weights is None:
        return None
    surrogate = None if weights.surrogate is None else weights.surrogate.detach()
    return Weights(weights.values.detach(), surrogate)
