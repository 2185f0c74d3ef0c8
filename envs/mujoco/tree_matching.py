"""Which body, joint and geom becomes which when the world is mirrored or turned.

An orthogonal map R of the world takes body b to a body b′ of the same shape. Both have frames, and
the local map S_b between them is orthogonal with det S_b = det R. For the children of b in the tree
it follows from S_b, so that there is nothing to choose but which child becomes which: the search
compares early what is cheap and stops at the first difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mujoco
import numpy as np

from equirl.envs.mujoco.geometry import require_same_shape
from equirl.envs.mujoco.model_fields import (
    MismatchError,
    alike,
    named,
    require,
    require_same_fields,
    require_same_forces,
)
from equirl.envs.mujoco.quaternions import Array, as_rotation

FREE, BALL, SLIDE, HINGE = (
    int(getattr(mujoco.mjtJoint, f"mjJNT_{kind}")) for kind in ("FREE", "BALL", "SLIDE", "HINGE")
)


@dataclass
class Matching:
    """A map of the world and what becomes what under it.

    Args:
        model: the model.
        world: R, ``[3, 3]``.
        exchanged: bodies whose image is prescribed.
        askew: whether free bodies show their own planes of symmetry to a mirror, however they were
            turned when they were built; else they turn with the world.
    """

    model: Any
    world: Array
    exchanged: Mapping[int, int] = field(default_factory=dict)
    askew: bool = False

    def __post_init__(self) -> None:
        model = self.model
        self.frames: dict[int, Array] = {0: self.world}
        self.bodies: dict[int, int] = {0: 0}
        self.joints: dict[int, int] = {}
        self.signs: dict[int, int] = {}
        self.shifts: dict[int, float] = {}
        self.geoms: dict[int, int] = {}
        self.children: dict[int, list[int]] = {b: [] for b in range(model.nbody)}
        for b in range(1, model.nbody):
            self.children[int(model.body_parentid[b])].append(b)
        self.collides = _colliding_geoms(model)
        self.in_fluid = model.opt.density > 0 or model.opt.viscosity > 0

    def search(self) -> None:
        """Find the images of all bodies.

        Raises:
            MismatchError: there are none.
        """
        self._match_body(0, 0, self.world, 0)

    def _match_body(self, b: int, to: int, frame: Array, depth: int) -> None:
        """Take body b to body ``to`` with everything on it."""
        model = self.model
        self.frames[b], self.bodies[b] = frame, to
        moves = bool(model.body_weldid[b])
        if moves:
            self._match_joints(b, to, frame, depth + 0.2)
        own, theirs = (self._colliding(body) for body in (b, to))
        if len(own) != len(theirs):
            raise MismatchError(
                f"{named(model, 'body', b)} has {len(own)} geoms that collide, "
                f"{named(model, 'body', to)} has {len(theirs)}",
                depth,
            )

        def match_geom(i: int, j: int) -> None:
            require_same_shape(model, i, j, frame, depth + 0.3)
            require_same_fields(model, "geom", i, j, depth + 0.6)
            self.geoms[i] = j

        assign(own, theirs, match_geom)
        if moves:
            require_same_fields(model, "body", b, to, depth + 0.7)
            self._match_inertia(b, to, frame, depth + 0.8)
        own, theirs = (self._relevant_children(body) for body in (b, to))
        if len(own) != len(theirs):
            raise MismatchError(
                f"{named(model, 'body', b)} carries {len(own)} bodies, "
                f"{named(model, 'body', to)} carries {len(theirs)}",
                depth,
            )
        assign(
            own,
            theirs,
            lambda c, d: self._match_child(c, d, frame, depth),
            lambda c, d: self.exchanged.get(c, d) == d,
        )

    def _match_child(self, c: int, to: int, parent: Array, depth: int) -> None:
        model = self.model
        own, theirs = as_rotation(model.body_quat[c]), as_rotation(model.body_quat[to])
        if self._joint_types(c) != self._joint_types(to):
            raise MismatchError(
                f"{named(model, 'body', c)} and {named(model, 'body', to)} have other joints", depth
            )
        if FREE in self._joint_types(c):
            frames = self._frames_of_free_body(theirs.T @ self.world @ own)
            assign(
                [0],
                range(len(frames)),
                lambda _, k: self._match_body(c, to, frames[k], depth + 1),
            )
            return
        gap = parent @ model.body_pos[c] - model.body_pos[to]
        slides = [j for j in self._joints(to) if model.jnt_type[j] == SLIDE]
        self.shifts |= dict.fromkeys(slides, 0.0)
        if not alike(gap, np.zeros(3)):  # sliding along their axes may close it
            axes = (theirs @ model.jnt_axis[slides].T).reshape(3, len(slides))
            shifts = np.linalg.lstsq(axes, gap, rcond=None)[0]
            moved = axes @ shifts
            self.shifts |= dict(zip(slides, shifts.tolist(), strict=True))
            at = model.body_pos[to] + moved
            place = parent @ model.body_pos[c]
            require("body", model, c, to, "the place", place, at, depth=depth)
        self._match_body(c, to, theirs.T @ parent @ own, depth + 1)

    def _frames_of_free_body(self, aligned: Array) -> list[Array]:
        planes = [np.eye(3) - 2 * np.diag(axis) for axis in np.eye(3)]
        return planes if self.askew else [aligned]

    def _match_joints(self, b: int, to: int, frame: Array, depth: float) -> None:
        """Slides of one body may change places, hinges keep their order."""
        unused = self._joints(to)
        for j in self._joints(b):
            kind = self.model.jnt_type[j]
            first = next(k for k in unused if self.model.jnt_type[k] == kind)
            candidates = [k for k in unused if self.model.jnt_type[k] == kind]
            candidates = candidates if kind == SLIDE else [first]
            image = assign([j], candidates, lambda i, k: self._match_joint(i, k, frame, depth))[0]
            unused.remove(image)

    def _match_joint(self, j: int, k: int, frame: Array, depth: float) -> None:
        model, sign = self.model, 1
        kind = model.jnt_type[j]
        if kind in (SLIDE, HINGE):
            cosine = float(frame @ model.jnt_axis[j] @ model.jnt_axis[k])
            sign = 1 if cosine > 0 else -1
            axis = frame @ model.jnt_axis[j]
            require("jnt", model, j, k, "the axis", axis, sign * model.jnt_axis[k], depth=depth)
            if kind == HINGE and np.linalg.det(frame) < 0:
                sign = -sign
        if kind in (BALL, HINGE):
            apart = frame @ model.jnt_pos[j] - model.jnt_pos[k]
            if kind == HINGE:  # where along its axis a hinge sits makes no difference
                apart = apart - (apart @ model.jnt_axis[k]) * model.jnt_axis[k]
            require("jnt", model, j, k, "the anchor", apart, np.zeros(3), depth=depth)
        require_same_fields(model, "jnt", j, k, depth + 0.1)
        require_same_forces(model, "jnt", j, k, sign, depth + 0.1)
        if kind in (SLIDE, HINGE):
            self._require_same_angles(j, k, sign, depth + 0.1)
            d, e = int(model.jnt_dofadr[j]), int(model.jnt_dofadr[k])
            require_same_fields(model, "dof", d, e, depth + 0.1)
        self.joints[j], self.signs[j] = k, sign

    def _require_same_angles(self, j: int, k: int, sign: int, depth: float) -> None:
        """The limits and the spring's rest, which move with the joint."""
        model = self.model
        a, b = int(model.jnt_qposadr[j]), int(model.jnt_qposadr[k])
        shift = model.qpos0[b] + self.shifts.get(k, 0.0) - sign * model.qpos0[a]
        if model.jnt_limited[j]:
            limits = np.sort(sign * model.jnt_range[j] + shift)
            require("jnt", model, j, k, "range", limits, model.jnt_range[k], depth=depth)
        if model.jnt_stiffness[j] or model.jnt_stiffnesspoly[j].any():
            rest = sign * model.qpos_spring[a] + shift
            require("jnt", model, j, k, "springref", rest, model.qpos_spring[b], depth=depth)

    def _match_inertia(self, b: int, to: int, frame: Array, depth: float) -> None:
        model = self.model
        centre = frame @ model.body_ipos[b]
        require(
            "body", model, b, to, "the centre of mass", centre, model.body_ipos[to], depth=depth
        )
        own, theirs = (as_rotation(model.body_iquat[x]) for x in (b, to))
        mine = frame @ own @ np.diag(model.body_inertia[b]) @ own.T @ frame.T
        other = theirs @ np.diag(model.body_inertia[to]) @ theirs.T
        scale = max(1e-300, float(np.abs(other).max()))
        require("body", model, b, to, "inertia", mine / scale, other / scale, depth=depth)
        turned = np.abs(theirs.T @ frame @ own)
        if self.in_fluid and not alike(turned, np.rint(turned), 1e-6):
            raise MismatchError(
                f"the box in which the fluid sees {named(model, 'body', b)} is turned against that "
                f"of {named(model, 'body', to)}",
                depth,
            )

    def _joints(self, b: int) -> list[int]:
        first = int(self.model.body_jntadr[b])
        return list(range(first, first + int(self.model.body_jntnum[b])))

    def _joint_types(self, b: int) -> list[int]:
        return [int(self.model.jnt_type[j]) for j in self._joints(b)]

    def _colliding(self, b: int) -> list[int]:
        own = self.collides & (self.model.geom_bodyid == b)
        return [int(i) for i in np.flatnonzero(own)]

    def _relevant_children(self, b: int) -> list[int]:
        return [c for c in self.children[b] if self._is_relevant(c)]

    def _is_relevant(self, b: int) -> bool:
        """Not a mere mark in the world."""
        return (
            bool(self.model.body_weldid[b])
            or bool(self._colliding(b))
            or any(self._is_relevant(c) for c in self.children[b])
        )


def assign(
    own: Iterable[int],
    theirs: Iterable[int],
    match: Callable[[int, int], None],
    may: Callable[[int, int], bool] = lambda i, j: True,
) -> list[int]:
    """For each of ``own`` one of ``theirs`` that it matches, itself if it can, each used once.

    What one matches the others match too or not at all (they are related by the same map), so that
    the first that matches may be taken.

    Raises:
        MismatchError: one matches none; the reason that was reached last is told.
    """
    unused, images = list(theirs), []
    for i in own:
        reasons = []
        # mypy cannot infer a lambda with a default.
        for j in sorted(unused, key=lambda j, i=i: j != i):  # type: ignore[misc]
            if not may(i, j):
                continue
            try:
                match(i, j)
            except MismatchError as error:
                reasons.append(error)
                continue
            unused.remove(j)
            images.append(j)
            break
        else:
            last_first = reversed(reasons)  # not that it differs from itself moved
            raise max(last_first, key=lambda r: r.depth, default=MismatchError("nothing is left"))
    return images


def _colliding_geoms(model: Any) -> Any:
    """Which geoms may touch anything or are seen by a fluid; the others are looks."""
    collides = (model.geom_contype != 0) | (model.geom_conaffinity != 0)
    collides |= (model.geom_fluid != 0).any(axis=1)
    collides[model.pair_geom1] = collides[model.pair_geom2] = True
    return collides
