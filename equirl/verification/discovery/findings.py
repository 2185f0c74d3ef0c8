"""What the search for symmetries says: what it found, and what it proposed and did not confirm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equirl.symmetry import Symmetry
from equirl.verification.verdicts import QUANTITIES, Verdict


@dataclass(frozen=True, eq=False)
class Unconfirmed:
    """A candidate that one half of the play proposed and that was not confirmed.

    It may be a true symmetry all the same: the test refuses a share of those too.

    Args:
        generator: the maps of observations and actions, as `Symmetry.from_generators` takes them.
        symmetry: the group that it generates alone, as ``"candidate"``.
        tests: the verdicts of every test that it took, one after the other.
    """

    generator: tuple[Any, Any]
    symmetry: Symmetry
    tests: tuple[tuple[Verdict, ...], ...]

    @property
    def p_values(self) -> tuple[float, ...]:
        """Of each test that refused it, corrected for all that this test looked at."""
        return tuple(plainest(found).size for found in self.tests if is_refused(found))

    @property
    def reason(self) -> str:
        """Why it was not confirmed."""
        if not self.tests:
            return "not tested: with those that were found it makes too large a group"
        return ", on fresh play ".join(_said(found) for found in self.tests)


def _said(verdicts: tuple[Verdict, ...]) -> str:
    if is_refused(verdicts):
        worst = plainest(verdicts)
        return f"refused with p = {worst.size:.2g} for {worst.quantity}"
    details = [v.detail for v in verdicts if v.quantity == "dynamics" and not v.holds]
    return f"could not be tested: {'; '.join(details)}"


def is_refused(verdicts: tuple[Verdict, ...]) -> bool:
    """Whether something speaks against a candidate."""
    return any(verdict.outcome == "refused" for verdict in verdicts)


def plainest(verdicts: tuple[Verdict, ...]) -> Verdict:
    """The verdict with the smallest p-value."""
    return min(verdicts, key=lambda v: (v.size, QUANTITIES.index(v.quantity)))


@dataclass(frozen=True, eq=False)
class Discovery:
    """What was found.

    Args:
        symmetry: the group that was found; trivial where there is none.
        generators: of the group, as `Symmetry.from_generators` takes them.
        verdicts: of the statistical test on the generators.
        unconfirmed: the candidates that were proposed and did not pass the test.
        second_tests: by generator, the p-value with which it was refused before it passed the
            test on fresh play.
        unseen: entries of the observation that hardly ever varied, which are left as they are.
        untested: candidates that were left over when as many as allowed were tested.
    """

    symmetry: Symmetry
    generators: Mapping[str, tuple[Any, Any]]
    verdicts: tuple[Verdict, ...]
    unconfirmed: tuple[Unconfirmed, ...]
    second_tests: Mapping[str, float]
    unseen: tuple[int, ...]
    untested: int
