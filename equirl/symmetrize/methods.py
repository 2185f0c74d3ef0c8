"""The methods of symmetrization: each a frozen dataclass, with its options and its weights.

A method is spelled as a string, ``"equitune"``, wherever users write one; `resolve` turns the
spelling and its options into a `Method`, which everybody else asks. A new method is one more class
in `METHODS`.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, fields, replace
from typing import Any

from torch import nn

from equirl.errors import MethodError
from equirl.shown import nearest, shown
from equirl.symmetrize.contract import Method, Orbit, option
from equirl.symmetrize.lexicographic import largest_points
from equirl.symmetrize.relaxing import RelaxedWeighting, RelaxedWeights
from equirl.symmetrize.weightings import LambdaWeighting, Weights, shared_among_best


def _gradient() -> Any:
    return option(
        "selected",
        "gradient of the hard choice: selected (through the chosen branches only) or "
        "straight_through (that of the average over the orbit)",
        ("selected", "straight_through"),
    )


@dataclass(frozen=True)
class Equitune(Method):
    """λ = 1: the average over the orbit (arXiv 2210.06475)."""

    name = "equitune"
    is_average = True
    orbit_samples: int | None = option(
        None,
        "elements of the orbit, drawn for each x without replacement, that estimate the average "
        "while a gradient is computed; null is all",
        least=1,
    )

    @property
    def is_plain(self) -> bool:
        return self.orbit_samples is None

    def drawn(self, order: int) -> int:
        return min(self.orbit_samples or order, order)

    def weights(self, orbit: Orbit, weighting: Any) -> Weights:
        return Weights(orbit.uniform)


@dataclass(frozen=True)
class Lambda(Method):
    """λ = exp(β · score / σ + h(φ(gx))), β and h learned (arXiv 2305.09900), `LambdaWeighting`."""

    name = "lambda"
    needs_scores = True
    needs_features = True
    is_learned = True
    init: str = option("equitune", "where λ starts: equitune or equizero", ("equitune", "equizero"))

    def weighting(self, feature_dim: int, entries: int) -> nn.Module:
        return LambdaWeighting(feature_dim, self.init)

    def weights(self, orbit: Orbit, weighting: Any) -> Weights:
        return Weights(weighting(*orbit.scored, orbit.features))


@dataclass(frozen=True)
class Equizero(Method):
    """λ = 1 for the g that maximise the score, else 0; ties share (arXiv 2305.09900)."""

    name = "equizero"
    needs_scores = True
    is_hard = True
    gradient: str = _gradient()

    @property
    def is_plain(self) -> bool:
        return self.gradient == "selected"

    def weights(self, orbit: Orbit, weighting: Any) -> Weights:
        scores, scale = orbit.scored
        surrogate = None if self.is_plain else orbit.uniform
        return Weights(shared_among_best(scores.detach(), scale), surrogate)


@dataclass(frozen=True)
class Canonical(Method):
    """λ = 1 for the g that maximise c(gx), else 0; ties share; needs no M (arXiv 2211.06489)."""

    name = "canonical"
    is_hard = True
    gradient: str = _gradient()
    canonical_score: str = option(
        "lexicographic",
        "c: lexicographic order, or learned, a small network that learns with "
        "gradient=straight_through",
        ("lexicographic", "learned"),
    )

    @property
    def scores_input(self) -> bool:
        return self.canonical_score == "learned"

    @property
    def is_fixed(self) -> bool:
        return not self.scores_input

    @property
    def is_plain(self) -> bool:
        return self.gradient == "selected"

    def weights(self, orbit: Orbit, weighting: Any) -> Weights:
        if orbit.scores is None:
            chosen, surrogate = largest_points(orbit.points, orbit.action), orbit.uniform
        else:
            scores, scale = orbit.scored
            chosen, surrogate = shared_among_best(scores.detach(), scale), scores.softmax(dim=0)
        return Weights(chosen, None if self.is_plain else surrogate)


@dataclass(frozen=True)
class Relaxed(Method):
    """(1 − α(x)) w_g(x) + α(x) [g = e]: the symmetry let go of where it fails, `RelaxedWeighting`.

    Equivariant where α = 0 along the orbit, as everywhere at the start, and plain where α = 1. For
    symmetries that are broken in places (Chang et al., arXiv 2512.00915).
    """

    name = "relaxed"
    needs_features = True
    is_learned = True
    inner: str = option(
        "equitune",
        "what is let go of, with its options as they are: equitune, lambda, equizero or canonical",
        ("equitune", "lambda", "equizero", "canonical"),
    )
    per_action: bool | str | None = option(
        None,
        "whether each action has an α of its own, α(s, a): true, for DQN alone, false or auto, the "
        "default of DQN, which is true as long as that is seen to predict better",
        ("auto",),
        is_flag=True,
    )

    @property
    def kept(self) -> Method:
        """The method where α = 0."""
        return METHODS[self.inner]()

    @property
    def needs_scores(self) -> bool:
        return self.kept.needs_scores

    def weighting(self, feature_dim: int, entries: int) -> nn.Module:
        inner = self.kept.weighting(feature_dim, entries)
        of_each = entries if self.per_action else None
        return RelaxedWeighting(feature_dim, inner, of_each, chooses=self.per_action == "auto")

    def weights(self, orbit: Orbit, weighting: Any) -> Weights:
        return self.parts(orbit, weighting).weights

    def parts(self, orbit: Orbit, weighting: Any) -> RelaxedWeights:
        """What the weights are made of, see `weights`."""
        assert orbit.features is not None
        kept = self.kept.weights(orbit, weighting.inner)
        candidates = weighting.candidates(orbit.features[0])
        return RelaxedWeights(kept, weighting.chosen(candidates), candidates)


METHODS: dict[str, type[Method]] = {
    method.name: method for method in (Equitune, Lambda, Equizero, Canonical, Relaxed)
}
"""By their public spelling."""

OPTIONS: dict[str, Field[Any]] = {
    spec.name: spec for method in METHODS.values() for spec in fields(method)
}
"""The options of all methods by name; each means the same in every method that heeds it."""


def heeding(name: str) -> list[str]:
    """The methods that heed this option."""
    return [method for method, cls in METHODS.items() if name in {s.name for s in fields(cls)}]


def resolve(method: str | Method, **options: Any) -> Method:
    """The method of this spelling with these options; the only place where the string is read.

    Args:
        method: a key of `METHODS`, or a method, whose options the given ones replace.
        options: see the classes; None is not given.

    Raises:
        MethodError: the method or an option is not known, the method does not heed an option that
            is given, or an option has a value that it cannot have.

    Example:
        >>> resolve("equizero", gradient="straight_through", init=None)
        Equizero(gradient='straight_through')
    """
    cls = type(method) if isinstance(method, Method) else _class_of(method)
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        heeded_by = heeding(name)
        if not heeded_by:
            raise MethodError(f"no method has an option {name!r}{nearest(name, OPTIONS)}")
        if cls.name not in heeded_by:
            raise MethodError(
                f"{name} is for method={' or '.join(heeded_by)}, got method={cls.name}"
            )
    return replace(method, **given) if isinstance(method, Method) else cls(**given)


def resolve_saved(method: str | Method, **options: Any) -> Method:
    """As `resolve`, but an option at its default may be one that the method does not heed.

    Agents that earlier versions saved, and configurations, say all options whatever the method.
    """
    name = method.name if isinstance(method, Method) else method
    heeded = {
        key: value
        for key, value in options.items()
        if key not in OPTIONS or name in heeding(key) or value != OPTIONS[key].default
    }
    return resolve(method, **heeded)


def _class_of(method: Any) -> type[Method]:
    if isinstance(method, str) and method in METHODS:
        return METHODS[method]
    near = nearest(method, METHODS) if isinstance(method, str) else ""
    raise MethodError(f"method must be one of {', '.join(METHODS)}, got {shown(method)}{near}")
