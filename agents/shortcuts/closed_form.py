"""`ClosedForm`: the loss of a symmetrized perceptron and its gradient, without autograd."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from equirl.agents.dqn.policies import EquivariantQNetwork
from equirl.agents.shortcuts.greedy import moved_actions
from equirl.agents.shortcuts.perceptron import Perceptron, is_unheard
from equirl.symmetrize.weightings import INFINITE_BETA, LambdaWeighting, shared_among_best


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


class ClosedForm:
    """The Huber loss l of the temporal-difference error of Q_G(s, a) = Σ_g w_g(s) Q(gs, ga).

    With e = l'(Q_G(s, a) − target) / batch its derivatives are

        ∂L/∂Q(gs, ga) = w_g(s) e,
        ∂L/∂ log λ(gs) = w_g(s) (Q(gs, ga) − Q_G(s, a)) e   for `lambda`,

    and 0 by all other Q-values, so that backwards `equizero` runs only what it chose.

    Args:
        q_net: the network.
        network: its layers.
        h: those of `LambdaWeighting`, or None.
    """

    def __init__(
        self, q_net: EquivariantQNetwork, network: Perceptron, h: Perceptron | None
    ) -> None:
        self.symmetrized = q_net.symmetrized
        weighting = self.symmetrized.weighting
        self._network = network
        self._lambda = None if weighting is None or h is None else _Lambda(weighting, h)
        self.parameters = list(q_net.parameters())
        first = self.parameters[0]
        # In one piece, so that its norm is one operation.
        self.gradient = first.new_empty(sum(p.numel() for p in self.parameters))
        parts = self.gradient.split_with_sizes([p.numel() for p in self.parameters])
        self._gradients = [
            part.view(p.shape) for part, p in zip(parts, self.parameters, strict=True)
        ]
        order = self.symmetrized.order
        self._moved = moved_actions(self.symmetrized.output_action).t().contiguous()
        self._equal = first.new_full((1, order), 1 / order)
        self._alone = first.new_ones(1, 1)

    @classmethod
    def of(cls, q_net: EquivariantQNetwork, optimizer: torch.optim.Optimizer) -> ClosedForm | None:
        """None where the network is not a perceptron on a CPU, or somebody listens to it.

        Nor where the optimizer moves other parameters than the network's.
        """
        symmetrized, weighting = q_net.symmetrized, q_net.symmetrized.weighting
        network = Perceptron.of(q_net.q_net)
        h = Perceptron.of(weighting.h) if type(weighting) is LambdaWeighting else None
        is_known = (
            type(q_net) is EquivariantQNetwork
            and type(q_net.features_extractor) is FlattenExtractor
            and symmetrized.method.is_plain
            and not symmetrized.method.scores_input
            and (weighting is None) == (h is None)
        )
        if network is None or not is_known or not all(map(is_unheard, q_net.modules())):
            return None
        parameters = list(q_net.parameters())
        moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
        kinds = {(p.device.type, p.dtype, p.requires_grad) for p in parameters}
        is_usual = kinds in ({("cpu", torch.float32, True)}, {("cpu", torch.float64, True)})
        if moved != set(map(id, parameters)) or not is_usual or any(map(_is_heard, parameters)):
            return None
        return cls(q_net, network, h)

    @torch.no_grad()
    def rows(
        self, observations: PyTorchObs, actions: Tensor, targets: Tensor, weights: Tensor | None
    ) -> Rows | None:
        """What the network is to be run on, which depends on no parameter.

        None where the observations are not plain vectors, or `canonical` has to share.
        """
        x, symmetrized = observations, self.symmetrized
        if not isinstance(x, Tensor) or not x.dtype == targets.dtype == self.gradient.dtype:
            return None
        moved = self._moved.index_select(0, actions.flatten().long())
        if not symmetrized.method.is_fixed:
            return Rows(
                symmetrized.input_action.orbit(x).transpose(0, 1).flatten(2), moved, targets
            )
        assert weights is not None
        g = weights.t().nonzero()[:, 1]
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
        for parameter, gradient in zip(self.parameters, self._gradients, strict=True):
            parameter.grad = gradient

        q_values = outputs.gather(1, moved.view(-1, 1)).view(moved.shape)  # Q(gs, ga)
        learned = None
        if moved.shape[1] == 1:
            weights = self._alone
        elif not self.symmetrized.method.needs_scores:
            weights = self._equal
        elif self._lambda is None:
            weights = shared_among_best(*self._scores(outputs)).t()
        else:
            learned = self._lambda.weigh(*self._scores(outputs), given[-2])
            weights = learned.weights
        symmetrized = (weights * q_values).sum(dim=1, keepdim=True)
        loss = F.smooth_l1_loss(symmetrized, targets)
        slope = (symmetrized - targets).clamp_(-1, 1).div_(len(targets))
        shares = weights * slope
        if learned is not None:  # before the network's own, which overwrites the features
            learned.backward(q_values, symmetrized, slope, shares)
        slopes = torch.zeros_like(outputs)
        slopes.scatter_(1, moved.view(-1, 1), shares.view(-1, 1))
        if self.symmetrized.method.is_hard and moved.shape[1] > 1:
            kept = weights.flatten().nonzero().squeeze(1)
            given = [part.index_select(0, kept) for part in given[:-1]]
            slopes = slopes.index_select(0, kept)
        self._network.backward(given, slopes)
        return loss

    def _scores(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """``[|G|, batch]`` and ``[batch]``, as `shared_among_best` takes them."""
        order, actions = self.symmetrized.order, outputs.shape[1]
        scores = outputs.amax(dim=1).view(-1, order).t()
        return scores, outputs.abs().view(-1, order * actions).amax(dim=1)


class _Lambda:
    """The weights of `LambdaWeighting`, and what the loss tells β and h."""

    weights: Tensor

    def __init__(self, weighting: LambdaWeighting, h: Perceptron) -> None:
        self.weighting, self.h = weighting, h

    def weigh(self, scores: Tensor, scale: Tensor, features: Tensor) -> _Lambda:
        """Leaves the weights ``[batch, |G|]`` in ``weights``."""
        if self.weighting.training:
            self.weighting.measure_spread(scores)
        self._gaps = self.weighting.gaps(scores, scale).t()
        self._given = self.h.forward(features)
        beta = math.sinh(float(self.weighting.asinh_beta))
        logits = self._given[-1].view(self._gaps.shape).add(self._gaps, alpha=beta)
        self._soft = self.weights = torch.softmax(logits, dim=1)
        self._is_soft = beta < INFINITE_BETA
        if not self._is_soft:
            self.weights = shared_among_best(scores, scale).t()
        return self

    def backward(self, q_values: Tensor, mean: Tensor, slope: Tensor, shares: Tensor) -> None:
        """Write the gradients.

        Args:
            q_values: Q(gs, ga), ``[batch, |G|]``.
            mean: their mean under ``weights``, Q_G(s, a), ``[batch, 1]``.
            slope: ∂L/∂Q_G(s, a), ``[batch, 1]``.
            shares: ``weights`` times the slope.
        """
        if not self._is_soft:
            mean, shares = (self._soft * q_values).sum(dim=1, keepdim=True), self._soft * slope
        slopes = shares * (q_values - mean)
        asinh_beta = self.weighting.asinh_beta
        assert asinh_beta.grad is not None
        by_beta = float(torch.dot(slopes.flatten(), self._gaps.flatten()))
        asinh_beta.grad.fill_(by_beta * math.cosh(float(asinh_beta)))
        self.h.backward(self._given, slopes.view(-1, 1))


def _is_heard(parameter: Tensor) -> bool:
    """Whether something of the user's own runs when its gradient is there."""
    return bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks)
