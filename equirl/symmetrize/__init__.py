"""Any model made exactly equivariant: `Symmetrized`, its methods and their weights."""

from equirl.symmetrize.methods import METHODS, OPTIONS, Method, resolve, resolve_saved
from equirl.symmetrize.symmetrized import Branches, Symmetrized
from equirl.symmetrize.weightings import Weights

__all__ = [
    "METHODS",
    "OPTIONS",
    "Branches",
    "Method",
    "Symmetrized",
    "Weights",
    "resolve",
    "resolve_saved",
]
