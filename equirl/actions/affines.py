"""`Affines`: maps that mix entries, such as rotations, as dense matrices and offsets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from scipy.linalg import matrix_balance

from equirl.actions.maps import CLOSING, CLOSING_OFFSET, TINY, Array, Maps, NumpyArray


class Affines(Maps):
    """``y = A x + b``; integer points are computed in float64 and rounded, or where that could not
    hold them (arrays of int64 and uint64) in their own dtype, by whole coefficients.

    Args:
        matrix: float64 ``[K, n, n]``.
        offset: float64 ``[K, n]``.
    """

    def __init__(self, matrix: NumpyArray, offset: NumpyArray) -> None:
        super().__init__(matrix=matrix, offset=offset)
        self.matrix, self.offset = matrix, offset

    def identity(self) -> Affines:
        return Affines(np.eye(self.entries)[None], np.zeros((1, self.entries)))

    @property
    def rounds(self) -> bool:
        return True

    @classmethod
    def joined(cls, stacks: Sequence[Affines]) -> Affines:
        ends = np.cumsum([stack.entries for stack in stacks])
        matrix = np.zeros((stacks[0].count, ends[-1], ends[-1]))
        for stack, end in zip(stacks, ends, strict=True):
            matrix[:, end - stack.entries : end, end - stack.entries : end] = stack.matrix
        return cls(matrix, np.concatenate([stack.offset for stack in stacks], axis=1))

    def rulers(self) -> dict[str, Any]:
        """Relative to the size of the numbers, in units that balance the entries.

        A matrix typed in single precision comes back to the identity to about 1e-6, in skew
        coordinates less so; a rotation by one radian comes no nearer than 6e-5 in 710 steps.
        """
        matrix = np.full(self.matrix.shape[1:], CLOSING)
        offset = np.full(self.entries, TINY)
        for part in _mixed(self.matrix):
            square = np.ix_(part, part)
            largest = np.abs(self.matrix).max(axis=0)[square]
            balanced, (units, _) = matrix_balance(largest, permute=False, separate=True)
            skew = max(1.0, float(balanced.max())) ** 2
            matrix[square] = CLOSING * skew * units[:, None] / units
            size = (np.abs(self.offset[:, part]) / units).max()
            offset[part] += CLOSING_OFFSET * skew * size * units
        return {"matrix": matrix, "offset": offset}

    def compose(self, other: Affines) -> Affines:
        return Affines(
            self.matrix @ other.matrix,
            np.einsum("kij,kj->ki", *_broadcast(self.matrix, other.offset)) + self.offset,
        )

    def orbit(self, x: Array) -> Array:
        return self._product("kij,bj->bki", slice(None), x)

    def each(self, k: Array, x: Array) -> Array:
        return self._product("...ij,...j->...i", k, x)

    def _product(self, equation: str, k: Any, x: Any) -> Any:
        constants = self.constants(x)
        matrix, offset = constants["matrix"][k], constants["offset"][k]
        if isinstance(x, torch.Tensor):
            if x.dtype.is_floating_point:
                return torch.einsum(equation, matrix, x) + offset
            return (torch.einsum(equation, matrix, x.double()) + offset).round().to(x.dtype)
        if np.issubdtype(x.dtype, np.floating):
            return np.einsum(equation, matrix, x) + offset
        if x.dtype.itemsize == 8 and _are_whole(matrix) and _are_whole(offset):
            whole, shift = (np.rint(part).astype(np.int64) for part in (matrix, offset))
            return np.einsum(equation, whole.astype(x.dtype), x) + shift.astype(x.dtype)
        return np.rint(np.einsum(equation, matrix, x.astype(np.float64)) + offset).astype(x.dtype)

    def range_over(self, low: NumpyArray, high: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
        """``[K, n]`` each: the least and the most every entry becomes where low ≤ x ≤ high."""
        rising, falling = self.matrix.clip(min=0), self.matrix.clip(max=0)
        least = rising @ low + falling @ high + self.offset
        return least, rising @ high + falling @ low + self.offset

    def relabelled(self, order: NumpyArray) -> Affines:
        return Affines(self.matrix[:, order][:, :, order], self.offset[:, order])

    def polished(self, table: NumpyArray) -> Affines:
        """The nearby exact representation of the group with this Cayley table.

        Generators carry rounding errors, and their products carry more. Averaging
        ``A_g ← 1/|G| Σ_h A_gh A_h⁻¹`` squares the distance to a representation at every step
        (Grove, Karcher & Ruh 1974), so a few steps reach machine precision.
        """
        matrix, offset = self.matrix.copy(), self.offset.copy()
        for part in _mixed(self.matrix):
            square = np.ix_(np.arange(self.count), part, part)
            matrix[square], offset[:, part] = _polished(matrix[square], offset[:, part], table)
        return Affines(matrix, offset)


def _are_whole(coefficients: NumpyArray) -> bool:
    """Whether these are whole numbers, up to rounding, that float64 holds exactly."""
    rounds = np.abs(coefficients - np.rint(coefficients)) > TINY
    return not (rounds | (np.abs(coefficients) > 2.0**53)).any()


def _mixed(matrix: NumpyArray) -> Iterator[NumpyArray]:
    """The sets of entries, as few in each as can be, that no map mixes with others."""
    n = matrix.shape[1]
    mixes = (matrix != 0).any(axis=0)
    mixes |= mixes.T | np.eye(n, dtype=bool)
    first = np.arange(n)
    while True:
        found = np.where(mixes, first, n).min(axis=1)
        found = found[found]
        if np.array_equal(found, first):
            break
        first = found
    return (np.flatnonzero(first == i) for i in np.unique(first))


def _polished(
    matrix: NumpyArray, offset: NumpyArray, table: NumpyArray
) -> tuple[NumpyArray, NumpyArray]:
    """`Affines.polished`, of the maps of one set of entries; its cost is |G|² n³."""
    count, n = offset.shape
    if (matrix == np.eye(n)).all() and not offset.any():
        return matrix, offset
    homogeneous = np.zeros((count, n + 1, n + 1))
    homogeneous[:, :n, :n], homogeneous[:, :n, n] = matrix, offset
    homogeneous[:, n, n] = 1
    homogeneous[0] = np.eye(n + 1)
    for _ in range(3):
        inverse = np.linalg.inv(homogeneous).reshape(-1, n + 1)
        # The sum over h is that of one product of matrices.
        rows = np.ascontiguousarray(homogeneous.transpose(1, 0, 2))
        sums = [rows[:, row].reshape(n + 1, -1) @ inverse for row in table]
        homogeneous = np.stack(sums) / count
        homogeneous[0] = np.eye(n + 1)
    nearest = np.rint(homogeneous)
    homogeneous = np.where(np.abs(homogeneous - nearest) < 1e-14, nearest, homogeneous)
    return homogeneous[:, :n, :n], homogeneous[:, :n, n]


def _broadcast(matrix: NumpyArray, vector: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
    count = max(len(matrix), len(vector))
    return (
        np.broadcast_to(matrix, (count, *matrix.shape[1:])),
        np.broadcast_to(vector, (count, *vector.shape[1:])),
    )
