"""Any model made exactly equivariant: `Symmetrized`, its methods and their weights."""

from equirl.symmetrize.contract import Method
from equirl.symmetrize.methods import METHODS, OPTIONS, resolve, resolve_saved
from equirl.symmetrize.relaxing import (
    Relaxation,
    RelaxedWeighting,
    RelaxedWeights,
    alpha_of,
    relaxation,
)
from equirl.symmetrize.steps import Branches
from equirl.symmetrize.structures import OutputAction
from equirl.symmetrize.symmetrized import Symmetrized
from equirl.symmetrize.weightings import (
    INFINITE_BETA,
    TIE_TOLERANCE,
    LambdaWeighting,
    LearnedScore,
    Weights,
    largest_entry,
    magnitude,
    score_spread,
    shared_among_best,
)

__all__ = [
    "INFINITE_BETA",
    "METHODS",
    "OPTIONS",
    "TIE_TOLERANCE",
    "Branches",
    "LambdaWeighting",
    "LearnedScore",
    "Method",
    "OutputAction",
    "Relaxation",
    "RelaxedWeighting",
    "RelaxedWeights",
    "Symmetrized",
    "Weights",
    "alpha_of",
    "largest_entry",
    "magnitude",
    "relaxation",
    "resolve",
    "resolve_saved",
    "score_spread",
    "shared_among_best",
]
