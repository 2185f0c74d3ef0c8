"""DQN policies whose Q-function is exactly equivariant: Q(gs, ga) = Q(s, a)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, preprocess_obs
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    NatureCNN,
)
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from equirl.agents.shortcuts.greedy import greedy_action
from equirl.agents.shortcuts.perceptron import is_unheard, run_layers
from equirl.envs.symmetry_by_id import symmetry_by_id
from equirl.errors import SymmetryError
from equirl.symmetrize.symmetrized import Gradient, Init, Method, Symmetrized
from equirl.symmetrize.weightings import LearnedScore
from equirl.symmetry import Symmetry

CanonicalScore = Literal["lexicographic", "learned"]


class EquivariantQNetwork(QNetwork):
    """Q_G(s, a) = Σ_g w_g(s) · Q(gs, ga), with Q the plain `QNetwork` this class inherits.

    Its parameters have the keys of `QNetwork`; `lambda` (and a learned canonical score) add some.
    With the trivial group it computes bit for bit what `QNetwork` does.

    Args:
        symmetry: the symmetry of the observations before SB3 transposes images.
        method: how the orbit is weighed, see `equirl.Symmetrized`.
        gradient: through hard choices, see `equirl.Symmetrized`.
        init: where `lambda` starts.
        canonical_score: how `canonical` chooses: by lexicographic order, or by a small network
            (which learns with ``gradient="straight_through"``).
        orbit_samples: for `equitune`, elements of the orbit in the loss, see `equirl.Symmetrized`.
        kwargs: everything `QNetwork` takes.

    Raises:
        SymmetryError: the symmetry does not fit the observations.
    """

    def __init__(
        self,
        *,
        symmetry: Symmetry,
        method: Method = "equitune",
        gradient: Gradient = "selected",
        init: Init = "equitune",
        canonical_score: CanonicalScore = "lexicographic",
        orbit_samples: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if symmetry.action_space != self.action_space:
            raise SymmetryError(
                f"the symmetry moves {symmetry.action_space}, the policy has {self.action_space}"
            )
        self.symmetry_args: dict[str, Any] = {
            "symmetry": symmetry,
            "method": method,
            "gradient": gradient,
            "init": init,
            "canonical_score": canonical_score,
            "orbit_samples": orbit_samples,
        }
        carried = symmetry.carried_to(self.observation_space)
        looks_at_features = method == "lambda"
        self.symmetrized = Symmetrized(
            self._last_layer if looks_at_features else self._plain,
            carried.observations,
            carried.q_values,
            method,
            features=self._hidden_layers if looks_at_features else None,
            feature_dim=self.net_arch[-1] if self.net_arch else self.features_dim,
            canonical_score=(
                LearnedScore(self._flat_observation, get_flattened_obs_dim(self.observation_space))
                if canonical_score == "learned" and symmetry.group.order > 1
                else None
            ),
            gradient=gradient,
            init=init,
            orbit_samples=orbit_samples,
        )

    def forward(self, obs: PyTorchObs, weights: Tensor | None = None) -> Tensor:
        """Q_G(s, ·), ``[batch, actions]``; ``weights`` as `Symmetrized.forward` takes them."""
        q_values: Tensor = self.symmetrized(obs, weights)
        return q_values

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> Tensor:
        is_ours = type(self) is EquivariantQNetwork and is_unheard(self)
        action = greedy_action(self, observation) if is_ours else None
        return super()._predict(observation, deterministic) if action is None else action

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.symmetry_args}

    def _plain(self, obs: PyTorchObs) -> Tensor:
        if not is_unheard(self.q_net):
            return super().forward(obs)
        return run_layers(self.q_net, self.extract_features(obs, self.features_extractor))

    def _hidden_layers(self, obs: PyTorchObs) -> Tensor:
        features = self.extract_features(obs, self.features_extractor)
        return run_layers(list(self.q_net)[:-1], features)

    def _last_layer(self, features: Tensor) -> Tensor:
        return run_layers([self.q_net[-1]], features)

    def _flat_observation(self, obs: PyTorchObs) -> Tensor:
        processed = preprocess_obs(obs, self.observation_space, self.normalize_images)
        parts = list(processed.values()) if isinstance(processed, dict) else [processed]
        return torch.cat([part.flatten(1) for part in parts], dim=1)


class EquivariantDQNPolicy(DQNPolicy):
    """`DQNPolicy` with an equivariant Q-function; works in stock `stable_baselines3.DQN`.

    Args:
        observation_space: see `DQNPolicy`.
        action_space: see `DQNPolicy`.
        lr_schedule: see `DQNPolicy`.
        symmetry: the symmetry of the environment, ``env.symmetry`` of a `SymmetryWrapper`; or the
            id of an environment whose symmetry is known, as configuration files can say it.
        method: ``"equitune"``, ``"lambda"``, ``"equizero"`` or ``"canonical"``.
        gradient: for `equizero` and `canonical`, ``"selected"`` or ``"straight_through"``.
        init: where `lambda` starts, ``"equitune"`` or ``"equizero"``.
        canonical_score: ``"lexicographic"`` or ``"learned"``.
        orbit_samples: for `equitune`, elements of the orbit in the loss, see `equirl.Symmetrized`.
        kwargs: everything else `DQNPolicy` takes (net_arch, activation_fn, …).

    Example:
        >>> import gymnasium as gym
        >>> from stable_baselines3 import DQN
        >>> from equirl.envs import SymmetryWrapper
        >>> env = SymmetryWrapper(gym.make("CartPole-v1"))
        >>> kwargs = dict(symmetry=env.symmetry, method="lambda")
        >>> model = DQN(EquivariantDQNPolicy, env, policy_kwargs=kwargs, buffer_size=1000)
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        symmetry: Symmetry | str | None = None,
        method: Method = "equitune",
        gradient: Gradient = "selected",
        init: Init = "equitune",
        canonical_score: CanonicalScore = "lexicographic",
        orbit_samples: int | None = None,
        **kwargs: Any,
    ) -> None:
        symmetry = checked_symmetry(symmetry, type(self).__name__, observation_space, action_space)
        # Before super().__init__, which builds the networks.
        self.symmetry_args: dict[str, Any] = {
            "symmetry": symmetry,
            "method": method,
            "gradient": gradient,
            "init": init,
            "canonical_score": canonical_score,
            "orbit_samples": orbit_samples,
        }
        # One kernel for all parameters; for the trivial group everything stays bit for bit SB3's.
        optimizer = kwargs.get("optimizer_class", torch.optim.Adam)
        if symmetry.group.order > 1 and optimizer in (torch.optim.Adam, torch.optim.AdamW):
            options = kwargs.get("optimizer_kwargs") or {}
            if not {"fused", "foreach", "capturable", "differentiable"} & set(options):
                kwargs["optimizer_kwargs"] = {"fused": True, **options}
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def make_q_net(self) -> EquivariantQNetwork:
        """The Q-network, or its target."""
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        return EquivariantQNetwork(**net_args, **self.symmetry_args).to(self.device)

    @property
    def device(self) -> torch.device:
        """See `DQNPolicy`."""
        found = _first_parameter(self)
        return super().device if found is None else found.device

    def set_training_mode(self, mode: bool) -> None:
        """See `DQNPolicy`; nothing to do, as before most actions, where the mode is so already."""
        if self.training != mode or not _is_in_mode(self.q_net, mode):
            super().set_training_mode(mode)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.symmetry_args}


class EquivariantCnnPolicy(EquivariantDQNPolicy):
    """`EquivariantDQNPolicy` for images: NatureCNN unless told otherwise."""

    def __init__(
        self,
        *args: Any,
        features_extractor_class: type[BaseFeaturesExtractor] = NatureCNN,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)


class EquivariantMultiInputPolicy(EquivariantDQNPolicy):
    """`EquivariantDQNPolicy` for dict observations."""

    def __init__(
        self,
        *args: Any,
        features_extractor_class: type[BaseFeaturesExtractor] = CombinedExtractor,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, features_extractor_class=features_extractor_class, **kwargs)


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
        observation_space: of the policy, to which that of an id is carried.
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


# Torch's own ways to ask for these take several times as long, and every action asks.


def _first_parameter(module: nn.Module) -> nn.Parameter | None:
    for parameter in module._parameters.values():
        if parameter is not None:
            return parameter
    for child in module._modules.values():
        found = None if child is None else _first_parameter(child)
        if found is not None:
            return found
    return None


def _is_in_mode(module: nn.Module, mode: bool) -> bool:
    """Whether the module and everything in it is in training, or in evaluation, mode."""
    if module.training != mode:
        return False
    for child in module._modules.values():
        if child is not None and not _is_in_mode(child, mode):
            return False
    return True
