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

from equirl.recording import is_recording

Array = Any
"""A NumPy array or a tensor; what comes out is of the kind that went in."""

NumpyArray = npt.NDArray[Any]
Self = TypeVar("Self", bound="Maps")

TOLERANCE = 1e-6
"""Two maps count as equal when all their coefficients agree to this; indices agree exactly."""

CLOSING = 1e-5
"""The same for matrices while a group is closed, see `Affines.rulers`."""

CLOSING_OFFSET = 2e-6
"""The same for offsets, relative to the largest offset of entries that the group exchanges."""

TINY = 1e-12
"""What is left of an offset of zero by rounding."""


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
        """This stack's arrays as ``x`` needs them: same library, device and dtype.

        They are kept for each device and dtype that was met, and so are at most a few copies of
        the arrays. Buffers of a module would not do: a `GroupAction` is not a module, moves arrays
        and tensors alike, and is shared by environments, networks and replay buffers. Copies and
        pickles of a stack do not take them along. Made anew in every call they would cost 5 to 8 %
        of the training of DQN on CartPole (an orbit 34 µs for 12; of one 84 × 84 image under the
        square 560 µs for 160), and on a GPU a copy from the host each time.
        """
        key = (x.device, x.dtype) if isinstance(x, torch.Tensor) else x.dtype
        # In a graph they are part of it, whether they are known already or not.
        kept = {} if is_recording() else self._constants
        if key not in kept:
            kept[key] = {
                name: None if array is None else self._cast(array, x)
                for name, array in self._arrays.items()
            }
        return kept[key]

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

    @property
    def rounds(self) -> bool:
        """Whether numbers that are not whole are rounded; else they are what they were, moved."""
        return False

    def rulers(self) -> dict[str, Any]:
        """For a stack of generators, by array: how far equal coefficients may differ.

        They are compared while a group is closed, when rounding errors have added up.
        """
        return dict.fromkeys(self._arrays, 0.5)  # indices, tables and signs agree exactly

    def polished(self: Self, table: NumpyArray) -> Self:
        """The same action of the group with this Cayley table, as exact and as small as it gets."""
        return self

    @abstractmethod
    def identity(self: Self) -> Self:
        """One map, on the same points, that leaves them where they are."""

    @classmethod
    @abstractmethod
    def joined(cls: type[Self], stacks: Sequence[Self]) -> Self:
        """K maps on points that are put together from those of each stack, in order."""

    def products(self: Self, words: Sequence[Sequence[int]]) -> Self:
        """The products of these maps along words, the last letter moving a point first."""
        found: dict[tuple[int, ...], Self] = {(): self.identity()}
        for word in map(tuple, words):
            known = next(n for n in range(len(word), -1, -1) if word[:n] in found)
            for n in range(known, len(word)):  # each beginning of a word is mostly one before it
                found[word[: n + 1]] = found[word[:n]].compose(self.take(word[n]))
        return self.stacked([found[tuple(word)] for word in words])

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
    if row_by_row and not is_recording():  # a graph must hold for a batch of any size
        selected = x.new_empty(len(x), len(index))
        for row, out in zip(x, selected, strict=True):
            torch.index_select(row, 0, index, out=out)
        return selected
    return x.index_select(1, index)


LARGE_POINT = 1024
"""From this many entries on, such as in images, torch selects row by row several times faster."""
