"""Symmetrized perceptrons of a few observations, as in acting, in NumPy.

A call of PyTorch takes a few times as long to begin as NumPy's, and for a few rows of numbers that
is all the time it takes. The numbers are the reference's up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import (
    CategoricalDistribution,
    DiagGaussianDistribution,
)
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.torch_layers import FlattenExtractor, MlpExtractor
from torch import Tensor, nn

from equirl.actions import Affines, GroupAction, SignedPermutations
from equirl.agents.gradient_steps import overrides
from equirl.agents.shortcuts.perceptron import has_no_hooks
from equirl.recording import is_recording
from equirl.symmetrize import INFINITE_BETA, TIE_TOLERANCE, LambdaWeighting, Symmetrized
from equirl.symmetrize.lexicographic import FEW

if TYPE_CHECKING:
    from equirl.agents.actor_critic.symmetrized_actor_critic import SymmetrizedActorCritic
    from equirl.agents.symmetrized_actor import SymmetrizedActor

Array = npt.NDArray[Any]

FEW_ROWS = 16
"""Up to this many points gs."""

LOG_ROOT = 0.5 * math.log(2 * math.pi)

LAYERS = (nn.Linear, nn.ReLU, nn.Tanh, nn.Hardtanh)


def actor_critic_of_few(policy: SymmetrizedActorCritic, obs: Any) -> tuple[Tensor, Tensor] | None:
    """π_G(s), ``[batch, parameters]``, and V_G(s), ``[batch, 1]``; None where PyTorch has to run.

    What `SymmetrizedActorCritic.parameters_and_values` computes.
    """
    extractor: Any = policy.mlp_extractor
    value_net: Any = policy.value_net
    extractors = (policy.pi_features_extractor, policy.vf_features_extractor)
    if (
        not _may_look(policy, policy.symmetrized, obs)
        or type(extractor) is not MlpExtractor
        or type(value_net) is not nn.Linear
        or not all(map(_flattens, extractors))
    ):
        return None
    actor, critic = [*extractor.policy_net], [*extractor.value_net]
    if not _are_plain([*actor, *critic, policy.action_net, value_net], obs.dtype):
        return None
    orbit = FewPoints(policy.symmetrized, obs)
    if orbit.rows is None:
        return None
    of_actor, of_critic = run(actor, orbit.rows), run(critic, orbit.rows)
    values = run([value_net], of_critic)
    outputs = np.concatenate([run([policy.action_net], of_actor), values], axis=1)
    scores = scale = None
    if policy.symmetrized.method.needs_scores:
        weight, bias = _numbers(value_net)
        terms = np.abs(of_critic) @ np.abs(weight).T + np.abs(bias)
        scores, scale = orbit.along(values)[..., 0], orbit.along(terms).max(axis=(1, 2))
    found = orbit.combined(outputs, scores, scale, of_actor)
    return None if found is None else (found[:, :-1], found[:, -1:])


def actor_of_few(actor: SymmetrizedActor, obs: Any) -> Tensor | None:
    """The outputs of a symmetrized actor, ``[batch, outputs]``; None where PyTorch has to run.

    What `SymmetrizedActor.combined` computes.
    """
    if (
        not _may_look(actor, actor.symmetrized, obs)
        or not _flattens(actor.features_extractor)
        or overrides(actor, _class_with(actor, "layers"), ("_hidden_layers", "_last_layers"))
        or overrides(actor, BaseModel, ("extract_features",))
    ):
        return None
    hidden, heads = actor.layers()
    critics: Any = []
    if actor.symmetrized.method.needs_scores:
        critic: Any = getattr(actor.judge, "__self__", None)
        critics = getattr(critic, "standard_networks", lambda: None)()
        if critics is None:
            return None
        if not _flattens(critic.features_extractor) or not _are_plain(chain(*critics), obs.dtype):
            return None
    if not _are_plain(chain(hidden, *heads), obs.dtype):
        return None
    orbit = FewPoints(actor.symmetrized, obs)
    if orbit.rows is None:
        return None
    features = run(hidden, orbit.rows)
    outputs = np.concatenate([run(head, features) for head in heads], axis=1)
    scores = scale = None
    if critics:
        actions = actor.mean_action(torch.from_numpy(outputs)).numpy()
        points = np.concatenate([orbit.rows, actions], axis=1)
        values = orbit.along(np.concatenate([run(net, points) for net in critics], axis=1))
        scores, scale = values.min(axis=2), np.abs(values).max(axis=(1, 2)).clip(min=1)
    return orbit.combined(outputs, scores, scale, features)


def drawn_of_few(
    policy: SymmetrizedActorCritic, parameters: Tensor, deterministic: bool
) -> tuple[Tensor, Tensor] | None:
    """Actions, ``[batch, …]``, and log π(a | s), ``[batch]``, by the random numbers of SB3.

    None for other distributions than the categorical one and the Gaussian, or where PyTorch has to
    run. SB3 builds a distribution and checks it for every action, which takes as long as a network.

    Args:
        policy: whose distribution it is.
        parameters: logits, or the mean of the Gaussian, as `actor_critic_of_few` gives them.
        deterministic: the most likely actions.
    """
    kind, is_few = type(policy.action_dist), len(parameters) <= FEW_ROWS
    may_take = policy.shortcuts and policy.symmetrized.order > 1
    if not (may_take and is_few and parameters.device.type == "cpu"):
        return None
    if parameters.requires_grad or is_recording() or torch.compiler.is_compiling():
        return None
    given: Array = parameters.numpy()
    if not math.isfinite(given.sum()):
        return None
    if kind is CategoricalDistribution:
        logits = given - given.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        likely = np.ascontiguousarray(np.exp(logits))  # random numbers come in memory's order
        if deterministic:
            chosen = torch.from_numpy(likely.argmax(axis=1))
        else:
            chosen = torch.multinomial(torch.from_numpy(likely), 1, True)[:, 0]
        return chosen, torch.from_numpy(logits[np.arange(len(logits)), chosen.numpy()])
    if kind is DiagGaussianDistribution:
        log_std: Array = policy.symmetric_log_std().detach().numpy()
        std = np.exp(log_std)
        actions = given
        if not deterministic:
            noise: Array = torch.empty(given.shape, dtype=parameters.dtype).normal_().numpy()
            actions = given + std * noise
        terms = 0.5 * ((actions - given) / std) ** 2 + log_std + LOG_ROOT
        return torch.from_numpy(actions), torch.from_numpy(-terms.sum(axis=1))
    return None


class FewPoints:
    """The points of a few orbits that a network has to be run on.

    Args:
        symmetrized: whose they are.
        obs: s, ``[batch, *shape]``.
    """

    rows: Array | None
    """The points, flat, ``[batch · |G|, entries]``, or of `canonical` the chosen ones,
    ``[batch, entries]``; None where PyTorch has to choose, as several are equal or not finite."""

    def __init__(self, symmetrized: Symmetrized, obs: Tensor) -> None:
        self._symmetrized, self._dtype = symmetrized, obs.dtype
        self._chosen = None
        flat = obs.numpy().reshape(len(obs), -1)
        orbit = symmetrized.input_action.maps[0].orbit(flat)  # [batch, |G|, entries]
        if not symmetrized.method.is_fixed:
            self.rows = orbit.reshape(-1, orbit.shape[2])
            return
        self._chosen = _largest(orbit, symmetrized.input_action, TIE_TOLERANCE[obs.dtype])
        self.rows = None if self._chosen is None else orbit[np.arange(len(orbit)), self._chosen]

    def along(self, rows: Array) -> Array:
        """``[batch · |G|, …] -> [batch, |G|, …]``."""
        return rows.reshape(-1, self._symmetrized.order, *rows.shape[1:])

    def combined(
        self, outputs: Array, scores: Array | None, scale: Array | None, features: Array
    ) -> Tensor | None:
        """Σ_g w_g(s) · g⁻¹M(gs), ``[batch, outputs]``; None where some are not finite.

        Args:
            outputs: M(gs) of every row.
            scores: of gs, ``[batch, |G|]``, of a method that needs them.
            scale: of the numbers that the scores came from, ``[batch]``.
            features: of gs, of every row.
        """
        if not math.isfinite(outputs.sum()):
            return None
        maps: Any = self._symmetrized.output_action.inverse_maps
        sign = maps.arrays["sign"]
        if self._chosen is not None:
            found = np.take_along_axis(outputs, maps.arrays["index"][self._chosen], axis=1)
            if sign is not None:
                found *= sign[self._chosen]
            return torch.from_numpy(found)
        branches = self.along(outputs)
        k = np.arange(self._symmetrized.order)[:, None]
        branches = branches[:, k, maps.arrays["index"]]
        if sign is not None:
            branches *= sign
        if scores is None or scale is None:
            return torch.from_numpy(branches.mean(axis=1))
        weights = self._weights(scores, scale, features)
        return torch.from_numpy((weights[..., None] * branches).sum(axis=1, dtype=branches.dtype))

    def _weights(self, scores: Array, scale: Array, features: Array) -> Array:
        """As `shared_among_best` and `LambdaWeighting` give them, ``[batch, |G|]``."""
        least = (scores.max(axis=1) - TIE_TOLERANCE[self._dtype] * scale)[:, None]
        weighting: LambdaWeighting | None = self._symmetrized.weighting
        beta = math.inf if weighting is None else math.sinh(float(weighting.asinh_beta))
        if weighting is None or beta >= INFINITE_BETA:
            shares = (scores >= least).astype(scores.dtype)
        else:
            running = float(weighting.running_score_spread)
            unit = np.maximum(1e-4 * scale, running if running > 0 else 1.0)[:, None]
            h = self.along(run(list(weighting.h), features))[..., 0]
            logits = h + beta * np.minimum(scores - least, 0) / unit
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        normalised: Array = shares / shares.sum(axis=1, keepdims=True)
        return normalised


def run(layers: Iterable[nn.Module], x: Array) -> Array:
    """The layers, of `LAYERS`, one after the other, ``[rows, entries]`` in and out."""
    for layer in layers:
        if isinstance(layer, nn.Linear):
            weight, bias = _numbers(layer)
            x = x @ weight.T
            x += bias
        elif isinstance(layer, nn.ReLU):
            x = np.maximum(x, 0)
        elif isinstance(layer, nn.Hardtanh):
            x = x.clip(layer.min_val, layer.max_val)
        else:
            x = np.tanh(x)
    return x


def _numbers(layer: nn.Linear) -> tuple[Array, Array]:
    own: Any = layer._parameters
    return own["weight"].detach().numpy(), own["bias"].detach().numpy()


def _largest(orbit: Array, action: GroupAction, tolerance: float) -> Array | None:
    """The elements ``[batch]`` that `equirl.symmetrize.lexicographic` chooses, where one leads."""
    first = action.first_moved
    if first is None:
        return None
    slack = tolerance * np.abs(orbit).max(axis=(1, 2))[:, None]
    leading = np.ones(orbit.shape[:2], dtype=bool)
    for entry in orbit.transpose(2, 0, 1)[first : first + FEW]:
        masked = np.where(leading, entry, -np.inf)
        leading &= masked >= masked.max(axis=1, keepdims=True) - slack
        if (leading.sum(axis=1) == 1).all():
            chosen: Array = leading.argmax(axis=1)
            return chosen
    return None


def _may_look(network: Any, symmetrized: Symmetrized, obs: Any) -> bool:
    """Whether these are few vectors, and nobody needs a graph or has code of his own in the way."""
    space, weighting = network.observation_space, symmetrized.weighting
    inverse = symmetrized.output_action
    return (
        network.shortcuts
        and not is_recording()  # first, as a graph must not depend on the number of rows
        and symmetrized.order > 1
        and not torch.is_grad_enabled()
        and isinstance(obs, Tensor)
        and obs.device.type == "cpu"
        and obs.dtype in (torch.float32, torch.float64)
        and isinstance(space, spaces.Box)
        and space.dtype == np.float32
        and obs.shape[1:] == space.shape
        and len(space.shape) < 3  # images are preprocessed
        and 0 < len(obs) * symmetrized.order <= FEW_ROWS
        and not symmetrized.method.scores_input
        and isinstance(inverse, GroupAction)
        and isinstance(inverse.maps[0], SignedPermutations)
        and inverse.maps[0].offset is None
        and isinstance(symmetrized.input_action.maps[0], (SignedPermutations, Affines))
        and has_no_hooks(symmetrized)
        and (weighting is None or _is_plain_lambda(weighting, obs.dtype))
        and not torch.compiler.is_compiling()
    )


def _is_plain_lambda(weighting: Any, dtype: torch.dtype) -> bool:
    is_ours = type(weighting) is LambdaWeighting and has_no_hooks(weighting)
    return is_ours and _are_plain(list(weighting.h), dtype)


def _class_with(model: object, name: str) -> type:
    """The class that the method of this name is of."""
    return next(cls for cls in type(model).__mro__ if name in vars(cls))


def _flattens(extractor: Any) -> bool:
    return type(extractor) is FlattenExtractor and has_no_hooks(extractor)


def _are_plain(layers: Iterable[nn.Module], dtype: torch.dtype) -> bool:
    """Whether `run` computes what these layers do, on a CPU."""
    for layer in layers:
        if type(layer) not in LAYERS or not has_no_hooks(layer):
            return False
        if isinstance(layer, nn.Linear):
            weight, bias = layer._parameters["weight"], layer._parameters["bias"]
            if weight is None or bias is None or weight.dtype != dtype or weight.is_cuda:
                return False
    return True
