"""Random actions of many groups on vectors: signed permutations, and affine maps."""

import itertools

import numpy as np

from equirl import FiniteGroup, GroupAction
from equirl.actions.affines import Affines
from equirl.actions.layout import Leaf
from equirl.actions.signed_permutations import SignedPermutations
from equirl.groups import cyclic, dihedral, direct_product, symmetric

GROUPS = [
    cyclic(2),
    cyclic(3),
    cyclic(4),
    cyclic(7),
    dihedral(2),
    dihedral(3),
    dihedral(4),
    dihedral(6),
    symmetric(3),
    symmetric(4),
    direct_product(cyclic(2), cyclic(4)),
    direct_product(dihedral(3), cyclic(3)),
    direct_product(symmetric(3), symmetric(3)),
    direct_product(dihedral(4), cyclic(3)),
    direct_product(symmetric(4), cyclic(2)),
]


def sign_characters(group: FiniteGroup) -> list[np.ndarray]:
    """All homomorphisms to {1, -1}, as vectors ``[|G|]``."""
    generators: list[int] = []
    for g in range(group.order):
        if g not in group.generated_by(generators):
            generators.append(g)
    characters = []
    for signs in itertools.product([1, -1], repeat=len(generators)):
        character, pending = {0: 1}, [0]
        while pending:
            g = pending.pop()
            for generator, sign in zip(generators, signs, strict=True):
                product = group.product(g, generator)
                if product not in character:
                    character[product] = sign * character[g]
                    pending.append(product)
        values = np.array([character[g] for g in range(group.order)])
        if np.array_equal(values[group.table], np.outer(values, values)):
            characters.append(values)
    return characters


def coset_representation(
    group: FiniteGroup, rng: np.random.Generator, signed: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A random transitive action ``[|G|, n]``: where entry i goes, and the sign it takes.

    It is induced from a random subgroup H, and where signed from a random sign character of H.
    """
    members = group.generated_by(rng.integers(0, group.order, size=rng.integers(0, 3)))
    subgroup = group.subgroup(members)
    character = np.ones(subgroup.order, dtype=int)
    if signed:
        choices = sign_characters(subgroup)
        character = choices[rng.integers(len(choices))]
    representatives: list[int] = []
    coset_of, remainder = np.full(group.order, -1), np.zeros(group.order, dtype=int)
    for t in range(group.order):
        if coset_of[t] < 0:
            for k, h in enumerate(members):
                coset_of[group.product(t, h)] = len(representatives)
                remainder[group.product(t, h)] = k
            representatives.append(t)
    moved = group.table[:, representatives]  # g·t_i = t_j·h
    return coset_of[moved], character[remainder[moved]]


def representation(
    group: FiniteGroup, rng: np.random.Generator, signed: bool = False, most: int = 24
) -> tuple[np.ndarray, np.ndarray]:
    """A sum of random transitive actions, of 2 … ``most`` entries (or one action of up to 48)."""
    target, sign = coset_representation(group, rng, signed)
    while target.shape[1] < 2 or rng.random() < 0.4:
        more, more_signs = coset_representation(group, rng, signed)
        if target.shape[1] >= 2 and target.shape[1] + more.shape[1] > most:
            break
        target = np.concatenate([target, target.shape[1] + more], axis=1)
        sign = np.concatenate([sign, more_signs], axis=1)
    return target, sign


def matrices_of(target: np.ndarray, sign: np.ndarray) -> np.ndarray:
    order, n = target.shape
    matrices = np.zeros((order, n, n))
    for g in range(order):
        matrices[g, target[g], np.arange(n)] = sign[g]
    return matrices


def signed_action(group: FiniteGroup, rng: np.random.Generator) -> GroupAction:
    target, sign = representation(group, rng, signed=True)
    index = np.argsort(target, axis=1)
    maps = SignedPermutations(index, np.take_along_axis(sign, index, axis=1).astype(np.float64))
    return GroupAction(group, (Leaf(None, (target.shape[1],), "float32"),), ((0,),), (maps,))


def affine_action(group: FiniteGroup, rng: np.random.Generator) -> GroupAction:
    """A representation in other coordinates (condition number up to 4), about another point."""
    matrices = matrices_of(*representation(group, rng, signed=True, most=12))
    n = matrices.shape[1]
    left, right = (np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2))
    basis = left @ np.diag(rng.uniform(0.7, 1.4, n)) @ right
    matrices = basis @ matrices @ np.linalg.inv(basis)
    centre = rng.normal(size=n)
    maps = Affines(matrices, centre - matrices @ centre)
    return GroupAction(group, (Leaf(None, (n,), "float32"),), ((0,),), (maps,))


def output_action(group: FiniteGroup, rng: np.random.Generator) -> GroupAction:
    return GroupAction.on_vectors(group, permutations=representation(group, rng, most=8)[0])


def size(action: GroupAction) -> int:
    return action.leaves[0].size
