"""What every equivariant network and policy shares, whatever the algorithm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, preprocess_obs
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from equirl.agents.features import NormalisedCombined, NormalisedFlatten
from equirl.agents.policy_spaces import for_policy
from equirl.envs import symmetry_by_id
from equirl.errors import MethodError, SymmetryError
from equirl.symmetrize import (
    OPTIONS,
    LearnedScore,
    Method,
    OutputAction,
    Symmetrized,
    resolve,
    resolve_saved,
)
from equirl.symmetrize.methods import Relaxed
from equirl.symmetry import Symmetry

AT_ONCE: dict[type[torch.optim.Optimizer], str] = {
    torch.optim.Adam: "fused",
    torch.optim.AdamW: "fused",
    torch.optim.RMSprop: "foreach",
}
"""Optimizers that step all parameters in one kernel, or in one call for each operation, also on a
CPU; and the option by which they do."""


def spelled(method: Method) -> dict[str, Any]:
    """A method and its options as plain values, for constructors and saved agents."""
    return {"method": method.name, **method.options}


def settled(method: Method, network: Any) -> Method:
    """The method, with what it leaves to the class of the network decided.

    Raises:
        MethodError: an option is not for such a network.
    """
    if not isinstance(method, Relaxed):
        return method
    if method.per_action and not network.relaxes_actions:
        asked = str(method.per_action).lower()
        raise MethodError(f"per_action={asked} is for DQN (algorithm=dqn): leave it out")
    if method.per_action is None:
        return replace(method, per_action="auto" if network.relaxes_actions else False)
    return method


def spelled_policy_kwargs(
    method: str | Method, policy_kwargs: dict[str, Any], network: Any, **options: Any
) -> dict[str, Any]:
    """The ``policy_kwargs`` of an agent whose method and options its own arguments say.

    Args:
        method: how the orbit is weighed.
        policy_kwargs: as the user gave them; what they say of the method counts.
        network: the class of its policy.
        options: of the method; None is not given.

    Raises:
        MethodError: see `equirl.symmetrize.resolve`.
    """
    others, saved = _split(policy_kwargs)
    chosen = resolve(others.pop("method", method), **options)
    return {**spelled(settled(resolve_saved(chosen, **saved), network)), **others}


class OrbitView(NamedTuple):
    """What a plain network gives along the orbits of a batch of states.

    Args:
        branches: g⁻¹M(gs), ``[|G|, batch, *Y]``.
        scores: of gs, ``[|G|, batch]``, by which `equizero` and `lambda` weigh.
        scale: ``[batch]``, the size of the numbers that scores were computed from.
        features: φ(gs), ``[|G|, batch, features]``, which `lambda` looks at.
    """

    branches: Tensor
    scores: Tensor
    scale: Tensor
    features: Tensor


class SymmetrizationArguments(BaseModel):
    """The constructor arguments of equivariant networks and policies, kept so that they are saved.

    Stands before the SB3 class that it makes equivariant: ``class EquivariantQNetwork(
    SymmetrizationArguments, QNetwork)``.

    Args:
        args: what the SB3 class takes.
        symmetry: the symmetry of the environment, before SB3 transposes images; or the id of an
            environment whose symmetry is known, as configuration files can say it.
        method: how the orbit is weighed, ``"equitune"``, ``"lambda"``, ``"equizero"``,
            ``"canonical"`` or ``"relaxed"``; or a `Method`.
        kwargs: the method's options (see `equirl.symmetrize.methods`), and what the SB3 class
            takes.

    Raises:
        SymmetryError: there is no symmetry, or it does not fit.
        MethodError: the method or an option of it is not one.
    """

    relaxes: ClassVar[bool] = True
    """Whether `relaxed` says something of this network."""
    relaxes_actions: ClassVar[bool] = False
    """Whether each action can have an α of its own."""
    shortcuts = True
    """Whether actions may be chosen by the quicker code of `equirl.agents.shortcuts`."""

    def __init__(
        self,
        *args: Any,
        symmetry: Symmetry | str | None = None,
        method: str | Method = "equitune",
        **kwargs: Any,
    ) -> None:
        others, options = _split(kwargs)
        resolved = resolve_saved(method, **options)
        if resolved.name == Relaxed.name and not self.relaxes:
            raise MethodError(f"method=relaxed is not for {type(self).__name__}: give another")
        resolved = settled(resolved, type(self))
        # Before super().__init__, which builds the networks.
        self.symmetry_args: dict[str, Any] = {
            "symmetry": checked_symmetry(symmetry, type(self).__name__, *_spaces(*args, **others)),
            **spelled(resolved),
        }
        super().__init__(*args, **others)

    def _build(self, lr_schedule: Schedule) -> None:
        """Of a policy: its networks, and an optimizer that steps all parameters at once.

        For the trivial group everything stays bit for bit SB3's; so does what the user chose.
        """
        chosen = {"fused", "foreach", "capturable", "differentiable"} & set(self.optimizer_kwargs)
        option = AT_ONCE.get(self.optimizer_class)
        if self.symmetry.group.order > 1 and option is not None and not chosen:
            self.optimizer_kwargs = {option: True, **self.optimizer_kwargs}
        parent: Any = super()
        parent._build(lr_schedule)

    @property
    def symmetry(self) -> Symmetry:
        """The symmetry as it was declared."""
        symmetry: Symmetry = self.symmetry_args["symmetry"]
        return symmetry

    def obs_to_tensor(self, observation: Any) -> tuple[Any, bool]:
        """As SB3's, of lists and arrays of any dtype: first they are brought to their space."""
        return super().obs_to_tensor(self.symmetry.observations.in_space(observation))

    def symmetrize(
        self,
        output_action: OutputAction,
        whole: Callable[..., Any],
        hidden: Callable[[Any], Any],
        last: Callable[..., Any],
        feature_dim: int,
        score: Callable[[Any], Tensor] | None = None,
    ) -> Symmetrized:
        """A plain network, which ``self`` holds, as a function of observations, symmetrized.

        Args:
            output_action: how what it gives is moved.
            whole: the network, ``last`` after ``hidden``.
            hidden: from the observation to the features that `lambda` looks at.
            last: from the features to the output.
            feature_dim: their number.
            score: of what the network gives, for methods that choose by it; see `Symmetrized`.

        Raises:
            SymmetryError: the symmetry does not fit the observations or actions.
        """
        symmetry = carried(self.symmetry, self)
        method = resolve(**{k: v for k, v in self.symmetry_args.items() if k != "symmetry"})
        looks_at_features = method.needs_features
        learned = method.scores_input and symmetry.group.order > 1
        return Symmetrized(
            last if looks_at_features else whole,
            symmetry.observations,
            output_action,
            method,
            features=hidden if looks_at_features else None,
            feature_dim=feature_dim,
            score=score if method.needs_scores else None,
            canonical_score=self._learned_score() if learned else None,
        )

    @torch.no_grad()
    def view_orbit(self, obs: Any) -> OrbitView:
        """What the plain network gives along the orbits; of a network that `symmetrize` has made.

        Args:
            obs: ``[batch, *S]``, as `obs_to_tensor` makes them.
        """
        symmetrized: Any = self.symmetrized
        outputs, features = symmetrized.outputs(obs)
        scores, scale = symmetrized.scores(outputs)
        return OrbitView(symmetrized.pull_back(outputs), scores, scale, features)

    def _learned_score(self) -> LearnedScore:
        return LearnedScore(self._flat_observation, get_flattened_obs_dim(self.observation_space))

    def _flat_observation(self, obs: Any) -> Tensor:
        processed: Any = preprocess_obs(obs, self.observation_space, self.normalize_images)
        extractor: Any = getattr(self, "features_extractor", None)
        extractor = extractor or getattr(self, "pi_features_extractor", None)
        if isinstance(extractor, NormalisedFlatten | NormalisedCombined):
            processed = extractor.normalised(processed)  # what the score was trained on
        parts = list(processed.values()) if isinstance(processed, dict) else [processed]
        return torch.cat([part.flatten(1) for part in parts], dim=1)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.symmetry_args}


def acting_network(policy: nn.Module) -> Any:
    """The symmetrized network by which a policy chooses actions; None of a plain policy."""
    for network in policy.modules():  # which begin with it
        is_ours = isinstance(network, SymmetrizationArguments)
        if is_ours and isinstance(getattr(network, "symmetrized", None), Symmetrized):
            return network
    return None


def carried(symmetry: Symmetry, network: BaseModel) -> Symmetry:
    """The symmetry on the observations that a network sees.

    Raises:
        SymmetryError: it does not fit the network's observations or actions.
    """
    if symmetry.action_space != network.action_space:
        raise SymmetryError(
            f"the symmetry moves {symmetry.action_space}, the policy has {network.action_space}"
        )
    return for_policy(symmetry, network.observation_space)


def checked_symmetry(
    symmetry: Symmetry | str | None,
    policy: str,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
) -> Symmetry:
    """What a policy was given as its symmetry.

    Args:
        symmetry: a symmetry, or the id of an environment whose symmetry is known.
        policy: the name of its class.
        observation_space: of the policy; the symmetry of an id is carried to it.
        action_space: of the policy.

    Raises:
        SymmetryError: it is neither, or does not fit the spaces.
    """
    if isinstance(symmetry, str):
        return symmetry_by_id(symmetry, observation_space, action_space)
    if symmetry is None:
        raise SymmetryError(
            f"{policy} needs a symmetry: policy_kwargs=dict(symmetry=symmetry_of(env), …), or "
            "EquivariantDQN, which finds it on the environment"
        )
    if not isinstance(symmetry, Symmetry):
        raise SymmetryError(
            f"symmetry must be a Symmetry, got {type(symmetry).__name__}: pass env.symmetry, "
            "symmetry_of(env), or what Symmetry.from_generators returns"
        )
    return symmetry


def _spaces(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any], *_: Any, **__: Any
) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    """The first two arguments of every network and policy of SB3."""
    return observation_space, action_space


def _split(kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Everything else, and the options of methods."""
    options = {name: value for name, value in kwargs.items() if name in OPTIONS}
    return {name: value for name, value in kwargs.items() if name not in OPTIONS}, options
