"""How much each branch g⁻¹M(gx) of an orbit counts: the weights w_g(x) of `equirl.Symmetrized`.

Every weighting looks at gx alone (at M(gx), at its features, or at gx itself), never at the number
of g, so that moving x only permutes the weights along the orbit. That is all that equivariance
needs: M_G(x) = Σ_g w_g(x) · g⁻¹M(gx), w_g(x) = λ(gx) / Σ_h λ(hx).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from equirl.recording import is_recording

TIE_TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}
"""Relative difference below which two scores are equal: the same input may round differently in
different rows of a batch, and a tie that is broken by rounding breaks equivariance."""

PRECISE = (torch.float32, torch.float64)
"""Dtypes that are precise enough for weights such as one third."""

INFINITE_BETA = 20.0
"""From this β on, in units of the typical spread of scores along an orbit, λ is equizero."""


class Chosen(NamedTuple):
    """The one element for each x that counts alone, where there is one.

    Args:
        g: its number, ``[batch]``.
        points: gx, ``[batch, *X]``.
    """

    g: Tensor
    points: Any


class Weights(NamedTuple):
    """How much each branch counts.

    Args:
        values: w_g(x), ``[|G|, batch]``; columns sum to one.
        surrogate: weights of the same shape whose weighted sum lends its gradient to that of a hard
            choice (straight through); None where the gradient is that of ``values`` themselves.
        chosen: where one element counts alone for every x, and somebody has moved x by it already,
            so that several models need not do it again.
    """

    values: Tensor
    surrogate: Tensor | None = None
    chosen: Chosen | None = None


def shared_among_best(scores: Tensor, scale: Tensor) -> Tensor:
    """Weights that the maximisers share equally: the arg max with ties kept whole.

    Args:
        scores: ``[|G|, batch]``.
        scale: ``[batch]``, the size of the numbers the scores were computed from; scores closer
            than `TIE_TOLERANCE` of it are equal.

    Returns:
        ``[|G|, batch]``, each column summing to one.
    """
    tolerance = TIE_TOLERANCE[scores.dtype] * scale
    chosen = (scores >= scores.amax(dim=0) - tolerance).to(scores.dtype)
    return chosen / chosen.sum(dim=0)


def largest_entry(outputs: Tensor) -> Tensor:
    """``[rows, *shape] -> [rows]``: max_a Q(gs, a), equizero's score unless another is given."""
    return outputs.flatten(1).amax(dim=1)


def magnitude(outputs: Tensor) -> Tensor:
    """``[|G|, batch, *shape] -> [batch]``: the largest absolute value along each orbit."""
    return outputs.detach().abs().transpose(0, 1).flatten(1).amax(dim=1)


def score_spread(scores: Tensor) -> Tensor:
    """How much scores ``[|G|, batch]`` differ along an orbit: the root of their mean variance."""
    centred = scores - scores.mean(dim=0)
    # torch.var takes twice the time.
    spread: Tensor = torch.linalg.vector_norm(centred) / math.sqrt(centred.numel())
    return spread


def network_from_zero(feature_dim: int, hidden: int, outputs: int = 1) -> nn.Sequential:
    """A small network, ``[rows, feature_dim] -> [rows, outputs]``, that gives 0 at the start."""
    # A generator of its own state: building it must not shift the model's own initialisation.
    with torch.random.fork_rng(devices=[]):
        first, last = nn.Linear(feature_dim, hidden), nn.Linear(hidden, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(first, nn.ReLU(), last)


class LambdaWeighting(nn.Module):
    """λ(gx) = exp(β · score(M(gx)) / σ + h(φ(gx))), learned (arXiv 2305.09900, section 3).

    φ are the model's own features, h a small network, σ a running estimate of how much scores
    differ along an orbit, so that β means the same for large and for small Q-values. β = 0, h = 0
    is equitune; β → ∞ is equizero, and from β = `INFINITE_BETA` on exactly so. β is learned as
    asinh β, which moves through several orders of magnitude as easily as through zero.

    The loss reaches the model through the branches it weighs, not through the weights: scores and
    features enter here without gradient.

    Args:
        feature_dim: number of features of one input.
        init: ``"equitune"`` or ``"equizero"``, the end point to start from.
        hidden: width of h.
    """

    running_score_spread: Tensor

    def __init__(self, feature_dim: int, init: str = "equitune", hidden: int = 32) -> None:
        super().__init__()
        start = {"equitune": 0.0, "equizero": math.asinh(INFINITE_BETA) + 0.01}
        self.asinh_beta = nn.Parameter(torch.tensor(start[init]))
        self.h = network_from_zero(feature_dim, hidden)
        # Zero until measured. Target networks are given what is named running_, as in batch norm.
        self.register_buffer("running_score_spread", torch.zeros(()))

    @property
    def beta(self) -> Tensor:
        """The inverse temperature β, a scalar."""
        return torch.sinh(self.asinh_beta)

    def forward(self, scores: Tensor, scale: Tensor, features: Tensor) -> Tensor:
        """Weights ``[|G|, batch]``.

        Args:
            scores: ``[|G|, batch]``.
            scale: ``[batch]``, see `shared_among_best`.
            features: ``[|G|, batch, feature_dim]``.
        """
        learning = torch.is_grad_enabled() and not is_recording()
        with torch.no_grad():
            if self.training and learning:
                self.measure_spread(scores)
            gaps = self.gaps(scores, scale)
        if self._is_infinite() and not learning:
            return shared_among_best(scores, scale)
        # Features lie batch first in memory.
        rows = features.detach().transpose(0, 1)
        h = self.h(rows.flatten(0, 1)).view(rows.shape[:2]).transpose(0, 1)
        soft = torch.softmax(torch.addcmul(h, self.beta, gaps), dim=0)
        if self._is_infinite() is False:
            return soft
        # At "infinity": the value of equizero, the gradient of the softmax at this β.
        hard = shared_among_best(scores.detach(), scale) + (soft - soft.detach())
        return torch.where(self.beta >= INFINITE_BETA, hard, soft)

    def _is_infinite(self) -> bool | None:
        """None where the answer would have to be waited for."""
        return None if self._waits() else float(self.beta.detach()) >= INFINITE_BETA

    def _waits(self) -> bool:
        """Whether numbers on the device had better stay there."""
        on_device = self.asinh_beta.device.type != "cpu"
        return on_device or torch.compiler.is_compiling() or is_recording()

    def gaps(self, scores: Tensor, scale: Tensor) -> Tensor:
        """How far each score is below the best of its orbit, in units of the usual spread, ≤ 0."""
        running = self.running_score_spread
        spread: Tensor | float
        if self._waits():
            spread = torch.where(running > 0, running, 1.0).to(scores.dtype)
        else:
            known = float(running)
            spread = known if known > 0 else 1.0
        # Below this differences are no longer far above rounding, and must not be magnified.
        spread = (1e-4 * scale).clamp_(min=spread)
        # Scores that are equal up to rounding count as equal, for the same reason.
        best = torch.sub(scores.amax(dim=0), scale, alpha=TIE_TOLERANCE[scores.dtype])
        return (scores - best).clamp_(max=0).div_(spread)

    def measure_spread(self, scores: Tensor) -> None:
        """Move σ by a hundredth towards how much these scores ``[|G|, batch]`` differ.

        No scores, or infinite ones, leave it as it is.
        """
        running = self.running_score_spread
        spread = score_spread(scores).to(running.dtype) if scores.numel() else running
        spread = torch.where(spread.isfinite(), spread, running)
        if self._waits():
            running.copy_(torch.where(running > 0, running.lerp(spread, 0.01), spread))
        else:
            running.lerp_(spread, 0.01 if float(running) > 0 else 1.0)


def lexicographic_weights(orbit: Any, rounds: bool) -> Tensor:
    """Weights of the lexicographically largest point of each orbit, shared among its stabiliser.

    What is chosen is a function of the orbit as a set: moving x moves the choice along.

    Args:
        orbit: ``[|G|, batch, *shape]``, or a dict of such tensors.
        rounds: whether its points were rounded, see `GroupAction.rounds`: entries that differ by no
            more than that are equal then.

    Returns:
        ``[|G|, batch]`` in the default float dtype, or that of the points.
    """
    parts = list(orbit.values()) if isinstance(orbit, dict) else [orbit]
    flat = [part[..., None].flatten(2) for part in parts]
    # Measured entry by entry: beside a place of 20,000 m a velocity of 0.1 m/s still counts.
    tolerance = torch.cat([_rounding(part) for part in flat], dim=-1) if rounds else None
    if len(flat) > 1:
        flat = [
            part if part.is_floating_point() else part.to(torch.get_default_dtype())
            for part in flat
        ]
    points = torch.cat(flat, dim=-1) if len(flat) > 1 else flat[0]
    if points.dtype in (torch.uint16, torch.uint32, torch.uint64, torch.bool):
        points = points.long()
    dtype = points.dtype if points.dtype in PRECISE else torch.get_default_dtype()
    if tolerance is None or not points.is_floating_point():
        chosen = _equal_to_largest(points)
    else:
        chosen = _almost_largest(points, tolerance)
    weights = chosen.to(dtype)
    return weights / weights.sum(dim=0)


def _equal_to_largest(points: Tensor) -> Tensor:
    """Which points ``[|G|, batch, entries]`` are the largest, exactly: ``[|G|, batch]``."""

    def differ(a: Tensor, b: Tensor) -> Tensor:
        # Numbers that are none differ from nothing.
        return (a - b).abs_() > 0 if points.is_floating_point() else a != b

    # A knock-out tournament: log2 |G| rounds, each comparing half of the orbit with the other half.
    # It takes a true order: of points that are only almost equal, who meets whom would decide.
    contenders = points
    while len(contenders) > 1:
        half = len(contenders) // 2
        a, b, rest = contenders[:half], contenders[half : 2 * half], contenders[2 * half :]
        first = differ(a, b).to(torch.uint8).argmax(dim=-1, keepdim=True)
        b_wins = b.gather(-1, first) > a.gather(-1, first)
        contenders = torch.cat([torch.where(b_wins, b, a), rest])
    return ~differ(points, contenders).any(dim=-1)


def _almost_largest(points: Tensor, tolerance: Tensor) -> Tensor:
    """The same up to ``tolerance`` ``[batch, entries]``: who falls behind in an entry is out."""
    leading = torch.ones_like(points[..., 0], dtype=torch.bool)
    looks = points.device.type == "cpu" and not is_recording()
    for i, entry in enumerate(points.unbind(dim=-1)):
        best = entry.masked_fill(~leading, -torch.inf).amax(dim=0)
        leading = leading & ~(entry < best - tolerance[:, i])
        if looks and bool((leading.sum(dim=0) == 1).all()):
            break
    return leading


def _rounding(part: Tensor) -> Tensor:
    """Differences ``[batch, entries]`` that do not count, of points ``[|G|, batch, entries]``."""
    if not part.is_floating_point():
        return torch.zeros(part.shape[1:], device=part.device)
    return TIE_TOLERANCE[part.dtype] * part.abs().amax(dim=0)


class LearnedScore(nn.Module):
    """A small network c(gx) that chooses the canonical point (Kaba et al. 2022, arXiv 2211.06489).

    Args:
        preprocess: turns a batch of inputs into flat floats ``[rows, entries]``.
        entries: their number.
        hidden: width of the network.
    """

    def __init__(self, preprocess: Callable[[Any], Tensor], entries: int, hidden: int = 32) -> None:
        super().__init__()
        self.preprocess = preprocess
        with torch.random.fork_rng(devices=[]):
            self.network = nn.Sequential(
                nn.Linear(entries, hidden), nn.Tanh(), nn.Linear(hidden, 1)
            )

    def forward(self, inputs: Any) -> Tensor:
        """``[rows, …] -> [rows]``."""
        flat = self.preprocess(inputs).to(next(self.network.parameters()).dtype)
        score: Tensor = self.network(flat).squeeze(-1)
        return score
