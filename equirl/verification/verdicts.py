"""What a check of a symmetry says: verdicts, and counter-examples where it does not hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from equirl.verification.boards import Board
from equirl.verification.statistics.encoding import QUANTITIES

Outcome = Literal["holds", "refused", "undecided"]

__all__ = ["QUANTITIES", "CounterExample", "Outcome", "SymmetryReport", "Verdict"]


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
        tally: what followed from (s, a) and from (gs, ga) as counts or probabilities, one line
            each, where they were seen many times or their law is known.
    """

    observation: Any
    action: Any
    next_observation: Any
    moved_observation: Any
    moved_action: Any
    expected: Any
    found: Any
    nearest_observation: Any = None
    tally: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Whether one quantity keeps to the symmetry, for one generator.

    Args:
        generator: its name.
        quantity: ``"dynamics"``, ``"reward"``, ``"termination"`` or ``"initial states"``.
        method: ``"exact"``, ``"law"`` (all probabilities compared), ``"fresh draws"`` (moved states
            played again and again) or ``"statistical"``.
        outcome: ``"holds"``, ``"refused"``, or ``"undecided"``: a violation of a size that matters
            could not have been seen.
        size: for exact, the largest relative difference; for law, the largest difference of
            probabilities; else the p-value, corrected for all that was tried.
        looked_at: number of transitions (or initial states, or pairs (s, a)).
        counter_example: the worst one, where it is refused.
        detail: what would have been seen where it holds, what is missing where it is undecided,
            the part of the states where it is refused.
        board: that part by the cell of a board, where observations show one.
    """

    generator: str
    quantity: str
    method: str
    outcome: Outcome
    size: float
    looked_at: int
    counter_example: CounterExample | None = None
    detail: str = ""
    board: Board | None = None

    @property
    def holds(self) -> bool:
        """Whether it was found to hold; False also where it is undecided."""
        return self.outcome == "holds"

    @property
    def is_verified(self) -> bool:
        """Whether it was decided, one way or the other."""
        return self.outcome != "undecided"


@dataclass(frozen=True)
class SymmetryReport:
    """What `check_symmetry` found; ``print(report)`` is a table of it.

    Args:
        verdicts: generator by generator, quantity by quantity.
        remarks: what else there is to know, one line each.
    """

    verdicts: list[Verdict] = field(default_factory=list)
    remarks: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """Refused if anything is; else holds if all does; initial states may differ."""
        counted = [v for v in self.verdicts if v.quantity in QUANTITIES]
        if any(v.outcome == "refused" for v in counted):
            return "refused"
        return "holds" if counted and not self.undecided else "undecided"

    @property
    def undecided(self) -> list[Verdict]:
        """The verdicts that are open; not those on what another method found to hold."""
        settled = {(v.generator, v.quantity) for v in self.verdicts if v.outcome == "holds"}
        return [
            v
            for v in self.verdicts
            if v.outcome == "undecided" and (v.generator, v.quantity) not in settled
        ]

    @property
    def holds(self) -> bool:
        """Whether it is a symmetry of the task; initial states may differ without harm."""
        return self.outcome == "holds"

    @property
    def is_refuted(self) -> bool:
        """Whether something speaks against it; where it is undecided, nothing does."""
        return self.outcome == "refused"

    def __str__(self) -> str:
        from equirl.verification.shown_report import as_text

        return as_text(self)
