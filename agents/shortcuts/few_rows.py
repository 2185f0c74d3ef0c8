"""Symmetrized perceptrons of vectors with as little of PyTorch as possible: in acting none at all,
in training none where one gs of each orbit is chosen. The numbers are the reference's up to
rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import Tensor, nn

from equirl.agents.gradient_steps import overrides
from equirl.agents.shortcuts.layers import Array, Layers, each_of, layers_of, run
from equirl.agents.shortcuts.perceptron import has_no_hooks
from equirl.agents.shortcuts.points import FEW_ROWS, Points, are_vectors
from equirl.symmetrize import LambdaWeighting, Symmetrized

if TYPE_CHECKING:
    from equirl.agents.actor_critic.symmetrized_actor_critic import SymmetrizedActorCritic
    from equirl.agents.symmetrized_actor import SymmetrizedActor


def actor_critic_of_few(policy: SymmetrizedActorCritic, obs: Any) -> tuple[Tensor, Tensor] | None:
    """π_G(s), ``[batch, parameters]``, and V_G(s), ``[batch, 1]``; None where PyTorch has to run.

    What `SymmetrizedActorCritic.parameters_and_values` computes, where no graph is needed.
    """
    if not _may_run(policy, policy.symmetrized, obs) or not _flattens(policy.pi_features_extractor):
        return None
    judging, actor_layers = _critic_layers(policy, obs.dtype), policy.mlp_extractor.policy_net
    if judging is None or not has_no_hooks(actor_layers):
        return None
    acting = each_of((actor_layers, [policy.action_net]), obs.dtype)
    if acting is None:
        return None
    (*critic, value), (actor, head) = judging, acting
    points = Points(policy.symmetrized, obs)
    if points.rows is None:
        return None
    of_actor, of_critic = run(actor, points.rows), run(critic, points.rows)
    values = run([value], of_critic)
    outputs = np.concatenate([run(head, of_actor), values], axis=1)
    scores = scale = None
    if policy.symmetrized.method.needs_scores:
        scores, scale = _scores(points, values, of_critic, value)
    found = points.combined(outputs, scores, scale, of_actor)
    return None if found is None else (found[:, :-1], found[:, -1:])


def actor_critic_of_chosen(policy: SymmetrizedActorCritic, obs: Any) -> Tensor | None:
    """(π_G(s), V_G(s)), the value in the last column, with a graph; None where PyTorch chooses.

    Of a method that chooses one gs for each s: the choice is made, and the points are moved, in
    NumPy. What `Symmetrized.forward` computes, but for ties, which are left to it.
    """
    method = policy.symmetrized.method
    is_one = method.is_hard and method.is_plain and torch.is_grad_enabled()
    if not is_one or not are_vectors(policy, policy.symmetrized, obs):
        return None
    critic = _critic_layers(policy, obs.dtype) if method.needs_scores else []
    if critic is None:
        return None
    points = Points(policy.symmetrized, obs)
    if critic and points.rows is not None:
        latents = run(critic[:-1], points.rows)
        points.choose_best(*_scores(points, run(critic[-1:], latents), latents, critic[-1]))
    if points.rows is None:
        return None
    return points.moved_back(policy._plain(torch.from_numpy(points.rows).view_as(obs)))


def actor_of_few(actor: SymmetrizedActor, obs: Any) -> Tensor | None:
    """The outputs of a symmetrized actor, ``[batch, outputs]``; None where PyTorch has to run.

    What `SymmetrizedActor.combined` computes, where no graph is needed.
    """
    if (
        not _may_run(actor, actor.symmetrized, obs)
        or not _flattens(actor.features_extractor)
        or not all(map(has_no_hooks, actor.children()))
        or overrides(actor, _class_with(actor, "layers"), ("_hidden_layers", "_last_layers"))
        or overrides(actor, BaseModel, ("extract_features",))
    ):
        return None
    modules, heads = actor.layers()
    critics: Any = []
    if actor.symmetrized.method.needs_scores:
        critic: Any = getattr(actor.judge, "__self__", None)
        critics = getattr(critic, "standard_networks", lambda: None)()
        if critics is None or not _flattens(critic.features_extractor):
            return None
    networks = each_of((modules, *heads, *critics), obs.dtype)
    if networks is None:
        return None
    hidden, *others = networks
    points = Points(actor.symmetrized, obs)
    if points.rows is None:
        return None
    features = run(hidden, points.rows)
    outputs = np.concatenate([run(head, features) for head in others[: len(heads)]], axis=1)
    scores = scale = None
    if critics:
        actions = actor.mean_action(torch.from_numpy(outputs)).numpy()
        judged = np.concatenate([points.rows, actions], axis=1)
        estimates = [run(network, judged) for network in others[len(heads) :]]
        values = points.along(np.concatenate(estimates, axis=1))
        scores, scale = values.min(axis=2), np.abs(values).max(axis=(1, 2)).clip(min=1)
    return points.combined(outputs, scores, scale, features)


def _critic_layers(policy: SymmetrizedActorCritic, dtype: torch.dtype) -> Layers | None:
    """The critic of a policy, its last layer linear; None where NumPy cannot run it."""
    extractor: Any = policy.mlp_extractor
    if (
        type(extractor) is not MlpExtractor
        or type(policy.value_net) is not nn.Linear
        or not (has_no_hooks(extractor) and has_no_hooks(extractor.value_net))
        or not _flattens(policy.vf_features_extractor)
    ):
        return None
    return layers_of([*extractor.value_net, policy.value_net], dtype)


def _scores(points: Points, values: Array, latents: Array, last: Any) -> tuple[Array, Array]:
    """V(gs), ``[batch, |G|]``, and its scale, ``[batch]``, as `SymmetrizedActorCritic._scores`.

    Args:
        points: gs.
        values: V(gs) of every row, ``[rows, 1]``.
        latents: what the last layer was given.
        last: the last layer.
    """
    weight, bias = last
    terms = np.abs(latents) @ np.abs(weight).T + np.abs(bias)
    return points.along(values)[..., 0], points.along(terms).max(axis=(1, 2))


def _may_run(network: Any, symmetrized: Symmetrized, obs: Any) -> bool:
    """Whether these are few vectors, and nobody needs a graph or has code of his own in the way."""
    weighting = symmetrized.weighting
    return (
        not torch.is_grad_enabled()
        and are_vectors(network, symmetrized, obs)
        and len(obs) * symmetrized.order <= FEW_ROWS
        and (weighting is None or _is_plain_lambda(weighting, obs.dtype))
    )


def _is_plain_lambda(weighting: Any, dtype: torch.dtype) -> bool:
    is_ours = type(weighting) is LambdaWeighting and has_no_hooks(weighting)
    return is_ours and layers_of(weighting.h, dtype) is not None


def _class_with(model: object, name: str) -> type:
    """The class that the method of this name is of."""
    return next(cls for cls in type(model).__mro__ if name in vars(cls))


def _flattens(extractor: Any) -> bool:
    is_ours = type(extractor) is FlattenExtractor
    return is_ours and has_no_hooks(extractor) and has_no_hooks(extractor.flatten)
