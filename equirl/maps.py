"""Stacks of maps on flat points, and how they are applied to whole batches.

A point is a flat vector of n entries; a stack holds K maps. Three kinds cover every symmetry this
package accepts, each storing only what it needs:

=====================  ==========================================  ================
kind                   map                                         storage
=====================  ==========================================  ================
`SignedPermutations`   ``y[i] = sign[i] · x[index[i]] + offset[i]``  O(K n)
`Affines`              ``y = A x + b``                             O(K n²)
`Lookups`              ``y[i] = table[i, x[index[i]]]``            O(K n values)
=====================  ==========================================  ================

The masters are NumPy arrays (float64, int64); copies for a device and dtype are made on first use
and kept in `Maps.constants`. NumPy arrays and tensors go through the same code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

Array = Any
"""A NumPy array or a tensor; what comes out is of the kind that went in."""

NumpyArray = npt.NDArray[Any]
Self = TypeVar("Self", bound="Maps")

TOLERANCE = 1e-6
"""Two maps count as equal when all their coefficients agree to this; indices agree exactly."""

CLOSING = 1e-4
"""The same while a group is closed: in skew coordinates a generator typed in single precision
comes back to the identity only to this. `Affines.polished` then removes the difference, and other
elements of a group of at most 1,024 are not that near: 2π/1024 is 6e-3."""


class Maps(ABC):
    """K maps of one kind on points of n entries; immutable.

    Args:
        arrays: the kind's own arrays by name, each with K as its first dimension, in the order in
            which the kind's constructor takes them.
    """

    def __init__(self, **arrays: NumpyArray | None) -> None:
        for array in arrays.values():
            if array is not None:
                array.setflags(write=False)
        self._arrays = arrays
        self._constants: dict[Any, dict[str, Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(self._arrays.values())

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        return self

    @property
    def count(self) -> int:
        """K, the number of maps."""
        return len(self._first_array)

    @property
    def entries(self) -> int:
        """n, the number of entries of a point."""
        return int(self._first_array.shape[1])

    @property
    def _first_array(self) -> NumpyArray:
        return next(array for array in self._arrays.values() if array is not None)

    def constants(self, x: Any) -> dict[str, Any]:
        """This stack's arrays as ``x`` needs them: same library, device and dtype."""
        key = (x.device, x.dtype) if isinstance(x, torch.Tensor) else x.dtype
        if key not in self._constants:
            self._constants[key] = {
                name: None if array is None else self._cast(array, x)
                for name, array in self._arrays.items()
            }
        return self._constants[key]

    @staticmethod
    def _cast(array: NumpyArray, x: Any) -> Any:
        if isinstance(x, torch.Tensor):
            # A copy, since the masters are read-only, which torch cannot express.
            tensor = torch.from_numpy(array.copy()).to(x.device)
            keep = array.dtype == np.int64 or not x.dtype.is_floating_point
            return tensor if keep else tensor.to(x.dtype)
        keep = array.dtype == np.int64 or not np.issubdtype(x.dtype, np.floating)
        return array if keep else array.astype(x.dtype)

    def take(self: Self, k: int | NumpyArray) -> Self:
        """The maps numbered ``k``, as a stack of their own."""
        rows = np.atleast_1d(k)
        return type(self)(**{n: None if a is None else a[rows] for n, a in self._arrays.items()})

    @classmethod
    def stacked(cls: type[Self], stacks: Sequence[Self]) -> Self:
        """All maps of ``stacks``, in order, as one stack."""
        names = stacks[0]._arrays
        arrays: dict[str, NumpyArray | None] = {}
        for name in names:
            parts = [stack._arrays[name] for stack in stacks]
            present = [part for part in parts if part is not None]
            arrays[name] = np.concatenate(present) if len(present) == len(parts) else None
        return cls(**arrays)

    def equal(self: Self, other: Self, tolerance: float = TOLERANCE) -> npt.NDArray[np.bool_]:
        """``[K]`` (or broadcast against one map): where the two stacks hold the same map."""
        same = np.ones(1, dtype=bool)
        for name, mine in self._arrays.items():
            theirs = other._arrays[name]
            if mine is None or theirs is None:
                continue  # absent in every stack of this kind
            relative = 0.0 if mine.dtype == np.int64 else tolerance
            close = np.abs(mine - theirs) <= relative * (1 + np.abs(theirs))
            same = same & close.reshape(len(close), -1).all(axis=1)
        return same

    def fingerprint(self) -> NumpyArray:
        """``[K, 4]`` numbers that differ between maps that differ, up to rounding."""
        generator = np.random.default_rng(0)
        total: NumpyArray = np.zeros((self.count, 4))
        for array in self._arrays.values():
            if array is not None:
                flat = array.reshape(len(array), -1)
                total = total + flat @ generator.uniform(0.5, 1.5, size=(flat.shape[1], 4))
        return total

    @abstractmethod
    def compose(self: Self, other: Self) -> Self:
        """Map by map, first ``other`` then ``self``; a stack of one is used for all."""

    @abstractmethod
    def orbit(self, x: Array) -> Array:
        """``[batch, n] -> [batch, K, n]``: every map applied to every point."""

    @abstractmethod
    def each(self, k: Array, x: Array) -> Array:
        """``[..., n] -> [..., n]``: map ``k[...]`` applied to point ``x[...]``, k broadcast."""

    @abstractmethod
    def relabelled(self: Self, order: NumpyArray) -> Self:
        """The same maps on points whose entries are listed in another order, ``y = x[order]``."""


class SignedPermutations(Maps):
    """``y[i] = sign[i] · x[index[i]] + offset[i]``.

    Args:
        index: int64 ``[K, n]``.
        sign: ±1 as float64 ``[K, n]``, or None where all are +1.
        offset: float64 ``[K, n]``, or None where all are 0.
    """

    def __init__(
        self, index: NumpyArray, sign: NumpyArray | None = None, offset: NumpyArray | None = None
    ) -> None:
        super().__init__(index=index, sign=sign, offset=offset)
        self.index, self.sign, self.offset = index, sign, offset

    def simplified(self) -> SignedPermutations:
        """Without signs that are all +1 and offsets that are all 0."""
        sign = None if self.sign is None or (self.sign == 1).all() else self.sign
        offset = None if self.offset is None or (self.offset == 0).all() else self.offset
        return SignedPermutations(self.index, sign, offset)

    def with_all_arrays(self) -> SignedPermutations:
        """With signs and offsets written out, so that stacks can be compared and joined."""
        sign = np.ones(self.index.shape) if self.sign is None else self.sign
        offset = np.zeros(self.index.shape) if self.offset is None else self.offset
        return SignedPermutations(self.index, sign, offset)

    def equal(
        self, other: SignedPermutations, tolerance: float = TOLERANCE
    ) -> npt.NDArray[np.bool_]:
        return Maps.equal(self.with_all_arrays(), other.with_all_arrays(), tolerance)

    def compose(self, other: SignedPermutations) -> SignedPermutations:
        a, b = self.with_all_arrays(), other.with_all_arrays()
        assert a.sign is not None
        assert a.offset is not None
        assert b.sign is not None
        assert b.offset is not None
        shape = np.broadcast_shapes(a.index.shape, b.index.shape)
        rows = np.broadcast_to(a.index, shape)

        def behind(array: NumpyArray) -> NumpyArray:
            return np.take_along_axis(np.broadcast_to(array, shape), rows, axis=1)

        return SignedPermutations(
            behind(b.index), a.sign * behind(b.sign), a.sign * behind(b.offset) + a.offset
        )

    def orbit(self, x: Array) -> Array:
        constants = self.constants(x)
        index = constants["index"]
        flat: Any = x
        if isinstance(flat, torch.Tensor):
            moved = flat.index_select(1, index.flatten()).view(len(flat), *index.shape)
        else:
            moved = flat[:, index]
        return self._shifted(moved, constants["sign"], constants["offset"])

    def each(self, k: Array, x: Array) -> Array:
        constants = self.constants(x)
        sign, offset = constants["sign"], constants["offset"]
        moved = _gather(x, constants["index"][k])
        return self._shifted(
            moved, None if sign is None else sign[k], None if offset is None else offset[k]
        )

    @staticmethod
    def _shifted(x: Any, sign: Any, offset: Any) -> Any:
        if isinstance(x, torch.Tensor) and x.dtype in _SIGNED:  # torch has no unsigned arithmetic
            signed = x.view(_SIGNED[x.dtype])
            return SignedPermutations._shifted(signed, sign, offset).view(x.dtype)
        # Integers wrap around, which is exact wherever the true result fits the dtype.
        if sign is not None:
            x = x * _to_dtype(sign, x)
        if offset is not None:
            x = x + _to_dtype(offset, x)
        return x

    def relabelled(self, order: NumpyArray) -> SignedPermutations:
        position = np.argsort(order)
        return SignedPermutations(
            position[self.index[:, order]],
            None if self.sign is None else self.sign[:, order],
            None if self.offset is None else self.offset[:, order],
        )

    def as_affines(self) -> Affines:
        """The same maps as dense matrices."""
        full = self.with_all_arrays()
        assert full.sign is not None
        assert full.offset is not None
        matrix = np.zeros((self.count, self.entries, self.entries))
        np.put_along_axis(matrix, full.index[:, :, None], full.sign[:, :, None], axis=2)
        return Affines(matrix, full.offset)


class Affines(Maps):
    """``y = A x + b``; integer points are computed in float64 and rounded.

    Args:
        matrix: float64 ``[K, n, n]``.
        offset: float64 ``[K, n]``.
    """

    def __init__(self, matrix: NumpyArray, offset: NumpyArray) -> None:
        super().__init__(matrix=matrix, offset=offset)
        self.matrix, self.offset = matrix, offset

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
        return np.rint(np.einsum(equation, matrix, x.astype(np.float64)) + offset).astype(x.dtype)

    def relabelled(self, order: NumpyArray) -> Affines:
        return Affines(self.matrix[:, order][:, :, order], self.offset[:, order])

    def polished(self, table: NumpyArray) -> Affines:
        """The nearby exact representation of the group with this Cayley table.

        Generators carry rounding errors, and their products carry more. Averaging
        ``A_g ← 1/|G| Σ_h A_gh A_h⁻¹`` squares the distance to a representation at every step
        (Grove, Karcher & Ruh 1974), so a few steps reach machine precision.
        """
        n = self.entries
        homogeneous = np.zeros((self.count, n + 1, n + 1))
        homogeneous[:, :n, :n], homogeneous[:, :n, n] = self.matrix, self.offset
        homogeneous[:, n, n] = 1
        homogeneous[0] = np.eye(n + 1)
        for _ in range(3):
            inverse = np.linalg.inv(homogeneous)
            homogeneous = np.stack([(homogeneous[row] @ inverse).mean(axis=0) for row in table])
            homogeneous[0] = np.eye(n + 1)
        nearest = np.rint(homogeneous)
        homogeneous = np.where(np.abs(homogeneous - nearest) < 1e-14, nearest, homogeneous)
        return Affines(homogeneous[:, :n, :n].copy(), homogeneous[:, :n, n].copy())


class Lookups(Maps):
    """``y[i] = table[i, x[index[i]] - low[index[i]]]``, for entries with finitely many values.

    Args:
        index: int64 ``[K, n]``.
        table: int64 ``[K, n, values]``; an entry with fewer values repeats the last of its own.
        low: int64 ``[K, n]``, the smallest value of each entry (the same in every map).
    """

    def __init__(self, index: NumpyArray, table: NumpyArray, low: NumpyArray) -> None:
        super().__init__(index=index, table=table, low=low)
        self.index, self.table, self.low = index, table, low

    @classmethod
    def identity(cls, low: NumpyArray, values: NumpyArray) -> Lookups:
        """The map that keeps every value; ``low`` and ``values`` are ``[n]``."""
        own = np.minimum(np.arange(values.max()), values[:, None] - 1)
        index = np.arange(len(low))
        return cls(index[None], (low[:, None] + own)[None], low[None])

    def compose(self, other: Lookups) -> Lookups:
        shape = np.broadcast_shapes(self.index.shape, other.index.shape)
        rows = np.broadcast_to(self.index, shape)
        index = np.take_along_axis(np.broadcast_to(other.index, shape), rows, axis=1)
        values = (*shape, self.table.shape[2])
        inner = np.take_along_axis(np.broadcast_to(other.table, values), rows[..., None], axis=1)
        low = np.take_along_axis(np.broadcast_to(self.low, shape), rows, axis=1)
        outer = np.broadcast_to(self.table, values)
        return Lookups(
            index,
            np.take_along_axis(outer, inner - low[..., None], axis=2),
            np.broadcast_to(self.low, shape).copy(),
        )

    def orbit(self, x: Array) -> Array:
        constants = self.constants(x)
        values = _whole(x)[:, constants["index"]] - constants["low_at_index"]
        return self._looked_up(constants["table"], values, x)

    def each(self, k: Array, x: Array) -> Array:
        constants = self.constants(x)
        values = _gather(_whole(x), constants["index"][k])
        return self._looked_up(constants["table"][k], values - constants["low_at_index"][k], x)

    def constants(self, x: Any) -> dict[str, Any]:
        constants = super().constants(x)
        if "low_at_index" not in constants:
            low = np.take_along_axis(self.low, self.index, axis=1)
            constants["low_at_index"] = self._cast(low, x)
        return constants

    @staticmethod
    def _looked_up(table: Any, values: Any, like: Any) -> Any:
        if isinstance(values, torch.Tensor):
            shape = (*values.shape, table.shape[-1])
            found = table.expand(shape).gather(-1, values.long()[..., None])[..., 0]
            return found.to(like.dtype)
        shape = (*values.shape, table.shape[-1])
        where = values.astype(np.int64)[..., None]
        found = np.take_along_axis(np.broadcast_to(table, shape), where, axis=-1)[..., 0]
        return found.astype(like.dtype)

    def relabelled(self, order: NumpyArray) -> Lookups:
        position = np.argsort(order)
        return Lookups(position[self.index[:, order]], self.table[:, order], self.low[:, order])


_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


def _whole(x: Any) -> Any:
    """Integers that can be subtracted: torch's bool and unsigned tensors cannot."""
    if isinstance(x, torch.Tensor) and not x.dtype.is_floating_point:
        return x.long()
    return x


def _gather(x: Any, index: Any) -> Any:
    if isinstance(x, torch.Tensor):
        if x.dtype in _SIGNED:  # torch gathers signed integers only; the bits are what moves
            return _gather(x.view(_SIGNED[x.dtype]), index).view(x.dtype)
        return x.gather(-1, index.expand(x.shape))
    return np.take_along_axis(x, np.broadcast_to(index, x.shape), axis=-1)


def _to_dtype(constant: Any, x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return constant if x.dtype.is_floating_point else constant.long().to(x.dtype)
    if np.issubdtype(x.dtype, np.floating):
        return constant
    return constant.astype(np.int64).astype(x.dtype)


def _broadcast(matrix: NumpyArray, vector: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
    count = max(len(matrix), len(vector))
    return (
        np.broadcast_to(matrix, (count, *matrix.shape[1:])),
        np.broadcast_to(vector, (count, *vector.shape[1:])),
    )
