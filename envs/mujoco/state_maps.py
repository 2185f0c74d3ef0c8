"""From which body and joint becomes which to linear maps of the state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from equirl.envs.mujoco.quaternions import Array, two_sided
from equirl.envs.mujoco.tree_matching import BALL, FREE, Matching


@dataclass(frozen=True, eq=False)
class AffineMap:
    """x ↦ matrix · x + offset.

    Args:
        matrix: ``[n, n]``, orthogonal.
        offset: ``[n]``.
    """

    matrix: Array
    offset: Array

    def __call__(self, x: Array) -> Array:
        """``[n] -> [n]``."""
        moved: Array = self.matrix @ np.asarray(x, dtype=np.float64) + self.offset
        return moved

    @property
    def is_signed_permutation(self) -> bool:
        """Whether every entry becomes plus or minus another one."""
        rounded = np.rint(self.matrix)
        return not self.offset.any() and np.array_equal(self.matrix, rounded)


def linear(matrix: Array) -> AffineMap:
    """Without offset, entries that are whole numbers up to rounding made so."""
    return affine(matrix, np.zeros(len(matrix)))


def affine(matrix: Array, offset: Array) -> AffineMap:
    """Entries that are whole numbers up to rounding made so."""
    whole = np.rint(matrix)
    offset = np.where(np.abs(offset) < 1e-9, 0.0, offset)
    return AffineMap(np.where(np.abs(matrix - whole) < 1e-9, whole, matrix) + 0.0, offset)


def position_map(found: Matching) -> AffineMap:
    """The map of ``qpos``."""
    model = found.model
    matrix, offset = np.zeros((model.nq, model.nq)), np.zeros(model.nq)
    for j, k in found.joints.items():
        a, b = int(model.jnt_qposadr[j]), int(model.jnt_qposadr[k])
        frame = found.frames[int(model.jnt_bodyid[j])]
        if model.jnt_type[j] == FREE:
            matrix[b : b + 3, a : a + 3] = found.world
            turn = two_sided(found.world, frame)
            start, end = model.qpos0[a + 3 : a + 7], model.qpos0[b + 3 : b + 7]
            sign = -1.0 if end @ turn @ start < -1e-9 else 1.0  # q and -q are one rotation
            matrix[b + 3 : b + 7, a + 3 : a + 7] = sign * turn
        elif model.jnt_type[j] == BALL:
            matrix[b : b + 4, a : a + 4] = two_sided(frame, frame)
        else:
            sign = found.signs[j]
            matrix[b, a] = sign
            offset[b] = model.qpos0[b] + found.shifts.get(k, 0.0) - sign * model.qpos0[a]
    return affine(matrix, offset)


def velocity_map(found: Matching) -> AffineMap:
    """The map of ``qvel``, and of forces on the degrees of freedom."""
    model = found.model
    matrix = np.zeros((model.nv, model.nv))
    for j, k in found.joints.items():
        a, b = int(model.jnt_dofadr[j]), int(model.jnt_dofadr[k])
        frame = found.frames[int(model.jnt_bodyid[j])]
        turn = np.linalg.det(frame) * frame  # angular velocities are pseudovectors
        if model.jnt_type[j] == FREE:
            matrix[b : b + 3, a : a + 3] = found.world
            matrix[b + 3 : b + 6, a + 3 : a + 6] = turn
        elif model.jnt_type[j] == BALL:
            matrix[b : b + 3, a : a + 3] = turn
        else:
            matrix[b, a] = found.signs[j]
    return linear(matrix)
