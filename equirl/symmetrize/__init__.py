"""Any model made exactly equivariant: `Symmetrized`, its methods and their weights."""

from equirl.symmetrize.symmetrized import Branches, Symmetrized

__all__ = ["Branches", "Symmetrized"]
