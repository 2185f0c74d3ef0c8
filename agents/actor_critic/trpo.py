"""`EquivariantTRPO`: Trust Region Policy Optimization, equivariant: ``equirl[contrib]``."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from gymnasium import spaces
from sb3_contrib import TRPO
from stable_baselines3.common.distributions import kl_divergence
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor

from equirl.agents.actor_critic.policies import POLICY_ALIASES, EquivariantActorCriticPolicy
from equirl.agents.actor_critic.relaxing import Hook, RelaxingOnPolicy
from equirl.agents.equivariant_algorithm import EquivariantAlgorithm
from equirl.agents.gradient_steps import WithLoss
from equirl.symmetrize.structures import map_parts


class EquivariantTRPO(EquivariantAlgorithm, RelaxingOnPolicy, TRPO):
    """TRPO with π(ga | gs) = π(a | s) and V(gs) = V(s), see `EquivariantActorCriticPolicy`.

    Training is sb3-contrib's own; only the policy differs, and what ``method="relaxed"`` adds, see
    `RelaxingOnPolicy`. There a step leads the plain actor up its own gain too (`plain_actor`), and
    the region of trust is one of both actors: KL(π_R) + KL(π), of which the line search looks at
    the first alone, so that the second is held to its quadratic approximation.

    Args:
        args: see `EquivariantAlgorithm`, which raises what it says.
        kwargs: everything that `sb3_contrib.TRPO` takes, which checks the names.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = POLICY_ALIASES
    equivariant_policy = EquivariantActorCriticPolicy

    def _hooks(self, handed_out: list[Any]) -> list[Hook]:
        policy: Any = self.policy
        of_actor, predict = self._compute_actor_grad, policy.predict_values

        def compute_actor_grad(divergence: Tensor, gain: Tensor) -> Any:
            of_plain = self.plain_actor(handed_out[0])
            return of_actor(divergence + of_plain[0], gain + of_plain[1])

        def predict_values(obs: Any) -> Any:
            plain = policy._plain(obs)[:, -1]
            loss = F.mse_loss(plain, handed_out[0].returns)
            return WithLoss.apply(predict(obs), loss)  # type: ignore[no-untyped-call]  # torch's own

        return [
            (self, "_compute_actor_grad", compute_actor_grad),
            (policy, "predict_values", predict_values),
        ]

    def plain_actor(self, sample: Any) -> tuple[Tensor, Tensor]:
        """KL(π ‖ π before the step) and the clipped gain of the plain actor π, two scalars.

        Args:
            sample: the rollout, of which every ``sub_sampling_factor``-th step counts.
        """
        policy: Any = self.policy
        every = slice(None, None, self.sub_sampling_factor)
        outputs = policy._plain(map_parts(lambda part: part[every], sample.observations))
        parameters = outputs[:, :-1]
        with torch.no_grad():  # a Gaussian would keep the graph of its mean
            before = copy.copy(policy._distribution(parameters.detach()))
        divergence = kl_divergence(policy._distribution(parameters), before).mean()
        actions = sample.actions[every]
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()
        log_prob, _ = policy.evaluate_parameters(parameters, actions)
        gain = self.clipped_gain(log_prob, sample.old_log_prob[every], sample.advantages[every])
        return divergence, gain.mean()
