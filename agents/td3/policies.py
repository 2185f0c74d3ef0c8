"""TD3 policies: the action is exactly equivariant, the critics invariant. DDPG has the same."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.td3.policies import Actor, TD3Policy
from torch import Tensor, nn

from equirl.agents.equivariance_metrics import actor_and_critics_metrics
from equirl.agents.features import ForDicts, ForImages
from equirl.agents.symmetrized_actor import SymmetrizedActor, Weighed, connect
from equirl.agents.symmetrized_critic import EquivariantContinuousCritic
from equirl.agents.symmetrized_network import SymmetrizationArguments


class EquivariantDeterministicActor(SymmetrizedActor, Actor):
    """π_G(s) = Σ_g w_g(s) · g⁻¹π(gs), with π the plain actor of TD3 that this class inherits.

    Its parameters have the keys of the plain actor; `lambda` (and a learned canonical score) add
    some. With the trivial group it computes bit for bit what that one does.

    Args:
        kwargs: see `SymmetrizationArguments`, and everything that the plain actor takes.

    Raises:
        SymmetryError: the symmetry does not fit the observations or actions.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # The last linear layer and tanh come after the features that lambda looks at.
        self.symmetrized = self.symmetrize(
            self.symmetry.scaled_actions,
            whole=self._plain,
            hidden=self._hidden_layers,
            last=self._last_layers,
            feature_dim=self.net_arch[-1] if self.net_arch else self.features_dim,
        )

    def forward(self, obs: Any, weighed: Weighed | None = None) -> Tensor:
        """Actions in -1 … 1, ``[batch, actions]``."""
        if self.symmetrized.order == 1:
            return super().forward(obs)
        return self.combined(obs, weighed)

    def layers(self) -> tuple[list[nn.Module], list[list[nn.Module]]]:
        """See `SymmetrizedActor`."""
        *hidden, last, squashing = self.mu
        return hidden, [[last, squashing]]

    def mean_action(self, outputs: Tensor) -> Tensor:
        """See `SymmetrizedActor`."""
        return outputs

    def _plain(self, obs: Any) -> Tensor:
        return super().forward(obs)

    def _hidden_layers(self, obs: PyTorchObs) -> Tensor:
        hidden: Tensor = self.mu[:-2](self.extract_features(obs, self.features_extractor))
        return hidden

    def _last_layers(self, hidden: Tensor) -> Tensor:
        actions: Tensor = self.mu[-2:](hidden)
        return actions


class EquivariantTD3Policy(SymmetrizationArguments, TD3Policy):
    """`TD3Policy` with an equivariant actor and invariant critics; works in stock `TD3`, `DDPG`.

    Actor and critics share the weights w_g(s) of the method. `equizero` and `lambda` score a branch
    by the critic's lower estimate of its own action, min_i Q_i(gs, π(gs)); the target actor has the
    target critic for it, see `equirl.agents.symmetrized_actor`.

    Args:
        args: what `TD3Policy` takes: spaces, schedule of learning rates.
        symmetry: ``env.symmetry`` of a `SymmetryWrapper`, see `SymmetrizationArguments`.
        kwargs: the method and its options, see `SymmetrizationArguments`, and everything else
            `TD3Policy` takes (net_arch, n_critics, …).

    Example:
        >>> import gymnasium as gym
        >>> from stable_baselines3 import TD3
        >>> from equirl.envs import SymmetryWrapper
        >>> env = SymmetryWrapper(gym.make("Pendulum-v1"), {"mirror": ([1, -1, -1], [-1])})
        >>> kwargs = dict(symmetry=env.symmetry, method="equizero")
        >>> model = TD3(EquivariantTD3Policy, env, policy_kwargs=kwargs, buffer_size=1000)
    """

    actor: EquivariantDeterministicActor
    actor_target: EquivariantDeterministicActor
    critic: EquivariantContinuousCritic
    critic_target: EquivariantContinuousCritic

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        connect(self.actor, self.critic)
        connect(self.actor_target, self.critic_target)

    def equivariance_metrics(self, observations: Any) -> dict[str, float]:
        """What `EquivarianceCallback` records, for a batch of observations."""
        return actor_and_critics_metrics(self.actor, self.critic, observations)

    def make_actor(
        self, features_extractor: BaseFeaturesExtractor | None = None
    ) -> EquivariantDeterministicActor:
        """See `TD3Policy`; the actor or its target."""
        arguments = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return EquivariantDeterministicActor(**arguments, **self.symmetry_args).to(self.device)

    def make_critic(
        self, features_extractor: BaseFeaturesExtractor | None = None
    ) -> EquivariantContinuousCritic:
        """See `TD3Policy`; the critic or its target."""
        arguments = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return EquivariantContinuousCritic(**arguments, **self.symmetry_args).to(self.device)


class EquivariantTD3CnnPolicy(ForImages, EquivariantTD3Policy):
    """`EquivariantTD3Policy` for images: NatureCNN unless told otherwise."""


class EquivariantTD3MultiInputPolicy(ForDicts, EquivariantTD3Policy):
    """`EquivariantTD3Policy` for dict observations."""
