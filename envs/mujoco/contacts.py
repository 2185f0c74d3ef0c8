"""Who may touch whom, and whether friction is the same in all directions that are exchanged."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from equirl.envs.mujoco.model_fields import MismatchError, alike, named, require_same_fields
from equirl.envs.mujoco.tree_matching import Matching

PLANE, ELLIPTIC = int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtCone.mjCONE_ELLIPTIC)
NO_CONTACT = int(mujoco.mjtDisableBit.mjDSBL_CONTACT) | int(mujoco.mjtDisableBit.mjDSBL_CONSTRAINT)
NO_PARENT_FILTER = int(mujoco.mjtDisableBit.mjDSBL_FILTERPARENT)
OVERRIDE = int(mujoco.mjtEnableBit.mjENBL_OVERRIDE)
DEPTH = 2000.0


def require_same_contacts(found: Matching) -> None:
    """Refuse exclusions, explicit pairs, friction and its pyramids that the map does not keep.

    Raises:
        MismatchError: it names the bodies or geoms.
    """
    _require_same_exclusions(found)
    _require_same_pairs(found)
    _require_same_friction(found)
    _require_same_pyramids(found)


def require_same_impedances(found: Matching) -> None:
    """Refuse other effective masses at the reference pose, from which MuJoCo scales constraints.

    Derived from what was compared already, they differ where the reference pose is moved.

    Raises:
        MismatchError: it names the body or joint.
    """
    model = found.model
    for kind, images, weights in (
        ("body", found.bodies, model.body_invweight0),
        ("jnt", found.joints, model.dof_invweight0[model.jnt_dofadr]),
    ):
        for i, k in images.items():
            if not alike(weights[i], weights[k], 1e-6):
                one, other = named(model, kind, i), named(model, kind, k)
                text = f"invweight0 of {one} is {weights[i]}, of {other} {weights[k]}"
                raise MismatchError(text, DEPTH + 1)


def _require_same_exclusions(found: Matching) -> None:
    model = found.model
    excluded = {frozenset((int(s) >> 16, int(s) & 0xFFFF)) for s in model.exclude_signature}
    for bodies in excluded:
        images = frozenset(found.bodies.get(b, b) for b in bodies)
        if images not in excluded:
            one, other = (sorted(pair) for pair in (bodies, images))
            raise MismatchError(
                f"contact is excluded between {_two(model, 'body', one)}, not between "
                f"{_two(model, 'body', other)}",
                DEPTH,
            )


def _require_same_pairs(found: Matching) -> None:
    model = found.model
    pairs = {
        frozenset((int(model.pair_geom1[p]), int(model.pair_geom2[p]))): p
        for p in range(model.npair)
    }
    for geoms, p in pairs.items():
        image = pairs.get(frozenset(found.geoms[g] for g in geoms))
        if image is None:
            raise MismatchError(f"{named(model, 'pair', p)} has no image", DEPTH)
        require_same_fields(model, "pair", p, image, DEPTH)


def _require_same_friction(found: Matching) -> None:
    """Explicit pairs, and the override of all contacts, have a friction along either tangent.

    Where the tangents are not kept up to sign (see `_require_same_pyramids`) the two must agree.
    """
    model = found.model
    if alike(np.abs(found.world), np.eye(3)):
        return
    given = [
        (named(model, "pair", p), model.pair_dim[p], model.pair_friction[p])
        for p in range(model.npair)
    ]
    if model.opt.enableflags & OVERRIDE:
        given.append(("all contacts (o_friction)", 6, model.opt.o_friction))
    for name, dimensions, friction in given:
        for i, j in ((0, 1), (3, 4)):  # sliding and rolling
            if j < dimensions - 1 and not alike(friction[i], friction[j]):
                raise MismatchError(
                    f"friction of {name} is {friction[i]:.6g} along one tangent and "
                    f"{friction[j]:.6g} along the other",
                    DEPTH,
                )


def _require_same_pyramids(found: Matching) -> None:
    """The cone of friction is approximated by a pyramid whose edges lie along tangents.

    MuJoCo takes as tangent the y axis of the world, made orthogonal to the normal. Changes of sign
    of the axes keep that up to sign; exchanges of x and y only for vertical normals, as a floor's.
    """
    model, world = found.model, np.abs(found.world)
    off = model.opt.disableflags & NO_CONTACT
    if off or model.opt.cone == ELLIPTIC or alike(world, np.eye(3)):
        return
    quarter = alike(world, np.rint(world)) and alike(world[2, 2], 1.0)
    for i, j, dimensions in touching(model):
        floor = PLANE in (model.geom_type[i], model.geom_type[j])
        if dimensions > 1 and not (quarter and floor):
            raise MismatchError(
                f"the friction pyramid between {_two(model, 'geom', [i, j])} does not turn with "
                'the world (it would with cone="elliptic")',
                DEPTH,
            )


def touching(model: Any) -> list[tuple[int, int, int]]:
    """Pairs of geoms that may touch, and the dimension of the contact."""
    kind, affinity = model.geom_contype, model.geom_conaffinity
    may = (kind[:, None] & affinity) | (kind & affinity[:, None])
    weld = model.body_weldid[model.geom_bodyid]
    above = model.body_weldid[model.body_parentid[weld]]
    may = (may != 0) & (weld[:, None] != weld)
    if not model.opt.disableflags & NO_PARENT_FILTER:
        related = (above[:, None] == weld) & (weld != 0)
        may &= ~(related | related.T)
    priority, size = model.geom_priority, model.geom_condim
    found = []
    for i, j in zip(*np.nonzero(np.triu(may, 1)), strict=True):
        first = i if priority[i] > priority[j] else j
        same = priority[i] == priority[j]
        found.append((int(i), int(j), int(max(size[i], size[j]) if same else size[first])))
    pairs = zip(model.pair_geom1, model.pair_geom2, model.pair_dim, strict=True)
    return found + [(int(i), int(j), int(n)) for i, j, n in pairs]


def _two(model: Any, kind: str, entries: list[int]) -> str:
    return " and ".join(named(model, kind, i) for i in entries)
