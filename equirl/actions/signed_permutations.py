"""`SignedPermutations`: maps that exchange entries, turn their signs and shift them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from equirl.actions.affines import Affines
from equirl.actions.maps import (
    CLOSING_OFFSET,
    SIGNED_VIEWS,
    TINY,
    TOLERANCE,
    Array,
    Maps,
    NumpyArray,
    gather_entries,
    select_entries,
)


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

    def identity(self) -> SignedPermutations:
        return SignedPermutations(np.arange(self.entries)[None]).with_all_arrays()

    @classmethod
    def joined(cls, stacks: Sequence[SignedPermutations]) -> SignedPermutations:
        starts = np.cumsum([0, *(stack.entries for stack in stacks)])
        full = [stack.with_all_arrays() for stack in stacks]
        index = [stack.index + at for stack, at in zip(full, starts, strict=False)]
        arrays: Any = (index, [s.sign for s in full], [s.offset for s in full])
        return cls(*(np.concatenate(parts, axis=1) for parts in arrays)).simplified()

    @property
    def rounds(self) -> bool:
        return self.offset is not None and bool((self.offset != 0).any())

    def rulers(self) -> dict[str, Any]:
        """Offsets, relative to the largest one of the entries that are exchanged."""
        full = self.with_all_arrays()
        assert full.offset is not None
        largest = np.abs(full.offset).max(axis=0)
        while True:
            spread = np.maximum(largest, largest[full.index].max(axis=0))
            if np.array_equal(spread, largest):
                break
            largest = spread
        return {**super().rulers(), "offset": CLOSING_OFFSET * largest + TINY}

    def polished(self, table: NumpyArray) -> SignedPermutations:
        return self.simplified()

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
        moved: Any
        if isinstance(x, torch.Tensor):
            moved = select_entries(x, constants["orbit_index"]).view(x.shape[0], *self.index.shape)
        else:
            moved = x[:, constants["index"]]
        return self._shifted(moved, constants["sign"], constants["offset"])

    def along(self, x: Array) -> Array:
        constants = self.constants(x)
        moved: Any
        if not isinstance(x, torch.Tensor):
            moved = gather_entries(x, constants["index"])
        else:
            moved = select_entries(x.flatten(1), constants["along_index"]).view(x.shape)
        return self._shifted(moved, constants["sign"], constants["offset"])

    def constants(self, x: Any) -> dict[str, Any]:
        constants = super().constants(x)
        if "orbit_index" not in constants:
            starts = np.arange(self.count)[:, None] * self.entries
            constants["orbit_index"] = self._cast(self.index.ravel(), x)
            constants["along_index"] = self._cast((starts + self.index).ravel(), x)
        return constants

    def each(self, k: Array, x: Array) -> Array:
        constants = self.constants(x)
        sign, offset = constants["sign"], constants["offset"]
        moved = gather_entries(x, constants["index"][k])
        return self._shifted(
            moved, None if sign is None else sign[k], None if offset is None else offset[k]
        )

    def orbit_head(self, x: torch.Tensor, entries: int) -> torch.Tensor:
        """The first ``entries`` entries of `orbit`, ``[batch, n] -> [batch, K, entries]``."""
        constants = self.constants(x)
        index = constants["index"][:, :entries]
        moved = select_entries(x, index.reshape(-1)).view(len(x), *index.shape)
        sign, offset = (
            None if constants[name] is None else constants[name][:, :entries]
            for name in ("sign", "offset")
        )
        head: torch.Tensor = self._shifted(moved, sign, offset)
        return head

    @staticmethod
    def _shifted(x: Any, sign: Any, offset: Any) -> Any:
        if (
            isinstance(x, torch.Tensor) and x.dtype in SIGNED_VIEWS
        ):  # torch has no unsigned arithmetic
            signed = x.view(SIGNED_VIEWS[x.dtype])
            return SignedPermutations._shifted(signed, sign, offset).view(x.dtype)
        # Integers wrap around, which is exact wherever the true result fits the dtype.
        if sign is not None:
            x = x * _to_dtype(sign, x)
        if offset is not None:
            x = x + _to_dtype(offset, x)
        return x

    def range_over(self, low: NumpyArray, high: NumpyArray) -> tuple[NumpyArray, NumpyArray]:
        """``[K, n]`` each: the least and the most every entry becomes where low ≤ x ≤ high."""
        ends = self.orbit(np.stack([low, high]))
        return ends.min(axis=0), ends.max(axis=0)

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


def _to_dtype(constant: Any, x: Any) -> Any:
    if isinstance(x, torch.Tensor):
        return constant if x.dtype.is_floating_point else constant.long().to(x.dtype)
    if x.dtype.kind == "f":
        return constant
    return constant.astype(np.int64).astype(x.dtype)
