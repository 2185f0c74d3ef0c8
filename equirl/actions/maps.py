"""`Maps`: stacks of maps on flat points, and what all kinds of them share.

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

    ``count`` is K, ``entries`` is n.

    Args:
        arrays: the kind's own arrays by name, each with K as its first dimension, in the order in
            which the kind's constructor takes them.
    """

    def __init__(self, **arrays: NumpyArray | None) -> None:
        for array in arrays.values():
            if array is not None:
                array.setflags(write=False)
        first = next(array for array in arrays.values() if array is not None)
        self.count = len(first)
        self.entries = int(first.shape[1])
        self._arrays = arrays
        self._constants: dict[Any, dict[str, Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(self._arrays.values())

    @property
    def arrays(self) -> dict[str, NumpyArray | None]:
        """The kind's own arrays by name, as its constructor takes them."""
        return dict(self._arrays)

    def __deepcopy__(self: Self, memo: dict[int, Any]) -> Self:
        return self

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

    def first_moved(self) -> int:
        """The first entry that not every map treats as map 0 does; 0 where all do."""
        moved = np.zeros(self.entries, dtype=bool)
        for array in self._arrays.values():
            if array is not None:
                moved |= (array != array[:1]).reshape(*array.shape[:2], -1).any(axis=(0, 2))
        return int(moved.argmax())

    def fingerprint(self) -> NumpyArray:
        """``[K, 4]`` numbers that differ between maps that differ, up to rounding."""
        generator = np.random.default_rng(0)
        total: NumpyArray = np.zeros((self.count, 4))
        for array in self._arrays.values():
            if array is not None:
                flat = array.reshape(len(array), -1)
                total = total + flat @ generator.uniform(0.5, 1.5, size=(flat.shape[1], 4))
        return total

    def polished(self: Self, table: NumpyArray) -> Self:
        """The same action of the group with this Cayley table, as exact and as small as it gets."""
        return self

    @abstractmethod
    def compose(self: Self, other: Self) -> Self:
        """Map by map, first ``other`` then ``self``; a stack of one is used for all."""

    @abstractmethod
    def orbit(self, x: Array) -> Array:
        """``[batch, n] -> [batch, K, n]``: every map applied to every point."""

    @abstractmethod
    def each(self, k: Array, x: Array) -> Array:
        """``[..., n] -> [..., n]``: map ``k[...]`` applied to point ``x[...]``, k broadcast."""

    def along(self, x: Array) -> Array:
        """``[batch, K, n] -> [batch, K, n]``: map k applied to point ``x[:, k]``."""
        k: Any = np.arange(self.count)
        return self.each(torch.from_numpy(k).to(x.device) if isinstance(x, torch.Tensor) else k, x)

    @abstractmethod
    def relabelled(self: Self, order: NumpyArray) -> Self:
        """The same maps on points whose entries are listed in another order, ``y = x[order]``."""


SIGNED_VIEWS = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
"""Torch does little arithmetic on unsigned integers: the signed dtype with the same bits."""


def gather_entries(x: Any, index: Any) -> Any:
    """``[..., n] -> [..., n]``: entry ``index[..., i]`` of each point, ``index`` broadcast."""
    if isinstance(x, torch.Tensor):
        if x.dtype in SIGNED_VIEWS:  # torch gathers signed integers only; the bits are what moves
            return gather_entries(x.view(SIGNED_VIEWS[x.dtype]), index).view(x.dtype)
        return x.gather(-1, index.expand(x.shape))
    return np.take_along_axis(x, np.broadcast_to(index, x.shape), axis=-1)


def select_entries(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """``[batch, n] -> [batch, m]``: the entries ``index`` ``[m]`` of each point."""
    if x.dtype in SIGNED_VIEWS:  # as in `gather_entries`
        return select_entries(x.view(SIGNED_VIEWS[x.dtype]), index).view(x.dtype)
    row_by_row = x.device.type == "cpu" and x.shape[1] >= LARGE_POINT and not x.requires_grad
    if row_by_row and not torch.compiler.is_exporting():  # to which the batch has any size
        selected = x.new_empty(len(x), len(index))
        for row, out in zip(x, selected, strict=True):
            torch.index_select(row, 0, index, out=out)
        return selected
    return x.index_select(1, index)


LARGE_POINT = 1024
"""From this many entries on, such as in images, torch selects row by row several times faster."""
