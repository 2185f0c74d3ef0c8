"""The steps of `Symmetrized`, each of which can be used alone: orbit, outputs, weights, combine."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from equirl.actions import GroupAction
from equirl.errors import MethodError
from equirl.symmetrize.contract import Method, Orbit
from equirl.symmetrize.structures import each_part, first, map_parts, parts
from equirl.symmetrize.weightings import Chosen, Weights, largest_entry, magnitude


class Branches(NamedTuple):
    """What `Symmetrized` combines.

    Args:
        values: g⁻¹M(gx), ``[|G|, batch, *Y]``; a tuple or dict of them where M gives several.
        weights: w_g(x), ``[|G|, batch]``; columns sum to one.
    """

    values: Any
    weights: Tensor


class Steps(nn.Module):
    """What `Symmetrized` is made of; it says what its attributes are."""

    method: Method
    order: int
    model: Callable[..., Any]
    features: Callable[[Any], Tensor] | None
    input_action: GroupAction
    output_action: Any
    canonical_score: Callable[[Any], Tensor] | None
    score: Callable[[Any], Tensor]

    weighting: Any
    """What the method has to learn, a module such as `LambdaWeighting`, or None."""

    def orbit(self, x: Any) -> Any:
        """The points gx, ``[batch, *X] -> [|G|, batch, *X]``."""
        return self.input_action.orbit(x)

    def along_orbit(self, function: Callable[[Any], Any], x: Any) -> Any:
        """Any function of inputs, ``[rows, *X] -> [rows, …]``, of every gx: ``[|G|, batch, …]``."""
        return map_parts(self._unrows, function(map_parts(_rows, self.orbit(x))))

    def outputs(self, x: Any, **kwargs: Any) -> tuple[Any, Any]:
        """M and its features along the orbit, ``[|G|, batch, …]``, in one forward pass.

        Where the method does not look at features, the outputs stand in their place.
        """
        outputs, features = self._run(map_parts(_rows, self.orbit(x)), kwargs)
        outputs = map_parts(self._unrows, outputs)
        if not self.method.needs_features:
            return outputs, outputs
        return outputs, map_parts(lambda part: self._unrows(part.flatten(1)), features)

    def weights(
        self,
        x: Any,
        outputs: Any = None,
        features: Any = None,
        *,
        scores: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Weights:
        """The weights w_g(x) of every branch.

        Args:
            x: ``[batch, *X]``.
            outputs: of the model, and ``features``, as `outputs` gives them; the model is run here
                if they are left out and needed.
            features: see ``outputs``.
            scores: of every gx, ``[|G|, batch]``, in place of the method's own. May depend on gx
                alone.
            scale: ``[batch]``, the size of the numbers they were computed from, by which ties are
                told; left out, that of the largest score of each orbit.

        Raises:
            MethodError: scores for a method that does not weigh by scores.
        """
        method = self.method
        if scores is not None and not method.takes_scores:
            raise MethodError(f"scores are for methods that weigh by them, got method={method}")
        if outputs is None and self._looks_at_outputs(scores):
            outputs, features = self.outputs(x)
        return method.weights(self.looked_at(x, outputs, features, scores, scale), self.weighting)

    def looked_at(
        self,
        x: Any,
        outputs: Any = None,
        features: Any = None,
        scores: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> Orbit:
        """What the method weighs by; arguments as `weights` takes them."""
        method = self.method
        if scores is None and method.needs_scores:
            scores, scale = self.scores(outputs)
        elif scores is None and method.scores_input:
            scores, scale = self._input_scores(x)
        elif scores is not None and scale is None:
            scale = magnitude(scores)
        like = first(x) if outputs is None else first(outputs)[0]
        if not like.is_floating_point():
            like = like.to(torch.get_default_dtype())
        own = None if features is None else first(features)
        return Orbit(x, self.input_action, like, scores, scale, own)

    def with_chosen(self, x: Any, weights: Weights) -> Weights:
        """The same weights; where one g counts alone for every x, with it and gx (`Chosen`)."""
        _, g = chosen_pairs(weights.values)
        if len(g) != weights.values.shape[1]:
            return weights
        return weights._replace(chosen=Chosen(g, self.input_action.move_each(g, x)))

    def combine(self, outputs: Any, weights: Weights | Tensor) -> Any:
        """Σ_g w_g(x) · g⁻¹M(gx), ``[|G|, batch, *Y] -> [batch, *Y]``.

        Where the weights have a surrogate the value is theirs, and the gradient the surrogate's.
        """
        weights, values = as_weights(weights), self.pull_back(outputs)
        chosen = _weighted_sum(weights.values, values)
        if weights.surrogate is None or not torch.is_grad_enabled():
            return chosen
        smooth = _weighted_sum(weights.surrogate, values)
        return map_parts(lambda hard, soft: hard.detach() + (soft - soft.detach()), chosen, smooth)

    def pull_back(self, outputs: Any) -> Any:
        """The branches g⁻¹M(gx) of M(gx), ``[|G|, batch, *Y]`` in and out."""
        return each_part(self.output_action, outputs, lambda action, y: action.pull_back(y))

    def fixed_weights(self, x: Any) -> Tensor | None:
        """The weights ``[|G|, batch]`` where they depend on x alone and on no parameter, else None.

        So it is with `canonical` and a fixed order. Whoever meets the same x again can keep them.
        """
        is_fixed = self.method.is_fixed and self.method.is_plain and self.order > 1
        return self.weights(x).values if is_fixed else None

    @torch.no_grad()
    def branches(self, x: Any, **kwargs: Any) -> Branches:
        """The branches of M_G(x) and their weights, for looking at (no gradient)."""
        if self.order == 1:
            y = self._run(x, kwargs)[0]
            like = first(y)
            weights = torch.ones(1, len(like), dtype=like.dtype, device=like.device)
            return Branches(map_parts(lambda part: part[None], y), weights)
        outputs, features = self.outputs(x, **kwargs)
        weights = self.weights(x, outputs, features).values
        return Branches(self.pull_back(outputs), in_dtype(weights, first(outputs).dtype))

    def scores(self, outputs: Any) -> tuple[Tensor, Tensor]:
        """The method's own scores of M along the orbit, and the size of what they came from.

        Args:
            outputs: as `outputs` gives them.

        Returns:
            ``[|G|, batch]`` and ``[batch]``, see `weights`.
        """
        scores = self._unrows(self.score(map_parts(_rows, outputs)))
        size = reduce(torch.maximum, map(magnitude, parts(outputs)))
        if self.score is not largest_entry:  # which is never larger than the outputs
            size = torch.maximum(size, magnitude(scores))
        return scores, size

    def _input_scores(self, x: Any) -> tuple[Tensor, Tensor]:
        assert self.canonical_score is not None
        scores = self._unrows(self.canonical_score(map_parts(_rows, self.orbit(x))))
        # Where c happens to be near zero, the numbers that it was computed from are not.
        return scores, magnitude(scores).clamp(min=1)

    def _unrows(self, rows: Tensor) -> Tensor:
        """``[batch · |G|, …] -> [|G|, batch, …]``, the inverse of `_rows`."""
        return rows.view(-1, self.order, *rows.shape[1:]).transpose(0, 1)

    def _looks_at_outputs(self, scores: Tensor | None) -> bool:
        """Whether M runs along the orbit before there are weights."""
        return self.method.needs_features or (self.method.needs_scores and scores is None)

    def _run(self, rows: Any, kwargs: Any) -> tuple[Any, Any]:
        if self.features is None:
            outputs = self.model(rows, **kwargs)
            return outputs, outputs
        features = self.features(rows)
        return self.model(features, **kwargs), features


def as_weights(weights: Weights | Tensor) -> Weights:
    return Weights(weights) if isinstance(weights, Tensor) else weights


def chosen_pairs(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Every x whose branch g has a weight ``[|G|, batch]`` above 0, by number, and that g."""
    owner, g = weights.transpose(0, 1).nonzero().unbind(dim=1)
    return owner, g


def _weighted_sum(weights: Tensor, values: Any) -> Any:
    """Σ_g w_g(x) · v_g(x) in the dtype of the values.

    Args:
        weights: ``[|G|, batch]``, or ``[|G|, batch, entries]`` where each entry has its own.
        values: ``[|G|, batch, …]``.
    """

    def of(part: Tensor) -> Tensor:
        shares = in_dtype(weights, part.dtype)
        shares = shares.view(*shares.shape, *[1] * (part.dim() - shares.dim()))
        return (shares * part).sum(dim=0).to(part.dtype)

    return map_parts(of, values)


def in_dtype(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights as values of a dtype need them: as precise as these, columns summing to one."""
    if weights.dtype == dtype:
        return weights
    precise = weights.to(torch.promote_types(dtype, torch.float32))
    return precise / precise.sum(dim=0)


def _rows(orbit: Tensor) -> Tensor:
    """``[|G|, batch, …] -> [batch · |G|, …]``; no copy, as orbits lie batch first in memory."""
    return orbit.transpose(0, 1).flatten(0, 1)
