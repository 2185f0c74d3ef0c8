"""Finite groups: Cayley tables, the usual families, and the closure of generators."""

from equirl.groups.families import (
    cyclic,
    dihedral,
    direct_product,
    from_permutations,
    symmetric,
)
from equirl.groups.finite_groups import FiniteGroup

__all__ = ["FiniteGroup", "cyclic", "dihedral", "direct_product", "from_permutations", "symmetric"]
