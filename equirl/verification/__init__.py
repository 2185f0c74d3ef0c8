"""Is a declared symmetry real? Exact and statistical checks, and the search for symmetries."""

from equirl.verification.exact import check_symmetry, equivariance_error
from equirl.verification.statistical import check_statistically
from equirl.verification.verdicts import CounterExample, SymmetryReport, Verdict

__all__ = [
    "CounterExample",
    "SymmetryReport",
    "Verdict",
    "check_statistically",
    "check_symmetry",
    "equivariance_error",
]
