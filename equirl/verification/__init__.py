"""Is a declared symmetry real? Exact and statistical checks, and the search for symmetries."""

from equirl.verification.discovery import Discovery, Unconfirmed, discover_symmetries
from equirl.verification.exact import check_symmetry, equivariance_error
from equirl.verification.statistical import check_statistically
from equirl.verification.verdicts import CounterExample, SymmetryReport, Verdict

__all__ = [
    "CounterExample",
    "Discovery",
    "SymmetryReport",
    "Unconfirmed",
    "Verdict",
    "check_statistically",
    "check_symmetry",
    "discover_symmetries",
    "equivariance_error",
]
