"""QR-DQN policies: the distribution of returns is equivariant, every quantile by itself."""

from __future__ import annotations

from typing import Any

from sb3_contrib.qrdqn.policies import QRDQNPolicy, QuantileNetwork
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from equirl.agents.equivariance_metrics import symmetrized_metrics
from equirl.agents.features import ForDicts, ForImages
from equirl.agents.symmetrized_network import SymmetrizationArguments


class EquivariantQuantileNetwork(SymmetrizationArguments, QuantileNetwork):
    """Z_G(s, a) = Σ_g w_g(s) · Z(gs, ga) for every quantile of the plain `QuantileNetwork`.

    The score of a branch is its greatest Q-value, max_a of the mean over the quantiles. The
    parameters have the keys of `QuantileNetwork`; `lambda` (and a learned canonical score) add
    some. With the trivial group it computes bit for bit what `QuantileNetwork` does.

    Args:
        kwargs: see `SymmetrizationArguments`, and everything `QuantileNetwork` takes.

    Raises:
        SymmetryError: the symmetry does not fit the observations.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.symmetrized = self.symmetrize(
            self.symmetry.q_values.copies(self.n_quantiles),
            whole=self._plain,
            hidden=self._hidden_layers,
            last=self._last_layer,
            feature_dim=self.net_arch[-1] if self.net_arch else self.features_dim,
            score=greatest_mean,
        )

    def forward(self, obs: PyTorchObs, weights: Tensor | None = None) -> Tensor:
        """The quantiles ``[batch, quantiles, actions]``."""
        quantiles: Tensor = self.symmetrized(obs, weights)
        return quantiles

    def _plain(self, obs: PyTorchObs) -> Tensor:
        quantiles: Tensor = super().forward(obs)
        return quantiles

    def _hidden_layers(self, obs: PyTorchObs) -> Tensor:
        features = self.extract_features(obs, self.features_extractor)
        hidden: Tensor = self.quantile_net[:-1](features)
        return hidden

    def _last_layer(self, hidden: Tensor) -> Tensor:
        quantiles: Tensor = self.quantile_net[-1](hidden)
        return quantiles.view(-1, self.n_quantiles, int(self.action_space.n))


def greatest_mean(quantiles: Tensor) -> Tensor:
    """max_a of the mean over the quantiles, ``[rows, quantiles, actions] -> [rows]``."""
    return quantiles.mean(dim=1).amax(dim=1)


class EquivariantQRDQNPolicy(SymmetrizationArguments, QRDQNPolicy):
    """`QRDQNPolicy` with an equivariant distribution of returns; works in stock `QRDQN`.

    Args:
        args: what `QRDQNPolicy` takes: spaces, schedule of learning rates.
        symmetry: ``env.symmetry`` of a `SymmetryWrapper`, see `SymmetrizationArguments`.
        kwargs: the method and its options, see `SymmetrizationArguments`, and everything else
            `QRDQNPolicy` takes (net_arch, n_quantiles, …).
    """

    def equivariance_metrics(self, observations: Any) -> dict[str, float]:
        """What `EquivarianceCallback` records, for a batch of observations."""
        quantile_net: Any = self.quantile_net
        return symmetrized_metrics(quantile_net, quantile_net.symmetrized, observations)

    def make_quantile_net(self) -> EquivariantQuantileNetwork:
        """See `QRDQNPolicy`; the network or its target."""
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        return EquivariantQuantileNetwork(**net_args, **self.symmetry_args).to(self.device)


class EquivariantQRDQNCnnPolicy(ForImages, EquivariantQRDQNPolicy):
    """`EquivariantQRDQNPolicy` for images: NatureCNN unless told otherwise."""


class EquivariantQRDQNMultiInputPolicy(ForDicts, EquivariantQRDQNPolicy):
    """`EquivariantQRDQNPolicy` for dict observations."""
