"""`field_types`: a `Symmetry` as the field types of escnn (``equirl[escnn]``).

escnn builds equivariant layers from the representations that act on their inputs and outputs
(Cesa, Lang & Weiler 2022, "A program to build E(N)-equivariant steerable CNNs"). It knows its
groups by name and its representations as ρ(g) = Q (⊕ᵢ ψᵢ(g)) Qᵀ, with real irreducible ψᵢ.

Tested with escnn 1.0.11, NumPy 1.26 and scikit-learn 1.6. The lie_learn that escnn imports does not
load beside NumPy 2, and escnn's layers for dihedral groups fail beside scikit-learn 1.7.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.actions import Affines, GroupAction, SignedPermutations
from equirl.errors import ConfigError, SymmetryError
from equirl.groups import FiniteGroup, cyclic, dihedral, direct_product, isomorphism
from equirl.symmetry import Symmetry

Matrices = npt.NDArray[np.float64]
"""``[|G|, n, n]``, of each element."""

Factor = tuple[str, int]
"""``("cyclic", n)`` or ``("dihedral", n)``, which is of order 2n."""

ORTHOGONAL = 1e-6
"""Matrices may differ from orthogonal ones by this."""


@dataclass(frozen=True)
class FieldTypes:
    """What escnn's layers take; made by `field_types`.

    Args:
        group: the group of the symmetry.
        gspace: escnn's group acting on a single point, for layers on vectors.
        elements: escnn's element for each element of the group, in order.
        observations: the ``FieldType`` of the observations.
        actions: the ``FieldType`` of what a policy returns, see `field_types`.
    """

    group: FiniteGroup
    gspace: Any
    elements: tuple[Any, ...]
    observations: Any
    actions: Any


def field_types(symmetry: Symmetry) -> FieldTypes:
    """The field types of the observations and of what a network returns for the actions.

    That is ``symmetry.action_means`` for a ``Box`` and ``symmetry.action_logits`` for finitely many
    actions, as which Q-values move too. Entries that no element mixes are fields of their own.

    Raises:
        SymmetryError: an action is not linear and orthogonal on one vector, or the group is none
            that escnn has: cyclic, dihedral, or a product of two of these.
        ConfigError: escnn cannot be imported.

    Example:
        >>> boxes = spaces.Box(-9, 9, (3,)), spaces.Box(-1, 1, (1,))
        >>> symmetry = Symmetry.from_generators(*boxes, {"mirror": ([1, -1, -1], [-1])})
        >>> types = field_types(symmetry)  # doctest: +SKIP
        >>> escnn.nn.Linear(types.observations, types.actions)  # doctest: +SKIP
    """
    continuous = isinstance(symmetry.action_space, spaces.Box)
    outputs = symmetry.action_means if continuous else symmetry.action_logits
    observed = _matrices(symmetry.observations, "observations")
    returned = _matrices(outputs, "actions")
    factors, places = _factors(symmetry.group)
    try:
        from escnn import group, gspaces, nn
    except ImportError as error:
        raise ConfigError(
            'equirl.integrations.escnn needs pip install "equirl[escnn]", and NumPy below 2: '
            + str(error).partition("\n")[0]
        ) from error
    families = {"cyclic": group.cyclic_group, "dihedral": group.dihedral_group}
    built = [families[name](n) for name, n in factors]
    whole = built[0] if len(built) == 1 else group.direct_product(*built)
    gspace, theirs = gspaces.no_base_space(whole), whole.elements
    elements = tuple(theirs[place] for place in places)

    def field_type(matrices: Matrices) -> Any:
        fields = [_representation(part, elements, group) for part in _unmixed(matrices)]
        return nn.FieldType(gspace, fields)

    return FieldTypes(symmetry.group, gspace, elements, field_type(observed), field_type(returned))


def _matrices(action: GroupAction, what: str) -> Matrices:
    """The matrices of an action on vectors."""
    leaf, maps = action.leaves[0], action.maps[0]
    if leaf.key is not None:
        raise SymmetryError(f"escnn acts on one vector, the {what} are a Dict: flatten them")
    if len(leaf.shape) != 1:
        raise SymmetryError(f"escnn acts on one vector, the {what} are of shape {leaf.shape}")
    if isinstance(maps, SignedPermutations):
        maps = maps.as_affines()
    if not isinstance(maps, Affines):
        raise SymmetryError(
            f"escnn acts by matrices, the {what} have finitely many values, which a table renames"
        )
    for name, matrix, offset in zip(action.group.names, maps.matrix, maps.offset, strict=True):
        if offset.any():
            i = int(np.flatnonzero(offset)[0])
            raise SymmetryError(
                f"escnn acts by matrices, {name!r} adds {offset[i]:g} to entry {i} of the {what}: "
                "declare the symmetry for entries that count from its centre"
            )
        if np.abs(matrix @ matrix.T - np.eye(len(matrix))).max() > ORTHOGONAL:
            raise SymmetryError(
                f"escnn acts by orthogonal matrices, that of {name!r} on the {what} is not"
            )
    return np.array(maps.matrix)


def _factors(group: FiniteGroup) -> tuple[tuple[Factor, ...], npt.NDArray[np.int64]]:
    """A group that escnn has, and for each element its place among escnn's.

    escnn lists the elements of these groups as `equirl.groups` does: rᵏ, then rᵏs, pairs by rows.
    """
    for factors in _candidates(group.order):
        parts = [cyclic(n) if name == "cyclic" else dihedral(n) for name, n in factors]
        model = parts[0] if len(parts) == 1 else direct_product(*parts)
        places = isomorphism(group, model)
        if places is not None:
            return factors, places
    raise SymmetryError(
        f"escnn has no group like this one of {group.order} elements, which is not cyclic, "
        "dihedral, or a product of two of these"
    )


def _candidates(order: int) -> Iterator[tuple[Factor, ...]]:
    def single(n: int) -> list[Factor]:
        return [("cyclic", n)] + ([("dihedral", n // 2)] if n >= 4 and n % 2 == 0 else [])

    yield from ((factor,) for factor in single(order))
    for m in range(2, order // 2 + 1):
        if order % m == 0:
            yield from ((a, b) for a in single(m) for b in single(order // m))


def _unmixed(matrices: Matrices) -> Iterator[Matrices]:
    """The diagonal blocks, as small as can be without changing the order of the entries."""
    mixed = (matrices != 0).any(axis=0)
    n = len(mixed)
    ends = [i for i in range(1, n + 1) if not (mixed[:i, i:].any() or mixed[i:, :i].any())]
    for start, end in zip([0, *ends], ends, strict=False):
        yield matrices[:, start:end, start:end]


def _representation(matrices: Matrices, elements: tuple[Any, ...], group: Any) -> Any:
    """The ``Representation`` by these matrices, ρ(g) = Q (⊕ᵢ ψᵢ(g)) Qᵀ.

    A matrix A ``[n, d]`` with ρ(g) A = A ψ(g) for all g is fixed by the projection
    A ↦ 1/|G| Σ_g ρ(g) A ψ(g)ᵀ, and its columns are orthogonal and of one length, by Schur's lemma.
    So Q is put together from such A, each made orthogonal to those before. (escnn decomposes a
    representation by optimising from a random start, in n⁴ numbers.)
    """
    whole, count, n = elements[0].group, len(elements), matrices.shape[1]
    basis, irreps = np.zeros((n, 0)), []
    for irrep in whole.irreps():
        psi = np.stack([irrep(g) for g in elements])
        projection = np.einsum("gij,gab->iajb", matrices, psi).reshape(n * irrep.size, -1) / count
        values, vectors = np.linalg.eigh((projection + projection.T) / 2)
        for fixed in vectors.T[values > 0.5]:
            new = fixed.reshape(n, irrep.size)
            new = new - basis @ (basis.T @ new)
            length = np.linalg.norm(new) / np.sqrt(irrep.size)
            if length > 1e-6:
                basis = np.hstack([basis, new / length])
                irreps.append(irrep.id)
    signed = ((matrices == 0) | (np.abs(matrices) == 1)).all()
    kinds = {"norm", "gated"} | ({"concatenated"} if signed else set())
    kinds |= {"pointwise", "gate"} if signed and (matrices >= 0).all() else set()
    # escnn keeps what it computed for two representations by their names.
    name = f"equirl {hashlib.sha256((matrices + 0.0).tobytes()).hexdigest()[:16]}"
    return group.Representation(whole, name, irreps, basis, kinds)
