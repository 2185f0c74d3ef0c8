"""DQN policies whose Q-function is exactly equivariant: Q(gs, ga) = Q(s, a)."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from equirl.agents.equivariance_metrics import symmetrized_metrics
from equirl.agents.features import ForDicts, ForImages
from equirl.agents.shortcuts.greedy import greedy_action
from equirl.agents.shortcuts.perceptron import has_no_hooks, run_layers
from equirl.agents.symmetrized_network import SymmetrizationArguments
from equirl.recording import is_recording


class EquivariantQNetwork(SymmetrizationArguments, QNetwork):
    """Q_G(s, a) = Σ_g w_g(s) · Q(gs, ga), with Q the plain `QNetwork` this class inherits.

    Its parameters have the keys of `QNetwork`; `lambda`, `relaxed` and a learned canonical score
    add some.
    With the trivial group it computes bit for bit what `QNetwork` does.

    Args:
        kwargs: see `SymmetrizationArguments`, and everything `QNetwork` takes.

    Raises:
        SymmetryError: the symmetry does not fit the observations.
    """

    relaxes_actions = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.symmetrized = self.symmetrize(
            self.symmetry.q_values,
            whole=self._plain,
            hidden=self._hidden_layers,
            last=self._last_layer,
            feature_dim=self.net_arch[-1] if self.net_arch else self.features_dim,
        )

    def forward(self, obs: PyTorchObs, weights: Tensor | None = None) -> Tensor:
        """Q_G(s, ·), ``[batch, actions]``; ``weights`` as `Symmetrized.forward` takes them."""
        q_values: Tensor = self.symmetrized(obs, weights)
        return q_values

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> Tensor:
        # A graph cannot look at numbers, as this short cut does.
        may_look = self.shortcuts and not is_recording()
        is_ours = may_look and type(self) is EquivariantQNetwork and has_no_hooks(self)
        action = greedy_action(self, observation) if is_ours else None
        return super()._predict(observation, deterministic) if action is None else action

    def _plain(self, obs: PyTorchObs) -> Tensor:
        if not has_no_hooks(self.q_net):
            return super().forward(obs)
        return run_layers(self.q_net, self.extract_features(obs, self.features_extractor))

    def _hidden_layers(self, obs: PyTorchObs) -> Tensor:
        features = self.extract_features(obs, self.features_extractor)
        return run_layers(list(self.q_net)[:-1], features)

    def _last_layer(self, features: Tensor) -> Tensor:
        return run_layers([self.q_net[-1]], features)


class EquivariantDQNPolicy(SymmetrizationArguments, DQNPolicy):
    """`DQNPolicy` with an equivariant Q-function; works in stock `stable_baselines3.DQN`.

    Args:
        args: what `DQNPolicy` takes: spaces, schedule of learning rates.
        symmetry: ``env.symmetry`` of a `SymmetryWrapper`, see `SymmetrizationArguments`.
        kwargs: the method and its options, see `SymmetrizationArguments`, and everything else
            `DQNPolicy` takes (net_arch, activation_fn, …).

    Example:
        >>> import gymnasium as gym
        >>> from stable_baselines3 import DQN
        >>> from equirl.envs import SymmetryWrapper
        >>> env = SymmetryWrapper(gym.make("CartPole-v1"))
        >>> kwargs = dict(symmetry=env.symmetry, method="lambda")
        >>> model = DQN(EquivariantDQNPolicy, env, policy_kwargs=kwargs, buffer_size=1000)
    """

    relaxes_actions = True

    def equivariance_metrics(self, observations: Any) -> dict[str, float]:
        """What `EquivarianceCallback` records, for a batch of observations."""
        q_net: Any = self.q_net
        return symmetrized_metrics(q_net, q_net.symmetrized, observations)

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


class EquivariantCnnPolicy(ForImages, EquivariantDQNPolicy):
    """`EquivariantDQNPolicy` for images: NatureCNN unless told otherwise."""


class EquivariantMultiInputPolicy(ForDicts, EquivariantDQNPolicy):
    """`EquivariantDQNPolicy` for dict observations."""


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
