"""What algorithms with a replay buffer teach ``method="relaxed"``.

Beside the loss of M_R there is the same loss of M, the plain networks, so that they mean something
where α is still 0, and the loss of α (`RelaxedWeighting.loss`) on the newest transitions, which the
networks were hardly trained on yet: on those that were, M always looks the better, as it fits noise
as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from equirl.symmetrize import RelaxedWeighting, relaxation
from equirl.symmetrize.structures import map_parts

if TYPE_CHECKING:
    from equirl.agents.dqn.dqn import EquivariantDQN
    from equirl.agents.symmetrized_actor import Weighed


def relaxed_weighting(network: Any) -> RelaxedWeighting | None:
    """What a symmetrized network learns of where to let go; None of other methods."""
    weighting = network.symmetrized.weighting
    return weighting if isinstance(weighting, RelaxedWeighting) else None


def relaxed_loss(model: EquivariantDQN, sample: ReplayBufferSamples, targets: Tensor) -> Tensor:
    """L = mean of l(Q_R(s, a) − y) + l(Q(s, a) − y), l the Huber loss, and the loss of α.

    Args:
        model: the agent.
        sample: a minibatch.
        targets: y, ``[batch, 1]``.
    """
    symmetrized, count = model.q_net.symmetrized, len(targets)
    newest = newest_transitions(model, count)
    observations, taken = with_newest(sample, newest)
    parts, actions = relaxation(symmetrized, observations), taken.long()
    value, symmetric, plain = (
        q.gather(1, actions).to(targets.dtype) for q in (parts.value, parts.symmetric, parts.plain)
    )
    loss = F.smooth_l1_loss(value[:count], targets) + F.smooth_l1_loss(plain[:count], targets)
    of_alpha: Tensor = symmetrized.weighting.loss(
        [(p if p.dim() == 1 else p.gather(1, actions)[:, 0])[count:] for p in parts.candidates],
        symmetric[count:],
        plain[count:],
        model.targets(newest),
    )
    return loss + of_alpha


def with_newest(sample: ReplayBufferSamples, newest: ReplayBufferSamples) -> tuple[Any, Tensor]:
    """The observations and actions of a minibatch and the newest: one pass in place of two."""
    observations = map_parts(
        lambda a, b: torch.cat([a, b]), sample.observations, newest.observations
    )
    return observations, torch.cat([sample.actions, newest.actions])


def relaxes(weighed: Weighed | None) -> TypeGuard[Weighed]:
    """Whether an actor, of which these are the weights, has ``method="relaxed"``."""
    return weighed is not None and weighed.relaxed is not None


def alpha_loss(model: Any, newest: ReplayBufferSamples, targets: Tensor) -> Tensor:
    """The loss of α(s) of an actor and its critics, a scalar.

    They share α(s), as they share the weights of every method. There is a target for the critics,
    Q_i(s, a), and none for the actor, and it is they who know where the symmetry fails.

    Args:
        model: with an ``actor`` and a ``critic``.
        newest: see `newest_transitions`.
        targets: y, ``[batch, 1]``, or of distributions of returns ``[batch, 1, quantiles]``, of
            which the means are compared.
    """
    relaxed = model.actor.weigh(newest.observations).relaxed
    values = model.critic.both_values(newest.observations, newest.actions, relaxed.kept)
    symmetric, plain = (q.mean(dim=2) if q.dim() == 3 else q for q in values)
    expected = targets.mean(dim=2) if targets.dim() == 3 else targets
    weighting: RelaxedWeighting = model.actor.symmetrized.weighting
    return weighting.loss(relaxed.candidates, symmetric, plain, expected.expand_as(plain))


def newest_transitions(model: OffPolicyAlgorithm, count: int) -> ReplayBufferSamples:
    """The last transitions of the replay buffer, at most ``count`` and at most a tenth of it."""
    buffer: Any = model.replay_buffer
    count = max(1, min(count, buffer.size() // 10))  # in a small one all were trained on
    last = np.arange(buffer.pos - count, buffer.pos) % buffer.buffer_size
    # Of several environments SB3 draws one from NumPy's global state (NPY002), which minibatches
    # are drawn from: leave it as they would find it.
    random_state = np.random.get_state()  # noqa: NPY002
    newest: ReplayBufferSamples = buffer._get_samples(last, env=model._vec_normalize_env)
    np.random.set_state(random_state)  # noqa: NPY002  # as above
    return newest
