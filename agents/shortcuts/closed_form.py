"""`ClosedForm`: the loss of a symmetrized perceptron and its gradient, without autograd."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor

from equirl.agents.dqn.policies import EquivariantQNetwork
from equirl.agents.shortcuts.greedy import moved_actions
from equirl.agents.shortcuts.perceptron import Perceptron
from equirl.symmetrize import (
    INFINITE_BETA,
    LambdaWeighting,
    Method,
    Symmetrized,
    largest_entry,
    shared_among_best,
)


class Rows(NamedTuple):
    """What Q_G(s, a) is made of.

    Args:
        points: the points gs, flat, ``[batch, k, entries]``; k is |G|, or 1 for `canonical`.
        actions: the numbers of the actions ga, ``[batch, k]``.
        targets: of Q_G(s, a), ``[batch, 1]``.
    """

    points: Tensor
    actions: Tensor
    targets: Tensor


class _Weights(NamedTuple):
    """All that the closed form has to know of a method.

    Args:
        method: it.
        weighting: of `lambda`, with the layers of h.
    """

    method: Method
    weighting: LambdaWeighting | None
    h: Perceptron | None

    @classmethod
    def of(cls, symmetrized: Symmetrized) -> _Weights | None:
        """None where the method's weights and their gradient are not written out here."""
        method, weighting = symmetrized.method, symmetrized.weighting
        h = Perceptron.of(weighting.h) if type(weighting) is LambdaWeighting else None
        is_written_out = (
            symmetrized.order > 1
            and method.is_plain
            and not method.scores_input
            and symmetrized.score is largest_entry
            and (weighting is None) == (h is None)
        )
        return cls(method, weighting, h) if is_written_out else None


class ClosedForm:
    """The Huber loss l of the temporal-difference error of Q_G(s, a) = Σ_g w_g(s) Q(gs, ga).

    With e = l'(Q_G(s, a) − target) / batch its derivatives are

        ∂L/∂Q(gs, ga) = w_g(s) e,
        ∂L/∂ log λ(gs) = w_g(s) (Q(gs, ga) − Q_G(s, a)) e   for `lambda`,

    and 0 by all other Q-values, so that backwards `equizero` runs only what it chose.

    Args:
        symmetrized: the network and how its orbits are combined.
        network: its layers.
        weights: how they are weighed.
        parameters: all that learns.
    """

    def __init__(
        self,
        symmetrized: Symmetrized,
        network: Perceptron,
        weights: _Weights,
        parameters: Sequence[Tensor],
    ) -> None:
        self._symmetrized, self._network, self._method = symmetrized, network, weights.method
        self._lambda = None
        if weights.weighting is not None and weights.h is not None:
            self._lambda = _Lambda(weights.weighting, weights.h)
        self._parameters = parameters
        # In one piece, so that its norm is one operation.
        self.gradient = parameters[0].new_empty(sum(p.numel() for p in parameters))
        parts = self.gradient.split_with_sizes([p.numel() for p in parameters])
        self._gradients = [part.view(p.shape) for part, p in zip(parts, parameters, strict=True)]
        self._moved = moved_actions(symmetrized.output_action).t().contiguous()

    @classmethod
    def of(cls, q_net: EquivariantQNetwork, parameters: Sequence[Tensor]) -> ClosedForm | None:
        """None where the network is not a perceptron on a CPU, or its method not written out.

        Nor where the parameters, those which are to learn, are not the network's.
        """
        network, weights = Perceptron.of(q_net.q_net), _Weights.of(q_net.symmetrized)
        if network is None or weights is None or type(q_net) is not EquivariantQNetwork:
            return None
        kinds = {(p.device.type, p.dtype, p.requires_grad) for p in parameters}
        is_usual = (
            type(q_net.features_extractor) is FlattenExtractor
            and kinds in ({("cpu", torch.float32, True)}, {("cpu", torch.float64, True)})
            and set(map(id, parameters)) == set(map(id, q_net.parameters()))
        )
        return cls(q_net.symmetrized, network, weights, parameters) if is_usual else None

    @torch.no_grad()
    def rows(self, sample: ReplayBufferSamples, targets: Tensor) -> Rows | None:
        """What the network is to be run on, which depends on no parameter.

        None where the observations are not plain vectors, or `canonical` has to share.
        """
        x: Any = sample.observations  # or a dict of tensors
        symmetrized = self._symmetrized
        if not isinstance(x, Tensor) or not x.dtype == targets.dtype == self.gradient.dtype:
            return None
        moved = self._moved.index_select(0, sample.actions.flatten().long())
        if not self._method.is_fixed:
            orbit = symmetrized.input_action.orbit(x)
            return Rows(orbit.transpose(0, 1).flatten(2), moved, targets)
        fixed = symmetrized.fixed_weights(x)
        assert fixed is not None
        g = fixed.t().nonzero()[:, 1]
        if len(g) != len(x):
            return None
        points = symmetrized.input_action.move_each(g, x).flatten(1)
        return Rows(points[:, None], moved.gather(1, g[:, None]), targets)

    @torch.no_grad()
    def loss(self, rows: Rows) -> Tensor:
        """The loss, its gradient left in ``gradient`` and in that of each parameter."""
        points, moved, targets = rows
        given = self._network.forward(points.flatten(0, 1))
        outputs = given[-1]
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient

        q_values = outputs.gather(1, moved.view(-1, 1)).view(moved.shape)  # Q(gs, ga)
        if self._lambda is not None:
            weights = self._lambda.weigh(*self._scores(outputs), given[-2])
        elif self._method.needs_scores:
            weights = shared_among_best(*self._scores(outputs)).t()
        else:  # `canonical` has one point left
            weights = torch.full_like(q_values[:1], 1 / moved.shape[1])
        symmetrized = (weights * q_values).sum(dim=1, keepdim=True)
        loss = F.smooth_l1_loss(symmetrized, targets)
        slope = (symmetrized - targets).clamp_(-1, 1).div_(len(targets))
        shares = weights * slope
        if self._lambda is not None:  # before the network's own, which overwrites the features
            self._lambda.backward(q_values, symmetrized, slope, shares)
        slopes = torch.zeros_like(outputs)
        slopes.scatter_(1, moved.view(-1, 1), shares.view(-1, 1))
        if self._method.needs_scores and self._method.is_hard:
            kept = weights.flatten().nonzero().squeeze(1)
            given = [part.index_select(0, kept) for part in given[:-1]]
            slopes = slopes.index_select(0, kept)
        self._network.backward(given, slopes)
        return loss

    def _scores(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """``[|G|, batch]`` and ``[batch]``, as `shared_among_best` takes them."""
        order, actions = self._symmetrized.order, outputs.shape[1]
        scores = outputs.amax(dim=1).view(-1, order).t()
        return scores, outputs.abs().view(-1, order * actions).amax(dim=1)


class _Lambda:
    """The weights of `LambdaWeighting`, and what the loss tells β and h."""

    def __init__(self, weighting: LambdaWeighting, h: Perceptron) -> None:
        self.weighting, self.h = weighting, h

    def weigh(self, scores: Tensor, scale: Tensor, features: Tensor) -> Tensor:
        """The weights ``[batch, |G|]``."""
        if self.weighting.training:
            self.weighting.measure_spread(scores)
        self._gaps = self.weighting.gaps(scores, scale).t()
        self._given = self.h.forward(features)
        beta = math.sinh(float(self.weighting.asinh_beta))
        logits = self._given[-1].view(self._gaps.shape).add(self._gaps, alpha=beta)
        self._soft = torch.softmax(logits, dim=1)
        self._is_soft = beta < INFINITE_BETA
        return self._soft if self._is_soft else shared_among_best(scores, scale).t()

    def backward(self, q_values: Tensor, mean: Tensor, slope: Tensor, shares: Tensor) -> None:
        """Write the gradients.

        Args:
            q_values: Q(gs, ga), ``[batch, |G|]``.
            mean: their mean under the weights, Q_G(s, a), ``[batch, 1]``.
            slope: ∂L/∂Q_G(s, a), ``[batch, 1]``.
            shares: the weights times the slope.
        """
        if not self._is_soft:
            mean, shares = (self._soft * q_values).sum(dim=1, keepdim=True), self._soft * slope
        slopes = shares * (q_values - mean)
        asinh_beta = self.weighting.asinh_beta
        assert asinh_beta.grad is not None
        by_beta = float(torch.dot(slopes.flatten(), self._gaps.flatten()))
        asinh_beta.grad.fill_(by_beta * math.cosh(float(asinh_beta)))
        self.h.backward(self._given, slopes.view(-1, 1))
