"""SAC policies: the distribution of actions is exactly equivariant, the critics invariant."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, Actor, SACPolicy
from torch import Tensor, nn

from equirl.actions import GroupAction
from equirl.agents.equivariance_metrics import actor_and_critics_metrics
from equirl.agents.features import ForDicts, ForImages
from equirl.agents.symmetrized_actor import SymmetrizedActor, Weighed, connect
from equirl.agents.symmetrized_critic import EquivariantContinuousCritic
from equirl.agents.symmetrized_network import SymmetrizationArguments
from equirl.errors import AgentError

LOG_STD = nn.Hardtanh(LOG_STD_MIN, LOG_STD_MAX)
"""Between which log standard deviations are kept."""


class EquivariantSquashedActor(SymmetrizedActor):
    """The squashed Gaussian of the actor that follows, equivariant as a whole.

    The mean, before tanh, moves with the actions, which scaled to -1 … 1 are exchanged and change
    their signs: μ_G(s) = Σ_g w_g(s) · g⁻¹μ(gs); tanh is odd, and so commutes. The log standard
    deviation moves by the permutation without signs. So π(ga | gs) = π(a | s), and the
    log-probabilities are invariant.

    Its parameters have the keys of the plain actor; `lambda` (and a learned canonical score) add
    some. With the trivial group it computes bit for bit what that one does.

    Agents that explore by gSDE (arXiv 2005.05719) act deterministically only: their noise is a
    function of the features at s, which are not moved by any action of the group.

    Args:
        kwargs: see `SymmetrizationArguments`, and everything that the plain actor takes.

    Raises:
        SymmetryError: the symmetry does not fit the observations or actions.
    """

    use_sde: bool
    net_arch: list[int]
    features_dim: int
    features_extractor: Any
    action_dist: Any
    latent_pi: Any
    mu: Any
    log_std: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        moved = self.symmetry.scaled_actions
        if not self.use_sde:
            moved = GroupAction.direct_sum(moved, self.symmetry.log_stds)
        self.symmetrized = self.symmetrize(
            moved,
            whole=self._plain,
            hidden=self._hidden_layers,
            last=self._last_layers,
            feature_dim=self.net_arch[-1] if self.net_arch else self.features_dim,
        )

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> Tensor:
        """Actions in -1 … 1, ``[batch, actions]``.

        Raises:
            AgentError: a random action of an agent that explores by gSDE.
        """
        if self.symmetrized.order == 1 or not self.use_sde:
            actions: Tensor = super().forward(obs, deterministic)
            return actions
        if not deterministic:
            _refuse_sde()
        return torch.tanh(self.combined(obs))

    def get_action_dist_params(
        self, obs: PyTorchObs, weighed: Weighed | None = None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Mean and log standard deviation, each ``[batch, actions]``."""
        if self.symmetrized.order == 1:
            parent: Any = super()
            params: tuple[Tensor, Tensor, dict[str, Tensor]] = parent.get_action_dist_params(obs)
            return params
        mean, log_std = self.combined(obs, weighed).chunk(2, dim=1)
        return mean, log_std, {}

    def action_log_prob(
        self, obs: PyTorchObs, weighed: Weighed | None = None
    ) -> tuple[Tensor, Tensor]:
        """Random actions ``[batch, actions]`` and their log-probabilities ``[batch]``."""
        mean, log_std, kwargs = self.get_action_dist_params(obs, weighed)
        drawn: tuple[Tensor, Tensor] = self.action_dist.log_prob_from_params(
            mean, log_std, **kwargs
        )
        return drawn

    def layers(self) -> tuple[list[nn.Module], list[list[nn.Module]]]:
        """See `SymmetrizedActor`."""
        mean = [*self.mu] if isinstance(self.mu, nn.Sequential) else [self.mu]
        return [*self.latent_pi], [mean] if self.use_sde else [mean, [self.log_std, LOG_STD]]

    def mean_action(self, outputs: Tensor) -> Tensor:
        """See `SymmetrizedActor`."""
        return torch.tanh(outputs if self.use_sde else outputs.chunk(2, dim=1)[0])

    def _plain(self, obs: PyTorchObs) -> Tensor:
        return self._last_layers(self._hidden_layers(obs))

    def _hidden_layers(self, obs: PyTorchObs) -> Tensor:
        latent: Tensor = self.latent_pi(self.extract_features(obs, self.features_extractor))
        return latent

    def _last_layers(self, latent: Tensor) -> Tensor:
        if self.use_sde:
            mean: Tensor = self.mu(latent)
            return mean
        return torch.cat([self.mu(latent), LOG_STD(self.log_std(latent))], dim=1)


class EquivariantActor(EquivariantSquashedActor, Actor):
    """The actor of SAC made equivariant, see `EquivariantSquashedActor`."""


class SymmetrizedSACPolicy(SymmetrizationArguments):
    """What the equivariant policies of SAC and TQC share; stands before the plain policy.

    Args:
        args: what the plain policy takes: spaces, schedule of learning rates.
        use_sde: gSDE; refused, but see ``evaluate_only``.
        evaluate_only: the policy is of an agent that was trained before, and acts
            deterministically, in which gSDE has no part.
        kwargs: ``symmetry``, the method and its options, see `SymmetrizationArguments`, and
            everything else that the plain policy takes.

    Raises:
        AgentError: gSDE.
    """

    actor_class: ClassVar[type[Any]]
    critic_class: ClassVar[type[Any]]

    actor: Any
    critic: Any
    critic_target: Any
    actor_kwargs: dict[str, Any]
    critic_kwargs: dict[str, Any]

    def __init__(
        self, *args: Any, use_sde: bool = False, evaluate_only: bool = False, **kwargs: Any
    ) -> None:
        self.evaluate_only = evaluate_only
        super().__init__(*args, use_sde=use_sde, **kwargs)
        if use_sde and not evaluate_only and self.symmetry.group.order > 1:
            _refuse_sde()

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        connect(self.actor, self.critic, self.critic_target)

    def equivariance_metrics(self, observations: Any) -> dict[str, float]:
        """What `EquivarianceCallback` records, for a batch of observations."""
        return actor_and_critics_metrics(self.actor, self.critic, observations)

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """See `SACPolicy`."""
        arguments = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return self.actor_class(**arguments, **self.symmetry_args).to(self.device)

    def make_critic(self, features_extractor: BaseFeaturesExtractor | None = None) -> Any:
        """See `SACPolicy`; the critic or its target."""
        arguments = self._update_features_extractor(self.critic_kwargs, features_extractor)
        return self.critic_class(**arguments, **self.symmetry_args).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "evaluate_only": self.evaluate_only}


class EquivariantSACPolicy(SymmetrizedSACPolicy, SACPolicy):
    """`SACPolicy` with an equivariant actor and invariant critics; works in stock `SAC`.

    Actor and critics share the weights w_g(s) of the method. `equizero` and `lambda` score a branch
    by the critic's lower estimate of its own action, min_i Q_i(gs, tanh μ(gs)), see
    `equirl.agents.symmetrized_actor`.

    Example:
        >>> import gymnasium as gym
        >>> from stable_baselines3 import SAC
        >>> from equirl.envs import SymmetryWrapper
        >>> env = SymmetryWrapper(gym.make("Pendulum-v1"), {"mirror": ([1, -1, -1], [-1])})
        >>> kwargs = dict(symmetry=env.symmetry, method="equizero")
        >>> model = SAC(EquivariantSACPolicy, env, policy_kwargs=kwargs, buffer_size=1000)
    """

    actor_class = EquivariantActor
    critic_class = EquivariantContinuousCritic


class EquivariantSACCnnPolicy(ForImages, EquivariantSACPolicy):
    """`EquivariantSACPolicy` for images: NatureCNN unless told otherwise."""


class EquivariantSACMultiInputPolicy(ForDicts, EquivariantSACPolicy):
    """`EquivariantSACPolicy` for dict observations."""


def _refuse_sde() -> NoReturn:
    raise AgentError(
        "gSDE (use_sde=True) draws its noise from features of s that the group does not move, and "
        "so is not equivariant: train with use_sde=False; trained agents act with "
        "deterministic=True"
    )
