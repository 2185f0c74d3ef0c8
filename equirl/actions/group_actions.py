"""`GroupAction`: how a finite group moves the points of one space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from equirl.actions.constructions import Constructions
from equirl.actions.layout import Block, Leaf, as_leaves, from_leaves
from equirl.actions.lookups import Lookups
from equirl.actions.maps import Maps
from equirl.actions.points import Bounds, between, bounds_of, in_space
from equirl.actions.signed_permutations import SignedPermutations
from equirl.errors import SymmetryError
from equirl.groups import FiniteGroup

Elements = int | str | npt.NDArray[np.integer[Any]] | torch.Tensor | Sequence[int]
"""One group element (its number or name), or one number per row of a batch."""


@dataclass(frozen=True, eq=False)
class GroupAction(Constructions):
    """A group acting on the points of a space: ``e·x = x`` and ``(g·h)·x = g·(h·x)``.

    A point is an array, a tensor, or a dict of them; everything comes back in the library and on
    the device in which it was given. Floats keep their dtype, whole numbers take that of the space,
    and so do arrays of less precise floats.

    Args:
        group: the group G.
        leaves: the arrays a point consists of.
        blocks: positions of the leaves that are moved together.
        maps: for each block |G| maps on its concatenated flat leaves, identity first.

    Raises:
        SymmetryError: the maps are not an action of this group.
    """

    group: FiniteGroup
    leaves: tuple[Leaf, ...]
    blocks: tuple[Block, ...]
    maps: tuple[Maps, ...] = field(repr=False)

    inverse_maps: Maps = field(init=False, repr=False)
    """Of the first block, the map of g⁻¹ in place g."""

    _plain_shape: tuple[int, ...] | None = field(init=False, repr=False)
    """Of points that are one array of unbounded numbers; None where they are anything else."""

    _bounds: tuple[Bounds | None, ...] = field(init=False, repr=False)
    """Of each leaf, None for numbers that no table looks up."""

    first_moved: int | None = field(init=False, repr=False)
    """The first flat entry that some element moves; None for points that are not one array."""

    def __post_init__(self) -> None:
        generators = self.group.generators
        for maps in self.maps:
            if maps.count != self.group.order:
                raise SymmetryError(
                    f"{self.group.order} elements need as many maps, got {maps.count}"
                )
            if not maps.take(0).equal(maps.identity()).all():
                raise SymmetryError("the first map, of e, must leave x where it is")
            for g in generators:
                products = maps.compose(maps.take(g))
                if not products.equal(maps.take(self.group.table[:, g])).all():
                    raise SymmetryError(
                        f"not a homomorphism: the map of h·{self.group.names[g]} is not the map of "
                        f"h after that of {self.group.names[g]}"
                    )

        first = self.leaves[0]
        alone = len(self.leaves) == 1 and first.key is None and first.shape != ()
        built: dict[str, Any] = {
            "inverse_maps": self.maps[0].take(self.group.inverses),
            "_bounds": (bounds := self._bounds_of_leaves()),
            "_plain_shape": first.shape if alone and bounds[0] is None else None,
            "first_moved": self.maps[0].first_moved() if alone else None,
        }
        for name, value in built.items():
            object.__setattr__(self, name, value)

    @cached_property
    def rounds(self) -> bool:
        """Whether gx is rounded; where entries only change places and signs it is not."""
        return any(maps.rounds for maps in self.maps)

    def _bounds_of_leaves(self) -> tuple[Bounds | None, ...]:
        """Of finite entries, and of entries of a Box that tables rename."""
        bounds = [bounds_of(leaf) for leaf in self.leaves]
        for block, maps in zip(self.blocks, self.maps, strict=True):
            if isinstance(maps, Lookups):
                lowest = self._split(maps.low[0], block)
                highest = self._split(maps.table[0].max(axis=1), block)
                for j, low, high in zip(block, lowest, highest, strict=True):
                    bounds[j] = between(low, high, self.leaves[j].shape)
        return tuple(bounds)

    def __deepcopy__(self, memo: dict[int, Any]) -> GroupAction:
        return self  # immutable

    def same_as(self, other: GroupAction) -> bool:
        """Whether the same elements move the same points alike; keys may stand in another order."""
        mine, theirs = ({leaf.key: leaf for leaf in a.leaves} for a in (self, other))
        if self.group != other.group or mine != theirs:
            return False
        one, other = (action.rearranged(self.leaves) for action in (self, other))
        return one.blocks == other.blocks and all(
            type(a) is type(b) and bool(a.equal(b).all())
            for a, b in zip(one.maps, other.maps, strict=True)
        )

    def transform(self, g: Elements, x: Any) -> Any:
        """g·x for one point or a batch of them.

        Args:
            g: an element by number or name, or one number per row of the batch.
            x: one point, or a batch ``[batch, *shape]``.

        Raises:
            SymmetryError: x has another shape than the space or holds what is not of it, or there
                is no such element.
        """
        arrays = self._arrays(x)
        moved = self._moved(
            arrays,
            0 if self._is_single(arrays) else 1,
            lambda maps, flat: maps.each(self._rows(g, flat), flat),
        )
        shaped = [part.reshape(np.shape(a))[()] for part, a in zip(moved, arrays, strict=True)]
        return from_leaves(shaped, self.leaves)

    def in_space(self, x: Any) -> Any:
        """Points as arrays that can be moved, each in a dtype that rounds nothing (`points`).

        Raises:
            SymmetryError: they hold what is not of the space.
        """
        return from_leaves(self._arrays(x), self.leaves)

    def orbit(self, x: Any) -> Any:
        """All g·x: ``[batch, *shape] -> [|G|, batch, *shape]``, in memory with the batch first.

        One point ``[*shape]`` gives ``[|G|, *shape]``.
        """
        if self._is_plain_batch(x, 1):
            rows = self.maps[0].orbit(x.flatten(1))
            return rows.view(*rows.shape[:2], *x.shape[1:]).transpose(0, 1)
        arrays = self._arrays(x)
        single = self._is_single(arrays)
        moved = self._moved(arrays, 0 if single else 1, lambda maps, flat: maps.orbit(flat))
        orbits = []
        for part, array in zip(moved, arrays, strict=True):
            shape = np.shape(array) if single else np.shape(array)[1:]
            orbit = _swap(part.reshape(*part.shape[:2], *shape))
            orbits.append(orbit[:, 0] if single else orbit)
        return from_leaves(orbits, self.leaves)

    def orbit_head(self, x: torch.Tensor, entries: int) -> torch.Tensor | None:
        """The first ``entries`` entries of every g·x, flat: ``[|G|, batch, entries]``.

        None where that would not be less work than the whole orbit.
        """
        maps = self.maps[0]
        if not self._is_plain_batch(x, 1) or not entries < maps.entries:
            return None
        if not isinstance(maps, SignedPermutations):
            return None
        return maps.orbit_head(x.flatten(1), entries).transpose(0, 1)

    def pull_back(self, y: Any) -> Any:
        """``[|G|, batch, *shape] -> [|G|, batch, *shape]``: row g becomes g⁻¹·y[g]."""
        if self._is_plain_batch(y, 2) and len(y) == self.group.order:
            rows = y.transpose(0, 1)
            back = self.inverse_maps.along(rows.flatten(2))
            return back.reshape(rows.shape).transpose(0, 1)
        arrays = self._arrays(y)

        def move_back(maps: Maps, flat: Any) -> Any:
            if flat.shape[0] != self.group.order:
                raise SymmetryError(f"expected {self.group.order} rows, got {flat.shape[0]}")
            inverses: Any = self.group.inverses[:, None]
            if isinstance(flat, torch.Tensor):
                inverses = torch.from_numpy(inverses.copy()).to(flat.device)
            return maps.each(inverses, flat)

        moved = self._moved(arrays, 2, move_back)
        shaped = [part.reshape(a.shape) for part, a in zip(moved, arrays, strict=True)]
        return from_leaves(shaped, self.leaves)

    def move_each(self, g: torch.Tensor, x: Any) -> Any:
        """g·x row by row, ``[rows, *shape]`` with int64 ``g`` ``[rows]``, tensors or dicts of them.

        Unlike `transform` it never waits for a device.
        """
        if self._is_plain_batch(x, 1):
            return self.maps[0].each(g, x.flatten(1)).view(x.shape)
        arrays = self._arrays(x)
        moved = self._moved(arrays, 1, lambda maps, flat: maps.each(g, flat))
        shaped = [part.reshape(a.shape) for part, a in zip(moved, arrays, strict=True)]
        return from_leaves(shaped, self.leaves)

    def pull_back_each(self, g: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """g⁻¹·y row by row, as `move_each`, for one tensor."""
        back: torch.Tensor = self.inverse_maps.each(g, y.reshape(-1, self.maps[0].entries)).view(
            y.shape
        )
        return back

    def _arrays(self, x: Any) -> list[Any]:
        """The leaves of x, each brought to its space."""
        given = zip(as_leaves(x, self.leaves), self.leaves, self._bounds, strict=True)
        return [in_space(array, leaf, bounds) for array, leaf, bounds in given]

    def _is_plain_batch(self, x: Any, batch_dimensions: int) -> bool:
        """Whether x is one tensor of points of this shape, which can be moved as it is."""
        if not isinstance(x, torch.Tensor) or x.shape[batch_dimensions:] != self._plain_shape:
            return False
        return x.is_floating_point() or not self.leaves[0].is_float

    def _moved(
        self, arrays: list[Any], batch_dimensions: int, move: Callable[[Maps, Any], Any]
    ) -> list[Any]:
        """Each leaf's part of what ``move`` makes of its block's maps and flat points."""
        flat = [
            self._flat(a, leaf, batch_dimensions)
            for a, leaf in zip(arrays, self.leaves, strict=True)
        ]
        moved: list[Any] = [None] * len(arrays)
        for block, maps in zip(self.blocks, self.maps, strict=True):
            joined = move(maps, _concatenate([flat[j] for j in block]))
            for j, part in zip(block, self._split(joined, block), strict=True):
                # Finite entries were promoted where they were joined with others.
                moved[j] = part if self._bounds[j] is None else _as_type(part, flat[j].dtype)
        return moved

    def _rows(self, g: Elements, x: Any) -> Any:
        if isinstance(g, str):
            g = self.group.index(g)
        rows = np.asarray(g.cpu() if isinstance(g, torch.Tensor) else g)
        if not np.issubdtype(rows.dtype, np.integer) or rows.shape not in ((), (len(x),)):
            raise SymmetryError(
                f"g must be one element, or one per row ({len(x)}), got {rows.dtype} of shape "
                f"{rows.shape}"
            )
        if rows.size and (rows.min() < 0 or rows.max() >= self.group.order):
            raise SymmetryError(f"elements are numbered 0 … {self.group.order - 1}, got {g}")
        rows = np.atleast_1d(rows).astype(np.int64)
        return torch.from_numpy(rows).to(x.device) if isinstance(x, torch.Tensor) else rows

    def _is_single(self, arrays: list[Any]) -> bool:
        return np.ndim(arrays[0]) == len(self.leaves[0].shape)

    def _flat(self, array: Any, leaf: Leaf, batch_dimensions: int) -> Any:
        """``[*batch, *shape] -> [*batch or 1, n]``."""
        batch = tuple(array.shape[:batch_dimensions])
        if not self._fits(tuple(array.shape[batch_dimensions:]), leaf):
            raise SymmetryError(
                f"{leaf} has shape {tuple(array.shape)}, expected {leaf.shape} behind "
                f"{batch_dimensions} batch dimension(s)"
            )
        return array.reshape(*(batch or (1,)), leaf.size)

    def _fits(self, shape: tuple[int, ...], leaf: Leaf) -> bool:
        return shape == leaf.shape

    def _split(self, joined: Any, block: Block) -> list[Any]:
        if len(block) == 1:
            return [joined]
        ends = np.cumsum([self.leaves[j].size for j in block])
        return [
            joined[..., end - self.leaves[j].size : end] for j, end in zip(block, ends, strict=True)
        ]


def _concatenate(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    return (
        torch.cat(parts, dim=-1)
        if isinstance(parts[0], torch.Tensor)
        else np.concatenate(parts, axis=-1)
    )


def _as_type(x: Any, dtype: Any) -> Any:
    return x.to(dtype) if isinstance(x, torch.Tensor) else x.astype(dtype, copy=False)


def _swap(x: Any) -> Any:
    return x.transpose(0, 1) if isinstance(x, torch.Tensor) else np.swapaxes(x, 0, 1)
