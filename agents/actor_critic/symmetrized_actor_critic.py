"""What the equivariant policies of PPO, A2C, TRPO and MaskablePPO share."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from equirl.actions import GroupAction
from equirl.agents.equivariance_metrics import actor_critic_metrics
from equirl.agents.gradient_steps import overrides
from equirl.agents.shortcuts.few_rows import actor_critic_of_chosen, actor_critic_of_few
from equirl.agents.symmetrized_network import OrbitView, SymmetrizationArguments
from equirl.errors import AgentError, MethodError
from equirl.symmetrize import Branches, Relaxation, Weights, relaxation
from equirl.symmetrize.weightings import magnitude

PARTS = (
    "_plain",
    "_latents",
    "_with_latents",
    "_outputs",
    "_critic",
    "_scores",
    "_choice",
    "_weighed",
)
"""What `parameters_and_values` is made of."""


class SymmetrizedActorCritic(SymmetrizationArguments):
    """An actor and a critic that see one orbit and share its weights:

        π_G(s) = Σ_g w_g(s) · g⁻¹π(gs),        V_G(s) = Σ_g w_g(s) · V(gs),

    where π are the parameters of the distribution of actions, logits or the mean of a Gaussian. So
    π_G(ga | gs) = π_G(a | s), log-probabilities and entropies with it, and V_G(gs) = V_G(s).
    `equizero` and `lambda` score a branch by V(gs), what the plain critic says of it; `lambda`
    looks at the last hidden layer of the actor. `relaxed` has one α(s) for both, which is a
    function of the same layer and learns from the value (`equirl.agents.actor_critic.relaxing`); a
    scale of the Gaussian that does not depend on s stays symmetric.

    Stands before the policy of SB3 that it makes equivariant. Its parameters have that one's keys;
    `lambda` (and a learned canonical score) add some.

    Args:
        args: what the SB3 policy takes.
        kwargs: see `SymmetrizationArguments`, and what the SB3 policy takes.

    Raises:
        SymmetryError: the symmetry does not fit the observations or actions.
        MethodError: the method is not known, or one of its options cannot be used here.
        AgentError: a subclass defines what is not called.
    """

    action_net: nn.Module
    value_net: Any
    mlp_extractor: Any
    action_dist: Any
    log_std: nn.Parameter
    log_std_classes: Tensor | None
    share_features_extractor: bool

    def _build(self, lr_schedule: Schedule) -> None:
        if not self._is_librarys("_get_action_dist_from_latent"):
            raise AgentError(
                f"{type(self).__name__} defines _get_action_dist_from_latent, which an equivariant "
                "policy does not call: define _distribution(parameters) instead"
            )
        super()._build(lr_schedule)
        classes = self._classes_of_scales()
        self.register_buffer("log_std_classes", classes, persistent=False)

    def _build_mlp_extractor(self) -> None:
        # Here, as the optimizer, which is made soon after, is to know what the method learns.
        parent: Any = super()
        parent._build_mlp_extractor()
        group = self.symmetry.group
        # One tensor for both, the value in the last column: one product with the weights.
        both = GroupAction.direct_sum(self.output_action(), GroupAction.trivial(group, (1,)))
        self.symmetrized = self.symmetrize(
            both,
            whole=self._plain,
            hidden=self._latents,
            last=self._outputs,
            feature_dim=self.mlp_extractor.latent_dim_pi,
            score=_value,
        )
        if self.symmetrized.method.drawn(group.order) < group.order:
            raise MethodError(
                "orbit_samples is for value-based algorithms: of a part of the orbit the "
                "log-probabilities are not those by which actions were drawn"
            )

    def output_action(self) -> GroupAction:
        """How the group moves the parameters of the distribution."""
        if isinstance(self.action_space, spaces.Box):
            return self.symmetry.action_means
        return self.symmetry.action_logits

    def _get_constructor_parameters(self) -> dict[str, Any]:
        # SB3 and sb3-contrib leave it out: the critic's extractor would become the actor's.
        return {
            **super()._get_constructor_parameters(),
            "share_features_extractor": self.share_features_extractor,
        }

    def _classes_of_scales(self) -> Tensor | None:
        """``[entries]``: the same number for entries of an action that the group exchanges."""
        if not isinstance(self.action_dist, DiagGaussianDistribution):
            return None
        index: Any = self.symmetry.log_stds.maps[0].arrays["index"]
        classes = torch.from_numpy(index.min(axis=0))
        return None if torch.equal(classes, torch.arange(len(classes))) else classes

    def _is_librarys(self, method: str) -> bool:
        """Whether a method is SB3's or sb3-contrib's, not a user's own."""
        found: Any = vars(self).get(method, getattr(type(self), method))
        return str(found.__module__).startswith(("stable_baselines3.", "sb3_contrib."))

    def parameters_and_values(self, obs: PyTorchObs) -> tuple[Tensor, Tensor]:
        """π_G(s), ``[batch, parameters]``, and V_G(s), ``[batch, 1]``."""
        symmetrized = self.symmetrized
        method = symmetrized.method
        if symmetrized.order == 1:
            actor, critic = self._latents(obs)
            return self.action_net(actor), self.value_net(critic)
        changed = overrides(self, SymmetrizedActorCritic, PARTS)
        if not changed and self._is_librarys("extract_features"):
            few = actor_critic_of_few(self, obs)
            if few is not None:
                return few
            chosen = actor_critic_of_chosen(self, obs)
            if chosen is not None:
                return chosen[:, :-1], chosen[:, -1:]
        if not method.needs_scores:
            outputs = symmetrized(obs)
        elif method.is_hard and torch.is_grad_enabled():
            outputs = symmetrized(obs, weights=self._choice(obs))
        else:
            outputs = symmetrized.combine(*self._weighed(obs))
        return outputs[:, :-1], outputs[:, -1:]

    def _choice(self, obs: PyTorchObs) -> Weights:
        """The weights of a method that chooses by V(gs), for which the critic alone is run."""
        with torch.no_grad():
            scores, scale = self._scores(*self.symmetrized.along_orbit(self._critic, obs))
        return self.symmetrized.weights(obs, scores=scores, scale=scale)

    def _weighed(self, obs: PyTorchObs) -> tuple[Tensor, Weights]:
        """π and V along the orbit, and the weights of a method that scores by V."""
        outputs, actor, critic = self.symmetrized.along_orbit(self._with_latents, obs)
        with torch.no_grad():
            scores, scale = self._scores(outputs[..., -1:], critic)
        weights = self.symmetrized.weights(obs, outputs, actor, scores=scores, scale=scale)
        return outputs, weights

    def relaxation(self, obs: PyTorchObs) -> Relaxation:
        """(π_G, V_G), (π, V), the value in the last column, and the evidence, of `relaxed`."""
        symmetrized = self.symmetrized
        if not symmetrized.method.needs_scores:
            return relaxation(symmetrized, obs)
        outputs, actor, critic = symmetrized.along_orbit(self._with_latents, obs)
        scores, scale = self._scores(outputs[..., -1:], critic)
        return relaxation(symmetrized, obs, outputs, actor, scores, scale)

    @torch.no_grad()
    def branches(self, obs: PyTorchObs) -> Branches:
        """The branches (g⁻¹π(gs), V(gs)), the value in the last column, and their weights."""
        symmetrized = self.symmetrized
        if symmetrized.order == 1 or not symmetrized.method.needs_scores:
            return symmetrized.branches(obs)
        outputs, weights = self._weighed(obs)
        return Branches(symmetrized.pull_back(outputs), weights.values)

    @torch.no_grad()
    def view_orbit(self, obs: PyTorchObs) -> OrbitView:
        """See `SymmetrizationArguments`; a branch's last column is V(gs)."""
        outputs, actor, critic = self.symmetrized.along_orbit(self._with_latents, obs)
        scored = self._scores(outputs[..., -1:], critic)
        return OrbitView(self.symmetrized.pull_back(outputs), *scored, actor)

    def equivariance_metrics(self, observations: PyTorchObs) -> dict[str, float]:
        """What `EquivarianceCallback` records, for a batch of observations."""
        return actor_critic_metrics(
            self.parameters_and_values,
            self.output_action(),
            self.symmetrized,
            self.branches(observations),
            observations,
        )

    def _scores(self, values: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """V(gs), ``[|G|, batch]``, and how large the numbers were that it was summed from.

        Args:
            values: V(gs), ``[|G|, batch, 1]``.
            latents: the critic's last hidden layer, ``[|G|, batch, features]``.
        """
        scores, last = values.squeeze(-1), self.value_net
        if not isinstance(last, nn.Linear):
            return scores, magnitude(scores).clamp(min=1)
        terms = F.linear(latents.abs(), last.weight.abs(), last.bias.abs())
        return scores, magnitude(terms)

    def _distribution(self, parameters: Tensor) -> Distribution:
        """The distribution of actions with these logits or this mean."""
        found: Distribution
        if isinstance(self.action_dist, DiagGaussianDistribution):
            found = self.action_dist.proba_distribution(parameters, self.symmetric_log_std())
        else:
            found = self.action_dist.proba_distribution(action_logits=parameters)
        return found

    def symmetric_log_std(self) -> Tensor:
        """The mean over g of g · ``log_std``: equal for entries that the group exchanges."""
        classes = self.log_std_classes
        if classes is None:
            return self.log_std
        sums = torch.zeros_like(self.log_std).index_add(0, classes, self.log_std)
        sizes = torch.zeros_like(self.log_std).index_add(0, classes, torch.ones_like(self.log_std))
        return (sums / sizes.clamp(min=1))[classes]

    def _plain(self, obs: PyTorchObs) -> Tensor:
        return self._outputs(self._latents(obs))

    def _with_latents(self, obs: PyTorchObs) -> tuple[Tensor, Tensor, Tensor]:
        latents = self._latents(obs)
        return self._outputs(latents), *latents

    def _latents(self, obs: PyTorchObs) -> tuple[Tensor, Tensor]:
        """The last hidden layers of the actor and of the critic."""
        parent: Any = self  # whose extractor is an argument in `BaseModel` alone
        features = parent.extract_features(obs)
        if self.share_features_extractor:
            both: tuple[Tensor, Tensor] = self.mlp_extractor(features)
            return both
        of_actor, of_critic = features
        return (
            self.mlp_extractor.forward_actor(of_actor),
            self.mlp_extractor.forward_critic(of_critic),
        )

    def _critic(self, obs: PyTorchObs) -> tuple[Tensor, Tensor]:
        """V and the last hidden layer of the critic."""
        if self._is_librarys("extract_features"):  # the critic's alone
            extractor: Any = self.vf_features_extractor
            features = BaseModel.extract_features(self, obs, extractor)
        else:
            parent: Any = self
            both = parent.extract_features(obs)
            features = both if self.share_features_extractor else both[1]
        latents = self.mlp_extractor.forward_critic(features)
        return self.value_net(latents), latents

    def _outputs(self, latents: tuple[Tensor, Tensor]) -> Tensor:
        of_actor, of_critic = latents
        return torch.cat([self.action_net(of_actor), self.value_net(of_critic)], dim=1)


def _value(outputs: Tensor) -> Tensor:
    return outputs[:, -1]
