"""How much of a symmetry is let go of where: α(x) of `relaxed`, and what it learns from.

    M_R(x) = (1 − α(x)) M_G(x) + α(x) M(x)

M_G and M predict the same target y, and α learns what mixture of the two predicts it best, by a
loss of its own: at α = 0 the loss of M_R says nothing of M, and M nothing of where it should be 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equirl.symmetrize.structures import first, map_parts
from equirl.symmetrize.weightings import Weights, network_from_zero

if TYPE_CHECKING:
    from equirl.symmetrize.symmetrized import Symmetrized

KEPT_UP_TO, LET_GO_FROM = 0.25, 0.75
"""Evidence against the symmetry below which α is 0, and above which it is 1."""

PRIOR = 0.2
"""Where M is right and differs from M_G by d, p = d² / (d² + PRIOR (E[d²] + FLOOR E[r²]))."""

FLOOR = 0.3
"""What the error r of M_G counts for, beside the difference."""

PACE = 0.01
"""What the newest targets count for in the running means of error and difference."""

MARGIN = 0.02
"""Each entry has an evidence of its own where that saves more than MARGIN E[d²] of the error."""


class RelaxedWeighting(nn.Module):
    """α(x) = clamp((p(x) − ¼) / ½, 0, 1), with p(x) the evidence against the symmetry at x.

    p is a small network h of the model's own features of x, and begins as 0; so does α.

    There is one p(x) for all entries of M(x), or each has its own, p_i(x) = h_0(x) + h_i(x), or
    both are learned: then that of each counts as long as it predicts better than the other what
    neither has learned from yet, by a margin, and the one for all else and at the start.

    Args:
        feature_dim: number of features of one input.
        inner: what the method that is relaxed learns, or None.
        entries: of M(x), where each may have an evidence of its own; None: none has.
        chooses: learn both kinds.
        hidden: width of h.
    """

    running_error: Tensor
    running_gap: Tensor
    running_gain: Tensor

    def __init__(
        self,
        feature_dim: int,
        inner: nn.Module | None,
        entries: int | None = None,
        chooses: bool = False,
        hidden: int = 32,
    ) -> None:
        super().__init__()
        self.inner = inner
        self.is_shared = entries is None
        self.chooses = chooses and not self.is_shared
        # Of all entries together, and of each: what they share comes first, then what each adds.
        outputs = 1 if entries is None else 1 + entries + self.chooses
        self.h = network_from_zero(feature_dim, hidden, outputs)
        # Zero until measured. Target networks are given what is named running_, as in batch norm.
        for name in ("error", "gap", *(["gain"] if self.chooses else [])):
            self.register_buffer(f"running_{name}", torch.zeros(()))

    def candidates(self, features: Tensor) -> tuple[Tensor, ...]:
        """What may be p(x) of the features of x, ``[batch, feature_dim]``, without their graph.

        Returns:
            p(x) of all entries together, ``[batch]``, or of each, ``[batch, entries]``, or both.
        """
        found: Tensor = self.h(features.detach())
        if self.is_shared:
            return (found[:, 0],)
        if not self.chooses:
            return (found[:, :1] + found[:, 1:],)
        return found[:, 0], found[:, 1:2] + found[:, 2:]

    def evidence(self, features: Tensor) -> Tensor:
        """p(x) of the features of x, ``[batch, feature_dim]``, without their graph.

        Returns:
            ``[batch]``, or ``[batch, entries]`` where each entry of M(x) may have its own.
        """
        return self.chosen(self.candidates(features))

    def chosen(self, candidates: Sequence[Tensor]) -> Tensor:
        """The p(x) that counts, of what `candidates` gave."""
        if not self.chooses:
            return candidates[0]
        of_all, of_each = candidates
        return torch.where(self.is_by_entry, of_each, of_all[:, None])

    @property
    def is_by_entry(self) -> Tensor:
        """Of both kinds, whether that of each entry of M(x) counts, a scalar of bool."""
        return self.running_gain > MARGIN * self.running_gap

    def loss(
        self, candidates: Sequence[Tensor], symmetric: Tensor, plain: Tensor, target: Tensor
    ) -> Tensor:
        """What p(x) learns from, a scalar: the best mixture of M_G(x) and M(x), and a prior.

        With l the Huber loss, ē and d̄ running means of l(M_G(x) − y) and of l(M(x) − M_G(x)),

            L = mean of l(M_G(x) + p (M(x) − M_G(x)) − y) / ē + κ p²,
            κ = PRIOR (d̄ / ē + FLOOR),

        of which the minimum, where l is quadratic, is with r = y − M_G(x) and d = M(x) − M_G(x)

            p = E[r d | x] / (E[d² | x] + PRIOR (E[d²] + FLOOR E[r²])):

        about 1 where M knows what M_G does not, and 0 where they differ by noise, or by little
        beside what they usually differ by, or everywhere by little beside the usual error, as where
        the symmetry is exact. M_G and M must not have been trained on these y: on those, M is
        always the better, as it fits noise as well.

        Of two candidates each has this loss; by how much less l is for the second is remembered,
        a running mean, as the p(x) that counts depends on it (`is_by_entry`).

        Args:
            candidates: what may be p(x), each ``[batch]``: see the method of this name. Of p(x) of
                each entry that of the one entry that there is a target for.
            symmetric: M_G(x), ``[batch, …]``; no gradient reaches it. Of a model with several
                outputs what there is a target for, as of an actor and a critic the value.
            plain: M(x), alike.
            target: y, alike.
        """
        symmetric, plain = symmetric.detach(), plain.detach()
        errors = [F.smooth_l1_loss(_mixed(symmetric, plain, p), target) for p in candidates]
        if self.training:
            with torch.no_grad():
                is_first = self.running_error == 0
                error, gap = error_and_gap(symmetric, plain, target)
                for running, now in ((self.running_error, error), (self.running_gap, gap)):
                    running.copy_(torch.where(is_first, now, running.lerp(now, PACE)))
                if self.chooses:  # slowly, as the two differ by little beside the noise
                    self.running_gain.lerp_(errors[0] - errors[1], 0.002)
        losses = [
            error / self._unit + self.prior * p.square().mean()
            for error, p in zip(errors, candidates, strict=True)
        ]
        return torch.stack(losses).sum()

    @property
    def prior(self) -> Tensor:
        """κ, a scalar: see `loss`."""
        return PRIOR * (self.running_gap / self._unit + FLOOR)

    @property
    def _unit(self) -> Tensor:
        return self.running_error.clamp(min=1e-12)


def error_and_gap(symmetric: Tensor, plain: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The means of l(M_G(x) − y) and of l(M(x) − M_G(x)), l the Huber loss."""
    return F.smooth_l1_loss(symmetric, target), F.smooth_l1_loss(plain, symmetric)


def let_go(evidence: Tensor) -> Tensor:
    """α of the evidence against the symmetry, in [0, 1]."""
    return ((evidence - KEPT_UP_TO) / (LET_GO_FROM - KEPT_UP_TO)).clamp(0, 1)


class RelaxedWeights(NamedTuple):
    """What the weights of a relaxed method are made of.

    Args:
        kept: w_g(x) of the method where α = 0, ``[|G|, batch]``.
        evidence: p(x), ``[batch]`` or ``[batch, entries]``.
        candidates: what it was chosen from, which the loss of α asks for.
    """

    kept: Weights
    evidence: Tensor
    candidates: tuple[Tensor, ...]

    @property
    def weights(self) -> Weights:
        """(1 − α) w_g + α [g = e]; nothing is learned through α, which has a loss of its own."""
        alpha = let_go(self.evidence.detach())

        def relaxed(values: Tensor) -> Tensor:
            of_all = values.view(*values.shape, *[1] * (alpha.dim() - 1))
            kept = of_all * (1 - alpha).to(values.dtype)
            return torch.cat([kept[:1] + alpha.to(values.dtype), kept[1:]])

        surrogate = None if self.kept.surrogate is None else relaxed(self.kept.surrogate)
        return Weights(relaxed(self.kept.values), surrogate)


class Relaxation(NamedTuple):
    """What a relaxed model is made of.

    Args:
        symmetric: M_G(x), ``[batch, *Y]``.
        plain: M(x), alike.
        evidence: p(x), ``[batch]`` or ``[batch, entries]``.
        candidates: what it was chosen from, which the loss of α asks for.
    """

    symmetric: Any
    plain: Any
    evidence: Tensor
    candidates: tuple[Tensor, ...]

    @property
    def alpha(self) -> Tensor:
        """α(x), like the evidence."""
        return let_go(self.evidence)

    @property
    def value(self) -> Any:
        """M_R(x); nothing is learned through α, which has a loss of its own."""
        alpha = self.alpha.detach()
        return map_parts(lambda a, b: _mixed(a, b, alpha), self.symmetric, self.plain)


def _mixed(symmetric: Tensor, plain: Tensor, share: Tensor) -> Tensor:
    share = share.to(plain.dtype).view(*share.shape, *[1] * (plain.dim() - share.dim()))
    return symmetric + share * (plain - symmetric)


def relaxation(
    symmetrized: Symmetrized,
    x: Any,
    outputs: Any = None,
    features: Any = None,
    scores: Tensor | None = None,
    scale: Tensor | None = None,
) -> Relaxation:
    """M_G(x), M(x) and the evidence, of a model with ``method="relaxed"``, by one forward pass.

    Args:
        symmetrized: the model.
        x: ``[batch, *X]``.
        outputs: as `Symmetrized.weights` takes them; and so those that follow.
        features: see there.
        scores: see there.
        scale: see there.
    """
    method: Any = symmetrized.method
    if outputs is None:
        outputs, features = symmetrized.outputs(x)
    orbit = symmetrized.looked_at(x, outputs, features, scores, scale)
    parts = method.parts(orbit, symmetrized.weighting)
    plain = map_parts(lambda part: part[0], outputs)
    symmetric = symmetrized.combine(outputs, parts.kept)
    return Relaxation(symmetric, plain, parts.evidence, parts.candidates)


def alpha_of(symmetrized: Symmetrized, x: Any) -> Tensor:
    """α(x) of a model with ``method="relaxed"``, which runs at x alone.

    Returns:
        ``[batch]``, or ``[batch, entries]`` where each entry of M(x) has its own.
    """
    run: Any = symmetrized.model if symmetrized.features is None else symmetrized.features
    weighting: RelaxedWeighting = symmetrized.weighting
    return let_go(weighting.evidence(first(run(x)).flatten(1)))
