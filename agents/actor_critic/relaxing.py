"""How PPO, A2C, MaskablePPO and TRPO learn what `relaxed` lets go of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from equirl.agents.gradient_steps import WithLoss, minimize
from equirl.agents.relaxed_loss import relaxed_weighting
from equirl.symmetrize import RelaxedWeighting

Hook = tuple[Any, str, Callable[..., Any]]
"""An object, the name of a method of it, and what stands in its place."""

CLIP_RANGE = 0.2
"""Of the plain actor's loss, of an algorithm that has none of its own."""


class RelaxingOnPolicy(OnPolicyAlgorithm):
    """An on-policy algorithm that teaches ``method="relaxed"`` what to let go of.

    Stands before the SB3 class, whose own code trains π_R and V_R. Two things are added:

    - Before anything is trained on a rollout, α(s) learns from it which of V_G(s) and V(s) predicts
      the returns better (`RelaxedWeighting.loss`). The networks have not seen these returns yet: on
      those that they have, V is always the better, as it fits noise as well.
    - The loss is that of SB3 plus the same of the plain π and V (`plain_loss`), so that they mean
      something where α is still 0.

    Actor and critic share α(s), as they share the weights of every method: there is a target for
    the value, and none for the actor, and the critic knows where the symmetry fails.
    """

    equivariant_policy: ClassVar[type[BasePolicy]]

    def _maybe_recommend_cpu(self, mlp_class_name: str = "") -> None:
        super()._maybe_recommend_cpu(mlp_class_name or self.equivariant_policy.__name__)

    def train(self) -> None:
        """See the SB3 class."""
        policy: Any = self.policy
        weighting = relaxed_weighting(policy)
        if weighting is None:
            super().train()
            return
        self._learn_alpha(weighting)
        handed_out: list[Any] = []
        get = self.rollout_buffer.get

        def get_and_keep(batch_size: int | None = None) -> Iterator[Any]:
            for sample in get(batch_size):
                handed_out[:] = [sample]
                yield sample

        hooks = [(self.rollout_buffer, "get", get_and_keep), *self._hooks(handed_out)]
        for owner, name, function in hooks:
            setattr(owner, name, function)
        try:
            super().train()
        finally:
            for owner, name, _ in hooks:
                delattr(owner, name)

    def _hooks(self, handed_out: list[Any]) -> list[Hook]:
        """What stands in the place of methods while SB3's own code trains.

        Args:
            handed_out: holds the minibatch that is trained on.
        """
        policy: Any = self.policy
        evaluate = policy.evaluate_actions

        def evaluate_actions(obs: Any, actions: Tensor, **masks: Any) -> Any:
            values, *others = evaluate(obs, actions, **masks)
            loss = self.plain_loss(handed_out[0], actions, **masks)
            with_loss = WithLoss.apply(values, loss)  # type: ignore[no-untyped-call]  # torch's own
            return with_loss, *others

        return [(policy, "evaluate_actions", evaluate_actions)]

    def plain_loss(self, sample: Any, actions: Tensor, **masks: Any) -> Tensor:
        """What SB3 minimises, of the plain π and V instead of π_R and V_R, a scalar:

            −min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) − c_H H(π) + c_V (V(s) − R)²,

        with ρ = π(a | s) / π_old(a | s), π_old being the π_R by which actions were drawn: so the
        plain actor stays where the advantages A say something of it (arXiv 1707.06347). A2C has
        the same, as its own loss says something of its own actions alone.

        Args:
            sample: a minibatch.
            actions: a, as the policy takes them.
            masks: ``action_masks``, where actions are masked.
        """
        policy: Any = self.policy
        outputs = policy._plain(sample.observations)
        log_prob, entropy = policy.evaluate_parameters(outputs[:, :-1], actions, **masks)
        gained = self.clipped_gain(log_prob, sample.old_log_prob, sample.advantages)
        randomness = -log_prob if entropy is None else entropy
        of_value = F.mse_loss(outputs[:, -1], sample.returns)
        loss: Tensor = self.vf_coef * of_value - (gained + self.ent_coef * randomness).mean()
        return loss

    def clipped_gain(self, log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor) -> Tensor:
        """min(ρ A, clip(ρ, 1 − ε, 1 + ε) A), ``[batch]``; see `plain_loss`.

        Args:
            log_prob: log π(a | s), ``[batch]``.
            old_log_prob: log π_old(a | s).
            advantages: A.
        """
        settings = vars(self)
        if settings["normalize_advantage"] and len(advantages) > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        clip = CLIP_RANGE
        if "clip_range" in settings:
            clip = settings["clip_range"](self._current_progress_remaining)
        ratio = (log_prob - old_log_prob).exp()
        return torch.min(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)

    def _learn_alpha(self, weighting: RelaxedWeighting) -> None:
        """One pass over the rollout."""
        policy: Any = self.policy
        policy.set_training_mode(True)
        self._update_learning_rate(policy.optimizer)
        for sample in self.rollout_buffer.get(vars(self).get("batch_size")):
            parts = policy.relaxation(sample.observations)
            symmetric, plain = parts.symmetric[:, -1], parts.plain[:, -1]
            loss = weighting.loss(parts.candidates, symmetric, plain, sample.returns)
            minimize(policy.optimizer, loss)
