"""Whether one geom becomes another under an orthogonal map of its body's frame."""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
from scipy.spatial import cKDTree

from equirl.envs.mujoco.model_fields import MismatchError, alike, named, require
from equirl.envs.mujoco.quaternions import Array, as_rotation

PLANE, HEIGHT_FIELD, CAPSULE, ELLIPSOID, CYLINDER, BOX, MESH, SDF = (
    int(getattr(mujoco.mjtGeom, f"mjGEOM_{kind}"))
    for kind in ("PLANE", "HFIELD", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX", "MESH", "SDF")
)
MESH_TOLERANCE = 1e-5
"""Between vertices, which are kept in single precision."""


def require_same_shape(model: Any, i: int, j: int, frame: Array, depth: float) -> None:
    """Refuse geoms of other shapes, sizes or poses.

    Raises:
        MismatchError: they differ.
    """
    kind = int(model.geom_type[i])
    if kind != model.geom_type[j]:
        raise MismatchError(
            f"{named(model, 'geom', i)} and {named(model, 'geom', j)} are of other types", depth
        )
    own, theirs = as_rotation(model.geom_quat[i]), as_rotation(model.geom_quat[j])
    place = frame @ model.geom_pos[i]
    turned = theirs.T @ frame @ own
    if kind == PLANE:
        require("geom", model, i, j, "the normal", (frame @ own)[:, 2], theirs[:, 2], depth=depth)
        apart = float((place - model.geom_pos[j]) @ theirs[:, 2])
        require("geom", model, i, j, "the height", apart, 0.0, depth=depth)
        return
    require("geom", model, i, j, "the place", place, model.geom_pos[j], depth=depth)
    if kind == MESH:
        _require_same_mesh(model, i, j, turned, depth + 0.1)
        return
    if kind in (HEIGHT_FIELD, SDF):
        raise MismatchError(f"{named(model, 'geom', i)} is not a shape that is compared", depth)
    sizes = model.geom_size[i], model.geom_size[j]
    if kind in (BOX, ELLIPSOID) or model.geom_fluid[i].any():
        permutes = np.rint(np.abs(turned))
        if not alike(np.abs(turned), permutes):
            raise MismatchError(f"{named(model, 'geom', i)} would be turned", depth)
        if kind in (BOX, ELLIPSOID):
            sizes = permutes @ sizes[0], sizes[1]
    require("geom", model, i, j, "size", *sizes, depth=depth + 0.1)
    if kind in (CAPSULE, CYLINDER):
        along = (frame @ own)[:, 2]
        along = along * np.sign(along @ theirs[:, 2])
        require("geom", model, i, j, "the axis", along, theirs[:, 2], depth=depth + 0.1)


def _require_same_mesh(model: Any, i: int, j: int, turned: Array, depth: float) -> None:
    one, other = (_vertices(model, int(model.geom_dataid[x])) for x in (i, j))
    moved = one @ turned.T
    worst = max(cKDTree(a).query(b)[0].max() for a, b in ((other, moved), (moved, other)))
    if worst > MESH_TOLERANCE:
        raise MismatchError(
            f"the mesh of {named(model, 'geom', i)}, moved, is up to {worst:.3g} away from that of "
            f"{named(model, 'geom', j)}",
            depth,
        )


def _vertices(model: Any, mesh: int) -> Array:
    first = int(model.mesh_vertadr[mesh])
    vertices: Array = model.mesh_vert[first : first + int(model.mesh_vertnum[mesh])].astype(float)
    return vertices
