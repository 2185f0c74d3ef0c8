"""`isomorphism`: whether two groups are the same but for the names and order of their elements."""

from __future__ import annotations

import itertools

import numpy as np

from equirl.groups.finite_groups import FiniteGroup, IntArray


def isomorphism(a: FiniteGroup, b: FiniteGroup) -> IntArray | None:
    """A bijection φ with φ(g·h) = φ(g)·φ(h), found by trying images of the generators of a.

    Returns:
        int64 ``[|G|]``, element g of a is element ``φ[g]`` of b; None where there is none.

    Example:
        >>> from equirl.groups import cyclic, dihedral, direct_product
        >>> isomorphism(dihedral(2), direct_product(cyclic(2), cyclic(2)))
        array([0, 1, 2, 3])
        >>> isomorphism(dihedral(2), cyclic(4)) is None
        True
    """
    orders, others = ([group.order_of(g) for g in range(group.order)] for group in (a, b))
    if sorted(orders) != sorted(others):
        return None
    words = a.words(a.generators)
    choices = [[h for h in range(b.order) if others[h] == orders[g]] for g in a.generators]
    for images in itertools.product(*choices):
        phi = np.array([b.product(*(images[k] for k in word)) for word in words])
        if len(set(phi)) == a.order and np.array_equal(phi[a.table], b.table[np.ix_(phi, phi)]):
            return phi
    return None
