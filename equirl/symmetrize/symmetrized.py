"""`Symmetrized`: any model M: X → Y made exactly equivariant. Knows nothing of RL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from equirl.actions import GroupAction
from equirl.symmetrize.lexicographic import largest_points
from equirl.symmetrize.weightings import (
    LambdaWeighting,
    largest_entry,
    magnitude,
    shared_among_best,
)

Method = Literal["equitune", "lambda", "equizero", "canonical"]
Gradient = Literal["selected", "straight_through"]
Init = Literal["equitune", "equizero"]

RERUN_ORDER = 2
"""From this |G| on, equizero chooses without a graph and runs only the chosen element with one:
|G| + 3 forward passes' worth of work instead of 3 |G| (a backward pass costs about two)."""


class Branches(NamedTuple):
    """What `Symmetrized` combines.

    Args:
        values: g⁻¹M(gx), ``[|G|, batch, *Y]``.
        weights: w_g(x), ``[|G|, batch]``; columns sum to one.
    """

    values: Tensor
    weights: Tensor


class Symmetrized(nn.Module):
    """M_G(x) = Σ_g w_g(x) · g⁻¹M(gx), exactly equivariant for any model M: X → Y.

    ============  =====================================================  ===================
    method        λ(gx), with w_g(x) = λ(gx) / Σ_h λ(hx)                 source
    ============  =====================================================  ===================
    equitune      1                                                      arXiv 2210.06475
    lambda        exp(β · score(M(gx)) / σ + h(φ(gx))), β and h learned  arXiv 2305.09900
    equizero      1 for the g that maximise score(M(gx)), else 0         arXiv 2305.09900
    canonical     1 for the g that maximise c(gx), else 0; needs no M    arXiv 2211.06489
    ============  =====================================================  ===================

    Maximisers share the weight equally; equal means equal up to rounding. The whole orbit goes
    through M as one batch. For the group of order one the module *is* M.

    Args:
        model: M, or what follows ``features``. A module is registered as a submodule ``model``; any
            other callable, such as a bound method, is only called.
        input_action: the group acting on X.
        output_action: the same group acting on Y.
        method: see the table.
        features: φ, the first part of M, so that M(x) = model(features(x)); only `lambda` looks at
            it. Left out, λ looks at M(gx) itself.
        feature_dim: number of features of one input; `lambda` needs it.
        score: for `equizero` and `lambda`: ``[rows, *Y] -> [rows]``, by default the largest entry
            (max_a Q for Q-values). Must look at M(gx) alone.
        canonical_score: for `canonical`: c as ``[rows, *X] -> [rows]``; lexicographic order when
            left out. A module is registered and learns when ``gradient="straight_through"``.
            Of order one: single-precision scores closer than 1e-5 are equal.
        gradient: for the hard choices. ``"selected"``: through the chosen branches only.
            ``"straight_through"``: the value of the choice, the gradient of the average over the
            orbit (weighted by softmax c where c is learned).
        init: where `lambda` starts: ``"equitune"`` or ``"equizero"``.
        orbit_samples: for `equitune`: while a gradient is being computed, the average is estimated,
            without bias, from so many elements of the orbit, drawn afresh for each x without
            replacement. Where there is no gradient the whole orbit counts. None: it always does.

    Raises:
        ValueError: an unknown method, gradient or init, actions of different groups, `lambda`
            without ``feature_dim``, or ``orbit_samples`` for another method or below one.

    Example:
        >>> from equirl.groups import cyclic
        >>> turns = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
        >>> turn = GroupAction.on_vectors(cyclic(3), permutations=turns)
        >>> model = Symmetrized(nn.Linear(3, 3), turn, turn, method="equizero")
        >>> x = torch.randn(5, 3)
        >>> torch.allclose(model(turn.transform(1, x)), turn.transform(1, model(x)), atol=1e-6)
        True
    """

    def __init__(
        self,
        model: Callable[[Any], Tensor],
        input_action: GroupAction,
        output_action: GroupAction,
        method: Method = "equitune",
        *,
        features: Callable[[Any], Tensor] | None = None,
        feature_dim: int | None = None,
        score: Callable[[Tensor], Tensor] = largest_entry,
        canonical_score: Callable[[Any], Tensor] | None = None,
        gradient: Gradient = "selected",
        init: Init = "equitune",
        orbit_samples: int | None = None,
    ) -> None:
        super().__init__()
        if orbit_samples is not None and (method != "equitune" or orbit_samples < 1):
            raise ValueError(
                f"orbit_samples must be at least 1 and is for equitune, got {orbit_samples} for "
                f"{method}"
            )
        for name, given, known in (
            ("method", method, get_args(Method)),
            ("gradient", gradient, get_args(Gradient)),
            ("init", init, get_args(Init)),
        ):
            if given not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {given!r}")
        if input_action.group != output_action.group:
            raise ValueError("input and output must be acted on by the same group")
        self.order = input_action.group.order
        self.model = model
        self.features = features
        self.input_action = input_action
        self.output_action = output_action
        self.method = method
        self.score = score
        self.canonical_score = canonical_score
        self.gradient = gradient
        self.orbit_samples = min(orbit_samples or self.order, self.order)
        self.weighting: LambdaWeighting | None = None
        if method == "lambda" and self.order > 1:
            if feature_dim is None:
                raise ValueError("lambda needs feature_dim, the number of features of one input")
            self.weighting = LambdaWeighting(feature_dim, init)
        self._combine = {
            "equitune": self._average,
            "lambda": self._weigh,
            "equizero": self._choose_by_output,
            "canonical": self._choose_by_input,
        }[method]

    def forward(self, x: Any, weights: Tensor | None = None) -> Tensor:
        """M_G(x), ``[batch, *X] -> [batch, *Y]``.

        Args:
            x: a tensor or a dict of tensors.
            weights: what `fixed_weights` gave for these x; computed here if left out.
        """
        if self.order == 1:
            return self._run(x)[0]
        if weights is not None:
            return self._run_chosen(x, weights)
        return self._combine(x)

    def fixed_weights(self, x: Any) -> Tensor | None:
        """The weights ``[|G|, batch]`` where they depend on x alone and on no parameter, else None.

        So it is with `canonical` and a fixed order. Whoever meets the same x again can keep them.
        """
        fixed = self.method == "canonical" and self.canonical_score is None and self.order > 1
        selects = self.gradient == "selected"
        return largest_points(x, self.input_action) if fixed and selects else None

    @torch.no_grad()
    def branches(self, x: Any) -> Branches:
        """The branches of M_G(x) and their weights, for looking at (no gradient)."""
        if self.order == 1:
            y = self._run(x)[0]
            return Branches(y[None], torch.ones(1, len(y), dtype=y.dtype, device=y.device))
        outputs, features = self.outputs(x)
        scores, scale = self._scores(outputs)
        if self.method == "equitune":
            weights = torch.full_like(scores, 1 / self.order)
        elif self.weighting is not None:
            weights = self.weighting(scores, scale, features)
        elif self.method == "equizero":
            weights = shared_among_best(scores, scale)
        else:
            weights = self._canonical_weights(x)[0].to(outputs.dtype)
        return Branches(self.output_action.pull_back(outputs), weights)

    def _average(self, x: Any) -> Tensor:
        if self.orbit_samples < self.order and torch.is_grad_enabled():
            return self._average_of_sample(x)
        values: Tensor = self.output_action.pull_back(self.outputs(x)[0])
        return values.mean(dim=0)

    def _average_of_sample(self, x: Any) -> Tensor:
        first = next(iter(x.values())) if isinstance(x, dict) else x
        batch, k = len(first), self.orbit_samples
        g = torch.rand(batch, self.order, device=first.device).topk(k, dim=1).indices.flatten()
        owner = torch.arange(batch, device=first.device).repeat_interleave(k)
        outputs, _ = self._run(self.input_action.move_each(g, _select(x, owner)))
        values = self.output_action.pull_back_each(g, outputs)
        return values.view(batch, k, *values.shape[1:]).mean(dim=1)

    def _weigh(self, x: Any) -> Tensor:
        assert self.weighting is not None
        outputs, features = self.outputs(x)
        weights = self.weighting(*self._scores(outputs), features)
        return _weighted_sum(weights, self.output_action.pull_back(outputs))

    def _choose_by_output(self, x: Any) -> Tensor:
        learning = torch.is_grad_enabled()
        rerun = learning and self.gradient == "selected" and self.order >= RERUN_ORDER
        with torch.set_grad_enabled(learning and not rerun):
            outputs, _ = self.outputs(x)
            weights = shared_among_best(*self._scores(outputs.detach()))
        if rerun:
            return self._run_chosen(x, weights)
        return self._combined(weights, outputs, None)

    def _choose_by_input(self, x: Any) -> Tensor:
        weights, surrogate = self._canonical_weights(x)
        if self.gradient == "selected" or not torch.is_grad_enabled():
            return self._run_chosen(x, weights)
        outputs, _ = self.outputs(x)
        return self._combined(weights.to(outputs.dtype), outputs, surrogate)

    def _combined(self, weights: Tensor, outputs: Tensor, surrogate: Tensor | None) -> Tensor:
        """The choice, with the gradient of the surrogate weights where that is asked for."""
        values = self.output_action.pull_back(outputs)
        chosen = _weighted_sum(weights, values)
        if self.gradient == "selected" or not torch.is_grad_enabled():
            return chosen
        smooth = values.mean(dim=0) if surrogate is None else _weighted_sum(surrogate, values)
        return chosen.detach() + (smooth - smooth.detach())

    def _canonical_weights(self, x: Any) -> tuple[Tensor, Tensor | None]:
        """The choice by c(gx), and the weights whose gradient stands in for it: None, all equal."""
        if self.canonical_score is None:
            return largest_points(x, self.input_action), None
        rows = self.canonical_score(_rows(self.input_action.orbit(x)))
        scores = rows.view(-1, self.order).transpose(0, 1)
        fixed = scores.detach()
        # Where c happens to be near zero, the numbers that it was computed from are not.
        size = magnitude(fixed).clamp(min=1)
        return shared_among_best(fixed, size), torch.softmax(scores, dim=0)

    def outputs(self, x: Any) -> tuple[Tensor, Tensor]:
        """M and its features along the orbit, ``[|G|, batch, …]``, in one forward pass."""
        outputs, features = self._run(_rows(self.input_action.orbit(x)))
        if self.weighting is None:  # nobody looks at the features
            return _unrows(outputs, self.order), outputs
        return _unrows(outputs, self.order), _unrows(features.flatten(1), self.order)

    def _run(self, rows: Any) -> tuple[Tensor, Tensor]:
        if self.features is None:
            outputs = self.model(rows)
            return outputs, outputs
        features = self.features(rows)
        return self.model(features), features

    def _run_chosen(self, x: Any, weights: Tensor) -> Tensor:
        """Σ_g w_g(x) g⁻¹M(gx), running M only where w_g(x) > 0."""
        batch = weights.shape[1]
        places = weights.transpose(0, 1).nonzero()
        owner, g = places[:, 0], places[:, 1]
        alone = len(owner) == batch  # no ties: one chosen element for each x, in order
        points = x if alone else _select(x, owner)
        outputs, _ = self._run(self.input_action.move_each(g, points))
        values = self.output_action.pull_back_each(g, outputs)
        if alone:
            return values
        chosen = (weights != 0).to(values.dtype)  # weights may be coarser than the values are
        shares = (chosen / chosen.sum(dim=0)).transpose(0, 1)[owner, g]
        combined = values.new_zeros(batch, *values.shape[1:])
        return combined.index_add(0, owner, shares.view(-1, *[1] * (values.dim() - 1)) * values)

    def _scores(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[|G|, batch]`` of M along the orbit, and the size of what they came from."""
        rows = outputs.transpose(0, 1).flatten(0, 1)
        scores = _unrows(self.score(rows), self.order)
        size = magnitude(outputs)
        if self.score is not largest_entry:  # which is never larger than the outputs
            size = torch.maximum(size, magnitude(scores))
        return scores, size

    def extra_repr(self) -> str:
        return f"method={self.method}, |G|={self.order}, gradient={self.gradient}"


def _weighted_sum(weights: Tensor, values: Tensor) -> Tensor:
    return (weights.view(*weights.shape, *[1] * (values.dim() - 2)) * values).sum(dim=0)


def _rows(orbit: Any) -> Any:
    """``[|G|, batch, …] -> [batch · |G|, …]``; no copy, as orbits lie batch first in memory."""
    if isinstance(orbit, dict):
        return {key: _rows(part) for key, part in orbit.items()}
    return orbit.transpose(0, 1).flatten(0, 1)


def _unrows(rows: Tensor, order: int) -> Tensor:
    return rows.view(-1, order, *rows.shape[1:]).transpose(0, 1)


def _select(rows: Any, chosen: Tensor) -> Any:
    if isinstance(rows, dict):
        return {key: _select(part, chosen) for key, part in rows.items()}
    return rows.index_select(0, chosen)
