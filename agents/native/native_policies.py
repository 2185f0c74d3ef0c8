"""DQN policies whose Q-network is equivariant layer by layer; nothing is averaged."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor

from equirl.agents.equivariance_metrics import error_alone
from equirl.agents.features import ForImages
from equirl.agents.native.native_network import (
    Architecture,
    build,
    matching_scale,
    plain_parameters,
)
from equirl.agents.policy_spaces import for_policy
from equirl.agents.symmetrized_network import checked_symmetry
from equirl.errors import AgentError, SymmetryError
from equirl.symmetry import Symmetry


class NativeEquivariantQNetwork(QNetwork):
    """Q(gs, ga) = Q(s, a) by its layers: equivariant linear maps, or group convolutions.

    Args:
        symmetry: the symmetry of the observations before SB3 transposes images.
        match_parameters: as many parameters as the plain network, as nearly as can be, and not as
            many units.
        architecture: the plain network.
        kwargs: everything `QNetwork` takes, except its features extractor.

    Raises:
        SymmetryError: the symmetry does not fit the observations or actions, or is none that group
            convolutions take.
        AgentError: the observations are dicts, or the convolutions do not fit them.
    """

    def __init__(
        self,
        *,
        symmetry: Symmetry,
        match_parameters: bool,
        architecture: Architecture,
        **kwargs: Any,
    ) -> None:
        observation_space = kwargs["observation_space"]
        if symmetry.action_space != kwargs["action_space"]:
            raise SymmetryError(
                f"the symmetry moves {symmetry.action_space}, the policy has "
                f"{kwargs['action_space']}"
            )
        if isinstance(observation_space, spaces.Dict):
            raise AgentError(
                "native layers take observations that are one array, not a Dict: use "
                "method=equitune"
            )
        carried = for_policy(symmetry, observation_space)
        parameters = plain_parameters(carried, architecture) if match_parameters else None
        scale = 1.0 if parameters is None else matching_scale(carried, architecture, parameters)
        extractor, layers = build(carried, architecture, scale)
        with torch.device("meta"):  # the plain layers, which ours replace at once
            super().__init__(
                **kwargs, features_extractor=extractor, features_dim=extractor.features_dim
            )
        self.q_net = layers
        self.carried = carried
        self.native_args: dict[str, Any] = {
            "symmetry": symmetry,
            "match_parameters": match_parameters,
            "architecture": architecture,
        }

    def forward(self, obs: PyTorchObs) -> Tensor:
        """Q(s, ·), ``[batch, actions]``."""
        orbit: Tensor = self.carried.orbit(obs)
        rows = orbit.transpose(0, 1).flatten(0, 1)
        return super().forward(rows)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = {**super()._get_constructor_parameters(), **self.native_args}
        return {
            key: value
            for key, value in parameters.items()
            if key not in ("features_extractor", "features_dim")
        }


class NativeEquivariantPolicy(DQNPolicy):
    """`DQNPolicy` with equivariant layers (van der Pol et al. 2020); works in stock `DQN`.

    A hidden layer of n units becomes n / |G| copies of the regular representation of G. With the
    trivial group it is `DQNPolicy`, bit for bit.

    Args:
        observation_space: see `DQNPolicy`; no Dict.
        action_space: see `DQNPolicy`.
        lr_schedule: see `DQNPolicy`.
        symmetry: the symmetry of the environment, or the id of one whose symmetry is known.
        match_parameters: choose the widths so that there are as nearly as many parameters as in
            the plain network of the same ``net_arch``, which makes for about √|G| times the units.
        kwargs: everything else `DQNPolicy` takes (net_arch, activation_fn, …). The
            ``activation_fn`` must work entry by entry.

    Example:
        >>> import gymnasium as gym
        >>> from stable_baselines3 import DQN
        >>> from equirl.envs import SymmetryWrapper
        >>> env = SymmetryWrapper(gym.make("CartPole-v1"))
        >>> kwargs = dict(symmetry=env.symmetry, net_arch=[32])
        >>> model = DQN(NativeEquivariantPolicy, env, policy_kwargs=kwargs, buffer_size=1000)
        >>> model.q_net.q_net[0]  # 16 copies of the regular representation: 32 units
        Linear(in_features=4, out_features=16, bias=True)
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        symmetry: Symmetry | str | None = None,
        match_parameters: bool = False,
        **kwargs: Any,
    ) -> None:
        # Before super().__init__, which builds the networks.
        self.native_args: dict[str, Any] = {
            "symmetry": checked_symmetry(
                symmetry, type(self).__name__, observation_space, action_space
            ),
            "match_parameters": match_parameters,
        }
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def equivariance_metrics(self, observations: Any) -> dict[str, float]:
        """What `EquivarianceCallback` records, for a batch of observations."""
        q_net: Any = self.q_net
        if self.native_args["symmetry"].group.order == 1:
            return {}
        carried = q_net.carried
        return error_alone(q_net, carried.observations, carried.q_values, observations)

    def make_q_net(self) -> QNetwork:
        """The Q-network, or its target."""
        if self.native_args["symmetry"].group.order == 1:
            return super().make_q_net()
        architecture = Architecture(
            self.features_extractor_class,
            self.features_extractor_kwargs,
            self.net_arch,
            self.activation_fn,
        )
        kwargs: dict[str, Any] = {**self.net_args, **self.native_args}
        return NativeEquivariantQNetwork(architecture=architecture, **kwargs).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self.native_args}


class NativeEquivariantCnnPolicy(ForImages, NativeEquivariantPolicy):
    """`NativeEquivariantPolicy` for images: group convolutions (Cohen & Welling 2016).

    The layers are those of NatureCNN, or of the ``features_extractor_class`` `SmallCnn`, with |G|
    rows in place of so many times the channels.
    """


NATIVE_POLICIES: dict[str, type[NativeEquivariantPolicy]] = {
    "MlpPolicy": NativeEquivariantPolicy,
    "CnnPolicy": NativeEquivariantCnnPolicy,
    "MultiInputPolicy": NativeEquivariantPolicy,
}
"""By the names that SB3 has for the plain ones."""
