"""`Method`: what every method of symmetrization says of itself, and the `Orbit` it looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from torch import Tensor, nn

from equirl.actions import GroupAction
from equirl.errors import MethodError
from equirl.shown import nearest, shown
from equirl.symmetrize.weightings import Weights


def option(
    default: Any,
    meaning: str,
    choices: Sequence[str] = (),
    least: int | None = None,
    is_flag: bool = False,
) -> Any:
    """A field of a method: ``metadata`` holds its ``meaning`` and what values it may have."""
    metadata = {"meaning": meaning, "choices": tuple(choices), "least": least, "is_flag": is_flag}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Orbit:
    """What a method may look at to weigh the orbit of each x.

    Args:
        points: x, ``[batch, *X]``, or a dict of them.
        action: how the group moves them.
        like: a tensor ``[batch, …]`` of the dtype and device that weights have.
        scores: of gx, ``[|G|, batch]``; None where the method looks at no scores.
        scale: ``[batch]``, the size of the numbers that the scores were computed from.
        features: of gx, ``[|G|, batch, feature_dim]``; None where the method needs none.
    """

    points: Any
    action: GroupAction
    like: Tensor
    scores: Tensor | None = None
    scale: Tensor | None = None
    features: Tensor | None = None

    @property
    def uniform(self) -> Tensor:
        """1 / |G|, ``[|G|, batch]``."""
        order = self.action.group.order
        return self.like.new_full((1,), 1 / order).expand(order, self.like.shape[0])

    @property
    def scored(self) -> tuple[Tensor, Tensor]:
        """The scores and their scale, of a method that needs scores."""
        assert self.scores is not None
        assert self.scale is not None
        return self.scores, self.scale


@dataclass(frozen=True)
class Method:
    """How the branches of an orbit are weighed, w_g(x) = λ(gx) / Σ_h λ(hx).

    The class variables are what others ask instead of comparing names.
    """

    name: ClassVar[str]
    """The public spelling."""

    needs_features: ClassVar[bool] = False
    """Weighs by the features of gx."""

    is_average: ClassVar[bool] = False
    """All weights are equal, whatever x."""

    is_learned: ClassVar[bool] = False
    """Has parameters to learn, and so is not zero-shot."""

    is_hard: ClassVar[bool] = False
    """The maximisers share the weight equally, all other weights are 0."""

    @property
    def needs_scores(self) -> bool:
        """Weighs by the scores of M's own outputs, unless others are given."""
        return False

    @property
    def scores_input(self) -> bool:
        """Weighs by the scores c(gx) of the inputs, which do not need M."""
        return False

    @property
    def takes_scores(self) -> bool:
        """Scores from outside, such as a critic's, can take the place of its own."""
        return self.needs_scores or self.scores_input

    @property
    def is_fixed(self) -> bool:
        """The weights depend on x alone, on no parameter; the chosen gx are one point."""
        return False

    @property
    def is_plain(self) -> bool:
        """The gradient is that of Σ_g w_g(x) · g⁻¹M(gx) as it stands, of the whole orbit."""
        return True

    @property
    def options(self) -> dict[str, Any]:
        """Its options by name; with ``method=name`` they make it again."""
        return asdict(self)

    def drawn(self, order: int) -> int:
        """Of |G| = ``order`` elements, how many are drawn while a gradient is computed."""
        return order

    def weighting(self, feature_dim: int, entries: int) -> nn.Module | None:
        """What the method learns, a new module, or None.

        Args:
            feature_dim: number of features of one input.
            entries: of one output, of its first part where there are several.
        """
        return None

    def weights(self, orbit: Orbit, weighting: Any) -> Weights:
        """The weights of every orbit.

        Args:
            orbit: what there is to look at.
            weighting: what `weighting` made.
        """
        raise NotImplementedError

    def __post_init__(self) -> None:
        for spec in fields(self):
            value, choices = getattr(self, spec.name), spec.metadata["choices"]
            least = spec.metadata["least"]
            if spec.metadata["is_flag"]:
                if value is None or isinstance(value, bool) or value in choices:
                    continue
                others = "".join(f" or {choice}" for choice in choices)
                raise MethodError(f"{spec.name} must be true or false{others}, got {shown(value)}")
            if choices and value not in choices:
                raise MethodError(
                    f"{spec.name} must be one of {', '.join(choices)}, got {shown(value)}"
                    f"{nearest(str(value), choices)}"
                )
            if least is None or value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise MethodError(
                    f"{spec.name} must be at least {least}, a whole number, got {shown(value)}"
                )
