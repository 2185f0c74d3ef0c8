"""The entries of a `mujoco.MjModel` under their names, and which of their fields must agree."""

from __future__ import annotations

from functools import cache
from typing import Any

import mujoco
import numpy as np

TOLERANCE = 1e-8
"""Between lengths, angles, masses and parameters that are to be equal, relative above 1."""

KINDS = {
    "body": mujoco.mjtObj.mjOBJ_BODY,
    "jnt": mujoco.mjtObj.mjOBJ_JOINT,
    "geom": mujoco.mjtObj.mjOBJ_GEOM,
    "actuator": mujoco.mjtObj.mjOBJ_ACTUATOR,
    "tendon": mujoco.mjtObj.mjOBJ_TENDON,
    "eq": mujoco.mjtObj.mjOBJ_EQUALITY,
    "pair": mujoco.mjtObj.mjOBJ_PAIR,
}

TITLES = {"jnt": "joint", "eq": "equality constraint", "pair": "contact pair"}

# Numbers of other entries, places in arrays, poses, looks, and what MuJoCo derives from the rest.
# Whatever field is not listed here must agree, also those that a later MuJoCo adds.
LEFT_OUT = {
    "body": "parentid rootid weldid mocapid jntnum jntadr dofnum dofadr treeid geomnum geomadr "
    "simple sameframe pos quat ipos iquat inertia subtreemass bvhadr bvhnum user plugin "
    "contype conaffinity invweight0",
    "jnt": "qposadr dofadr bodyid group pos axis range actfrcrange stiffnesspoly user actuatorid "
    "plasticadr",
    "dof": "bodyid jntid parentid treeid Madr simplenum M0 invweight0",
    "geom": "type bodyid dataid matid group sameframe size aabb rbound pos quat user rgba plugin "
    "castshadow",
    "actuator": "trnid gear actadr ctrladr outadr historyadr gainprm biasprm ctrlrange forcerange "
    "actrange acc0 length0 lengthrange group user plugin",
    "tendon": "adr num treenum treeid matid group width range actfrcrange stiffnesspoly "
    "lengthspring length0 user rgba actuatorid plasticadr invweight0",
    "eq": "obj1id obj2id data",
    "pair": "geom1 geom2 signature",
}


class MismatchError(Exception):
    """Two entries that would have to be alike are not.

    Args:
        reason: one clause that names both.
        depth: how far the comparison had come: of several reasons the deepest is told.
    """

    def __init__(self, reason: str, depth: float = 0.0) -> None:
        super().__init__(reason)
        self.depth = depth


def named(model: Any, kind: str, i: int) -> str:
    """Such as ``geom 'floor'``, or ``geom 3 of body 'torso'`` where it has no name."""
    title = TITLES.get(kind, kind)
    if kind not in KINDS:
        return f"{title} {i}"
    name = mujoco.mj_id2name(model, KINDS[kind], i)
    if name:
        return f"{title} {name!r}"
    if kind in ("geom", "jnt"):
        body = int(getattr(model, f"{kind}_bodyid")[i])
        return f"{title} {i} of {named(model, 'body', body)}"
    return f"{title} {i}"


def alike(one: Any, other: Any, tolerance: float = TOLERANCE) -> bool:
    """Whether two numbers or arrays are equal up to rounding."""
    a, b = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    if a.shape != b.shape or (a == b).all():
        return a.shape == b.shape
    return bool(np.allclose(a, b, rtol=tolerance, atol=tolerance))


def require(kind: str, model: Any, i: int, j: int, what: str, *values: Any, depth: float) -> None:
    """Refuse values that are not alike.

    Raises:
        MismatchError: ``what`` differs.
    """
    one, other = values
    if not alike(one, other):
        raise MismatchError(
            f"{what} of {named(model, kind, j)} is {_short(other)}, that of "
            f"{named(model, kind, i)} would become {_short(one)}",
            depth,
        )


def require_same_fields(model: Any, kind: str, i: int, j: int, depth: float) -> None:
    """Refuse entries of which a field differs that nobody handles by itself.

    Raises:
        MismatchError: it names the field.
    """
    for field in _fields(kind) if i != j else ():
        array = getattr(model, f"{kind}_{field}")
        if not alike(array[i], array[j]):
            shown_as = kind if kind in KINDS else "jnt"
            a, b = (i, j) if kind in KINDS else (int(model.dof_jntid[i]), int(model.dof_jntid[j]))
            raise MismatchError(
                f"{field} of {named(model, shown_as, a)} is {_short(array[i])}, of "
                f"{named(model, shown_as, b)} {_short(array[j])}",
                depth,
            )


def require_same_forces(model: Any, kind: str, i: int, j: int, sign: int, depth: float) -> None:
    """Refuse joints or tendons whose springs or limits of force differ, seen the other way round.

    A spring pulls by k·x + Σₙ pₙ·xⁿ⁺², of which even powers are stronger one way than the other.

    Args:
        model: the model.
        kind: ``"jnt"`` or ``"tendon"``.
        i: which becomes j.
        j: the image.
        sign: by which lengths and angles change.
        depth: how far the comparison has come.

    Raises:
        MismatchError: they differ.
    """
    polynomial = getattr(model, f"{kind}_stiffnesspoly")
    moved = polynomial[i] * float(sign) ** np.arange(1, polynomial.shape[1] + 1)
    require(kind, model, i, j, "stiffnesspoly", moved, polynomial[j], depth=depth)
    if getattr(model, f"{kind}_actfrclimited")[i]:
        limits = getattr(model, f"{kind}_actfrcrange")
        moved = np.sort(sign * limits[i])
        require(kind, model, i, j, "actfrcrange", moved, limits[j], depth=depth)


@cache
def _fields(kind: str) -> tuple[str, ...]:
    left_out = set(LEFT_OUT[kind].split())
    fields = (a[len(kind) + 1 :] for a in dir(mujoco.MjModel) if a.startswith(f"{kind}_"))
    return tuple(field for field in fields if field not in left_out)


def _short(value: Any) -> str:
    array = np.asarray(value)
    if array.ndim == 0:
        return f"{array[()]:.6g}"
    listed = ", ".join(f"{x + 0.0:.6g}" for x in array.ravel()[:10])
    return f"[{listed}{', …' if array.size > 10 else ''}]"
