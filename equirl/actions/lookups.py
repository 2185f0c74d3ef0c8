"""`Lookups`: maps that exchange entries with finitely many values and rename the values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from equirl.actions.maps import Array, Maps, NumpyArray, gather_entries


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

    def identity(self) -> Lookups:
        low, most = self.low[:1], self.table[:1].max(axis=2)
        own = np.minimum(low[..., None] + np.arange(self.table.shape[2]), most[..., None])
        return Lookups(np.arange(self.entries)[None], own, low)

    @classmethod
    def joined(cls, stacks: Sequence[Lookups]) -> Lookups:
        starts = np.cumsum([0, *(stack.entries for stack in stacks)])
        most = max(stack.table.shape[2] for stack in stacks)
        tables = [
            np.pad(s.table, [(0, 0), (0, 0), (0, most - s.table.shape[2])], mode="edge")
            for s in stacks
        ]
        return cls(
            np.concatenate([s.index + at for s, at in zip(stacks, starts, strict=False)], axis=1),
            np.concatenate(tables, axis=1),
            np.concatenate([s.low for s in stacks], axis=1),
        )

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
        values = gather_entries(_whole(x), constants["index"][k])
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


def _whole(x: Any) -> Any:
    """Integers that can be subtracted: torch's bool and unsigned tensors cannot."""
    if isinstance(x, torch.Tensor) and not x.dtype.is_floating_point:
        return x.long()
    return x
