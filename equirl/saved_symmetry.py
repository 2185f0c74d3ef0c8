"""Symmetries as plain data, so that a saved agent outlives the classes it was saved with."""

from __future__ import annotations

from typing import Any

from equirl.actions import GroupAction
from equirl.actions.affines import Affines
from equirl.actions.layout import leaves_of
from equirl.actions.lookups import Lookups
from equirl.actions.maps import Maps
from equirl.actions.signed_permutations import SignedPermutations
from equirl.errors import SymmetryError
from equirl.groups import FiniteGroup
from equirl.symmetry import Symmetry

FORMAT = 1
"""Raise it when the data below changes; `from_plain` goes on reading every older one."""

KINDS: dict[str, type[Maps]] = {
    "signed permutation": SignedPermutations,
    "affine": Affines,
    "lookup": Lookups,
}


def to_plain(symmetry: Symmetry) -> dict[str, Any]:
    """A symmetry as strings, numbers, arrays and Gymnasium spaces."""
    names = {kind: name for name, kind in KINDS.items()}
    return {
        "format": FORMAT,
        "table": symmetry.group.table,
        "names": symmetry.group.names,
        "observation_space": symmetry.observation_space,
        "action_space": symmetry.action_space,
        "permutations": symmetry.permutations,
        "blocks": symmetry.observations.blocks,
        "maps": [(names[type(m)], m.arrays) for m in symmetry.observations.maps],
    }


def from_plain(plain: dict[str, Any]) -> Symmetry:
    """The symmetry that `to_plain` took apart.

    Raises:
        SymmetryError: it was saved by a later version, or is damaged.
    """
    if plain["format"] > FORMAT:
        raise SymmetryError(
            f"this symmetry was saved in format {plain['format']}, this version of equirl reads up "
            f"to {FORMAT}: install a newer one"
        )
    group = FiniteGroup(plain["table"], plain["names"])
    maps = tuple(KINDS[name](**arrays) for name, arrays in plain["maps"])
    space, blocks = plain["observation_space"], plain["blocks"]
    leaves = leaves_of(space)
    sizes = [sum(leaves[j].size for j in block if j < len(leaves)) for block in blocks]
    if (
        sorted(j for block in blocks for j in block) != list(range(len(leaves)))
        or [m.entries for m in maps] != sizes
        or plain["permutations"].shape != (group.order, plain["action_space"].n)
    ):
        raise SymmetryError("the symmetry that was saved is damaged: it does not fit its spaces")
    action = GroupAction(group, leaves, blocks, maps)
    return Symmetry(group, space, plain["action_space"], action, plain["permutations"])
