"""Finite groups: Cayley tables, the usual families, and the closure of generators."""

from equirl.groups.closures import MAX_ORDER, Closure, close_generators
from equirl.groups.element_names import word_name
from equirl.groups.families import (
    cyclic,
    dihedral,
    direct_product,
    from_permutations,
    symmetric,
)
from equirl.groups.finite_groups import FiniteGroup
from equirl.groups.isomorphisms import isomorphism

__all__ = [
    "MAX_ORDER",
    "Closure",
    "FiniteGroup",
    "close_generators",
    "cyclic",
    "dihedral",
    "direct_product",
    "from_permutations",
    "isomorphism",
    "symmetric",
    "word_name",
]
