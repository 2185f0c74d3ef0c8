"""Rotations as unit quaternions ``(w, x, y, z)``, and what they do as linear maps."""

from __future__ import annotations

import mujoco
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def as_rotation(quaternion: Array) -> Array:
    """``[4] -> [3, 3]``."""
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, np.asarray(quaternion, dtype=np.float64))
    return matrix.reshape(3, 3)


def as_quaternion(rotation: Array) -> Array:
    """``[3, 3] -> [4]``; of an improper map that of its product with the point reflection."""
    proper = rotation * np.sign(np.linalg.det(rotation))
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(proper).ravel())
    mujoco.mju_normalize4(quaternion)
    return quaternion


def two_sided(left: Array, right: Array) -> Array:
    """The matrix ``[4, 4]`` of q ↦ r q s*, which takes a rotation Q to R Q Sᵀ.

    Args:
        left: R, orthogonal ``[3, 3]``.
        right: S, orthogonal, of the same determinant: two point reflections cancel.
    """
    r, s = as_quaternion(left), as_quaternion(right)
    s[1:] *= -1
    columns = []
    for unit in np.eye(4):
        once, twice = np.zeros(4), np.zeros(4)
        mujoco.mju_mulQuat(once, r, unit)
        mujoco.mju_mulQuat(twice, once, s)
        columns.append(twice)
    return np.stack(columns, axis=1)
