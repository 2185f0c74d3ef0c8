"""`Symmetrized`: any model M: X → Y made exactly equivariant. Knows nothing of RL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from equirl.actions import GroupAction
from equirl.errors import MethodError
from equirl.recording import is_recording
from equirl.symmetrize.contract import Method
from equirl.symmetrize.methods import resolve
from equirl.symmetrize.steps import Steps, as_weights, chosen_pairs, in_dtype
from equirl.symmetrize.structures import OutputAction, each_part, first, map_parts, parts
from equirl.symmetrize.weightings import Weights, largest_entry


class Symmetrized(Steps):
    """M_G(x) = Σ_g w_g(x) · g⁻¹M(gx), exactly equivariant for any model M: X → Y.

    ============  =====================================================  ===================
    method        λ(gx), with w_g(x) = λ(gx) / Σ_h λ(hx)                 source
    ============  =====================================================  ===================
    equitune      1                                                      arXiv 2210.06475
    lambda        exp(β · score(M(gx)) / σ + h(φ(gx))), β and h learned  arXiv 2305.09900
    equizero      1 for the g that maximise score(M(gx)), else 0         arXiv 2305.09900
    canonical     1 for the g that maximise c(gx), else 0; needs no M    arXiv 2211.06489
    relaxed       any of these; M_R = (1 − α(x)) M_G + α(x) M            after arXiv 2512.00915
    ============  =====================================================  ===================

    Maximisers share the weight equally; equal means equal up to rounding. For the group of order
    one the module *is* M. The steps `orbit`, `outputs`, `weights` and `combine` can be used alone;
    so an actor and a critic can share weights: ``actor(x, weights=critic.weights(x))``.

    Args:
        model: M, or what follows ``features``. A module is registered as a submodule ``model``; any
            other callable, such as a bound method, is only called. It may give a tuple or a dict of
            tensors.
        input_action: the group acting on X.
        output_action: the same group acting on Y; a tuple or dict of actions where M gives one.
        method: see the table; a name, or a `Method` with its options.
        features: φ, the first part of M, so that M(x) = model(features(x)); `lambda` and `relaxed`
            look at it (at the first where φ gives several tensors), and where it is left out at
            M(gx) itself.
        feature_dim: number of features of one input; `lambda` and `relaxed` need it.
        score: for `equizero` and `lambda`: maps what M gives for a batch, ``[rows, *Y]``, to
            ``[rows]``; by default the largest entry (max_a Q for Q-values). Must look at M(gx)
            alone. Where M gives several tensors it is called with all of them, and must be given.
        canonical_score: for `canonical`: c as ``[rows, *X] -> [rows]``; lexicographic order when
            left out. A module is registered and learns when ``gradient="straight_through"``.
            Of order one: single-precision scores closer than 1e-5 are equal.
        gradient: for the hard choices. ``"selected"`` (default): through the chosen branches only.
            ``"straight_through"``: the value of the choice, the gradient of the average over the
            orbit (weighted by softmax c where c is learned).
        init: where `lambda` starts: ``"equitune"`` (default) or ``"equizero"``.
        inner: for `relaxed`: the method that is let go of where the symmetry fails. α(x) is 0 until
            it learns (`RelaxedWeighting.loss`); where it is not, M_R is not equivariant.
        per_action: for `relaxed`: each entry of M(x), ``[batch, entries]``, has an α of its own;
            by default they share one. ``"auto"``: as `RelaxedWeighting` sees fit.
        orbit_samples: for `equitune`: while a gradient is being computed, the average is estimated,
            without bias, from this many elements of the orbit, drawn afresh for each x without
            replacement. Where there is no gradient the whole orbit counts. None: it always does.

    Raises:
        MethodError: an unknown method, an option that the method does not heed or a value that it
            cannot have, actions of different groups, or something the method needs is missing.

    Example:
        >>> from equirl.groups import cyclic
        >>> turns = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
        >>> turn = GroupAction.on_vectors(cyclic(3), permutations=turns)
        >>> model = Symmetrized(torch.nn.Linear(3, 3), turn, turn, method="equizero")
        >>> x = torch.randn(5, 3)
        >>> torch.allclose(model(turn.transform(1, x)), turn.transform(1, model(x)), atol=1e-6)
        True
    """

    def __init__(
        self,
        model: Callable[..., Any],
        input_action: GroupAction,
        output_action: OutputAction,
        method: str | Method = "equitune",
        *,
        features: Callable[[Any], Tensor] | None = None,
        feature_dim: int | None = None,
        score: Callable[[Any], Tensor] | None = None,
        canonical_score: Callable[[Any], Tensor] | None = None,
        gradient: str | None = None,
        init: str | None = None,
        inner: str | None = None,
        per_action: bool | str | None = None,
        orbit_samples: int | None = None,
    ) -> None:
        super().__init__()
        self.method = resolve(
            method,
            gradient=gradient,
            init=init,
            inner=inner,
            per_action=per_action,
            canonical_score=None if canonical_score is None else "learned",
            orbit_samples=orbit_samples,
        )
        if any(input_action.group != action.group for action in parts(output_action)):
            raise MethodError("input and output must be acted on by the same group")
        self.order = input_action.group.order
        self.model = model
        self.features = features
        self.input_action = input_action
        self.output_action: Any = output_action
        self.canonical_score = canonical_score
        self.score = score or largest_entry
        self.weighting = None
        if score is not None and not self.method.needs_scores:
            raise MethodError(f"score is for methods that weigh by it, got method={self.method}")
        if self.order > 1:
            self._check_needs(feature_dim, several=not isinstance(output_action, GroupAction))
            leaves = parts(output_action)[0].leaves
            if self.method.options.get("per_action") and any(len(one.shape) != 1 for one in leaves):
                shapes = ", ".join(str(one.shape) for one in leaves)
                raise MethodError(f"per_action is for outputs of one axis, got shape {shapes}")
            entries = sum(leaf.size for leaf in leaves)
            self.weighting = self.method.weighting(feature_dim or 0, entries)
            own = list(self.parameters())
            if self.weighting is not None and any(p.dtype == torch.float64 for p in own):
                self.weighting.double()  # as precise as the model

    def _check_needs(self, feature_dim: int | None, several: bool) -> None:
        name, method = self.method.name, self.method
        if method.needs_features and feature_dim is None:
            raise MethodError(f"{name} needs feature_dim, the number of features of one input")
        if method.needs_features and several and self.features is None:
            raise MethodError(f"{name} of a model with several outputs needs features")
        if method.needs_scores and several and self.score is largest_entry:
            raise MethodError(f"{name} of a model with several outputs needs a score of them")
        if method.scores_input and self.canonical_score is None:
            raise MethodError(f"{name} with a learned score needs canonical_score, a function")

    def forward(
        self,
        x: Any,
        weights: Weights | Tensor | None = None,
        scores: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """M_G(x), ``[batch, *X] -> [batch, *Y]``.

        Args:
            x: a tensor or a dict of tensors.
            weights: what `weights` or `fixed_weights` gave for these x, of this or of another
                model; computed here if left out. `with_chosen` spares moving x.
            scores: of every gx, ``[|G|, batch]``, in place of the method's own; a critic's, say.
            kwargs: passed on to the model as they are: the group does not move them, and they do
                not follow the rows, which are those of the orbits.
        """
        if self.order == 1:
            return self._run(x, kwargs)[0]
        if is_recording():
            return self._recorded(x, weights, scores, kwargs)
        learning = torch.is_grad_enabled()
        if weights is None and learning and self.method.drawn(self.order) < self.order:
            return self._average_of_sample(x, kwargs)
        if weights is None and scores is None and self.method.is_average:
            outputs, _ = self.outputs(x, **kwargs)
            return map_parts(lambda y: y.mean(dim=0), self.pull_back(outputs))
        if weights is None and self._looks_at_outputs(scores):
            # Chosen without a graph, only the chosen branch is run again with one: |G| + 3 forward
            # passes' worth of work instead of 3 |G|, as a backward pass costs about two.
            reruns = learning and self.method.is_hard and self.method.is_plain
            with torch.set_grad_enabled(learning and not reruns):
                outputs, features = self.outputs(x, **kwargs)
            weights = self.weights(x, outputs, features, scores=scores)
            if not reruns:
                return self.combine(outputs, weights)
        given = self.weights(x, scores=scores) if weights is None else as_weights(weights)
        if self.method.is_hard and (given.surrogate is None or not learning):
            return self._run_chosen(x, given, kwargs)
        return self.combine(self.outputs(x, **kwargs)[0], given)

    def _recorded(
        self, x: Any, weights: Weights | Tensor | None, scores: Tensor | None, kwargs: Any
    ) -> Any:
        """M_G(x) by the same operations for every x: a graph cannot choose what to run.

        Its gradient is that of the weights as they are, straight through or not.
        """
        if weights is None and self.method.is_fixed:
            # All elements that share the weight lead to one point, so one run of M will do.
            chosen = self.weights(x).values
            outputs, _ = self._run(self.input_action.move_each(chosen.argmax(dim=0), x), kwargs)
            outputs = map_parts(lambda y: y[None].expand(self.order, *y.shape), outputs)
            return self.combine(outputs, chosen)
        outputs, features = self.outputs(x, **kwargs)
        if weights is None:
            weights = self.weights(x, outputs, features, scores=scores)
        return self.combine(outputs, as_weights(weights).values)

    def _average_of_sample(self, x: Any, kwargs: Any) -> Any:
        like = first(x)
        batch, k = len(like), self.method.drawn(self.order)
        g = torch.rand(batch, self.order, device=like.device).topk(k, dim=1).indices.flatten()
        owner = torch.arange(batch, device=like.device).repeat_interleave(k)
        values = self._run_each(g, map_parts(lambda part: part.index_select(0, owner), x), kwargs)
        return map_parts(lambda y: y.view(batch, k, *y.shape[1:]).mean(dim=1), values)

    def _run_chosen(self, x: Any, given: Weights, kwargs: Any) -> Any:
        """Σ_g w_g(x) g⁻¹M(gx), running M only where w_g(x) > 0."""
        if given.chosen is not None:
            return self._run_at(*given.chosen, kwargs)
        weights = given.values
        batch = weights.shape[1]
        owner, g = chosen_pairs(weights)
        if len(owner) == batch:  # no ties: one chosen element for each x, in order
            return self._run_each(g, x, kwargs)

        def shared(y: Tensor) -> Tensor:
            shares = in_dtype(weights, y.dtype).transpose(0, 1)[owner, g]
            weighed = shares.view(-1, *[1] * (y.dim() - 1)) * y
            return y.new_zeros(batch, *y.shape[1:]).index_add(0, owner, weighed.to(y.dtype))

        points = map_parts(lambda part: part.index_select(0, owner), x)
        return map_parts(shared, self._run_each(g, points, kwargs))

    def _run_each(self, g: Tensor, x: Any, kwargs: Any) -> Any:
        """g⁻¹M(gx) row by row, ``[rows, *X] -> [rows, *Y]``."""
        return self._run_at(g, self.input_action.move_each(g, x), kwargs)

    def _run_at(self, g: Tensor, points: Any, kwargs: Any) -> Any:
        """g⁻¹M(gx) row by row, of the points gx."""
        outputs, _ = self._run(points, kwargs)
        return each_part(self.output_action, outputs, lambda action, y: action.pull_back_each(g, y))

    def extra_repr(self) -> str:
        return f"method={self.method}, |G|={self.order}"
