"""`ResidualPathwayPolicy`: an equivariant and a plain network, added, the plain one held small."""

from __future__ import annotations

import copy
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from equirl.agents.dqn.policies import EquivariantDQNPolicy, EquivariantQNetwork

RESIDUAL_PENALTY = 1e-3


class ResidualPathwayQNetwork(EquivariantQNetwork):
    """Q(s, a) = Q_G(s, a) + Q_r(s, a): an equivariant Q-function and a second, plain network."""

    relaxes = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        actions = int(self.action_space.n)
        layers = create_mlp(self.features_dim, actions, self.net_arch, self.activation_fn)
        self.residual = nn.Sequential(*layers)
        self.residual_extractor = copy.deepcopy(self.features_extractor)

    def forward(self, obs: PyTorchObs, weights: Tensor | None = None) -> Tensor:
        """``[batch, actions]``."""
        features = self.extract_features(obs, self.residual_extractor)
        rest: Tensor = self.residual(features)
        return super().forward(obs, weights) + rest


class ResidualPathwayPolicy(EquivariantDQNPolicy):
    """Residual pathway priors (Finzi, Benton and Wilson 2021, arXiv 2112.01388) for DQN.

    Their prior is a normal distribution of all weights, narrower for those of the plain network;
    here that is a decay of these weights. An approximate symmetry, from the start:
    ``EquivariantDQN(ResidualPathwayPolicy, env)``.

    Args:
        args: see `EquivariantDQNPolicy`.
        residual_penalty: c of the term c/2 |θ|² of the weights of the plain network.
        kwargs: see `EquivariantDQNPolicy`.
    """

    relaxes = False
    q_net: ResidualPathwayQNetwork

    def __init__(self, *args: Any, residual_penalty: float = RESIDUAL_PENALTY, **kwargs: Any):
        self.residual_penalty = residual_penalty
        super().__init__(*args, **kwargs)

    def make_q_net(self) -> ResidualPathwayQNetwork:
        """The Q-network, or its target."""
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        assert isinstance(self.action_space, spaces.Discrete)
        return ResidualPathwayQNetwork(**net_args, **self.symmetry_args).to(self.device)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        net = self.q_net
        held = [*net.residual.parameters(), *net.residual_extractor.parameters()]
        free = [p for p in net.parameters() if all(p is not one for one in held)]
        optimizer: Any = self.optimizer_class
        self.optimizer = optimizer(
            [{"params": free}, {"params": held, "weight_decay": self.residual_penalty}],
            lr=lr_schedule(1),
            **self.optimizer_kwargs,
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "residual_penalty": self.residual_penalty}
