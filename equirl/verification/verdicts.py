"""What a check of a symmetry says: verdicts, and counter-examples where it does not hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

QUANTITIES = ("dynamics", "reward", "termination")
"""What must not change; the distribution of initial states may."""


@dataclass(frozen=True)
class CounterExample:
    """Two transitions that ought to be the same one, moved by g.

    Args:
        observation: s.
        action: a.
        next_observation: s', what followed.
        moved_observation: gs.
        moved_action: ga.
        expected: what the symmetry says follows from (gs, ga): gs', a reward or a termination.
        found: what did follow; where that was not tried, what followed from the nearest (s, a)
            that was seen.
        nearest_observation: that nearest s, or None where (gs, ga) itself was tried.
    """

    observation: Any
    action: int
    next_observation: Any
    moved_observation: Any
    moved_action: int
    expected: Any
    found: Any
    nearest_observation: Any = None


@dataclass(frozen=True)
class Verdict:
    """Whether one quantity keeps to the symmetry, for one generator.

    Args:
        generator: its name.
        quantity: ``"dynamics"``, ``"reward"``, ``"termination"`` or ``"initial states"``.
        method: ``"exact"`` or ``"statistical"``.
        holds: the verdict; False also where nothing was looked at, see `is_verified`.
        size: for exact, the largest relative difference; for statistical, the p-value.
        looked_at: number of transitions (or initial states).
        counter_example: the worst one, where it does not hold.
    """

    generator: str
    quantity: str
    method: str
    holds: bool
    size: float
    looked_at: int
    counter_example: CounterExample | None = None

    @property
    def is_verified(self) -> bool:
        """Whether anything was looked at; if not, the verdict says nothing either way."""
        return self.looked_at > 0


@dataclass(frozen=True)
class SymmetryReport:
    """What `check_symmetry` found.

    Args:
        verdicts: generator by generator, quantity by quantity.
    """

    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether it is a symmetry of the task; initial states may differ without harm."""
        return all(v.holds for v in self.verdicts if v.quantity in QUANTITIES)

    @property
    def is_refuted(self) -> bool:
        """Whether something that was looked at speaks against it; not simply the rest of `holds`.

        Where nothing was looked at, a symmetry neither holds nor is refuted.
        """
        return any(v.is_verified and not v.holds for v in self.verdicts if v.quantity in QUANTITIES)
