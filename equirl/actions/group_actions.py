"""`GroupAction`: how a finite group moves the points of one space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from equirl.actions.affines import Affines
from equirl.actions.layout import Leaf, as_leaves, from_leaves
from equirl.actions.maps import Maps
from equirl.actions.signed_permutations import SignedPermutations
from equirl.declaring.probes import Block
from equirl.errors import SymmetryError
from equirl.groups import FiniteGroup

Elements = int | str | npt.NDArray[np.integer[Any]] | torch.Tensor | Sequence[int]
"""One group element (its number or name), or one number per row of a batch."""


@dataclass(frozen=True, eq=False)
class GroupAction:
    """A group acting on the points of a space: ``e·x = x`` and ``(g·h)·x = g·(h·x)``.

    A point is an array, a tensor, or a dict of them; everything comes back in the library, dtype
    and device in which it was given.

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

    _inverse_maps: Maps = field(init=False, repr=False)
    """Of the first block, the map of g⁻¹ in place g."""

    _plain_shape: tuple[int, ...] | None = field(init=False, repr=False)
    """Of points that are one array, None where they are more than that or a scalar."""

    first_moved: int | None = field(init=False, repr=False)
    """The first flat entry that some element moves; None for points that are not one array."""

    def __post_init__(self) -> None:
        generators = self.group.generators
        for maps in self.maps:
            if maps.count != self.group.order:
                raise SymmetryError(
                    f"{self.group.order} elements need as many maps, got {maps.count}"
                )
            for g in (0, *generators):
                products = maps.compose(maps.take(g))
                if not products.equal(maps.take(self.group.table[:, g])).all():
                    raise SymmetryError(
                        f"not a homomorphism: the map of h·{self.group.names[g]} is not the map of "
                        f"h after that of {self.group.names[g]}"
                    )

        object.__setattr__(self, "_inverse_maps", self.maps[0].take(self.group.inverses))
        first = self.leaves[0]
        plain = len(self.leaves) == 1 and first.key is None and first.shape != ()
        object.__setattr__(self, "first_moved", self.maps[0].first_moved() if plain else None)
        object.__setattr__(self, "_plain_shape", first.shape if plain else None)

    def __deepcopy__(self, memo: dict[int, Any]) -> GroupAction:
        return self  # immutable

    @classmethod
    def on_vectors(
        cls,
        group: FiniteGroup,
        matrices: npt.ArrayLike | None = None,
        permutations: npt.ArrayLike | None = None,
    ) -> GroupAction:
        """An action on vectors of n entries, from |G| matrices or permutations, identity first.

        Args:
            group: the group G.
            matrices: ``[|G|, n, n]``; g·x is ``matrices[g] @ x``.
            permutations: ``[|G|, n]``; entry i of x becomes entry ``permutations[g, i]`` of g·x.

        Example:
            >>> from equirl.groups import cyclic
            >>> turns = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
            >>> turn = GroupAction.on_vectors(cyclic(3), permutations=turns)
            >>> turn.transform(1, np.array([5.0, 6.0, 7.0]))
            array([7., 5., 6.])
        """
        if (matrices is None) == (permutations is None):
            raise SymmetryError("give either matrices or permutations")
        maps: Maps
        if matrices is not None:
            matrix = np.array(matrices, dtype=np.float64)
            maps = Affines(matrix, np.zeros(matrix.shape[:2]))
        else:
            maps = SignedPermutations(np.argsort(np.asarray(permutations, dtype=np.int64), axis=1))
        leaf = Leaf(None, (maps.entries,), "float64")
        return cls(group, (leaf,), ((0,),), (maps,))

    @classmethod
    def trivial(cls, group: FiniteGroup, shape: tuple[int, ...]) -> GroupAction:
        """Every element leaves every array of this shape where it is (an invariant quantity)."""
        leaf = Leaf(None, shape, "float64")
        index = np.broadcast_to(np.arange(leaf.size), (group.order, leaf.size)).copy()
        return cls(group, (leaf,), ((0,),), (SignedPermutations(index),))

    def transform(self, g: Elements, x: Any) -> Any:
        """g·x for one point or a batch of them.

        Args:
            g: an element by number or name, or one number per row of the batch.
            x: one point, or a batch ``[batch, *shape]``.

        Raises:
            SymmetryError: x has another shape than the space, or there is no such element.
        """
        arrays = as_leaves(x, self.leaves)
        moved = self._moved(
            arrays,
            0 if self._is_single(arrays) else 1,
            lambda maps, flat: maps.each(self._rows(g, flat), flat),
        )
        shaped = [part.reshape(np.shape(a))[()] for part, a in zip(moved, arrays, strict=True)]
        return from_leaves(shaped, self.leaves)

    def orbit(self, x: Any) -> Any:
        """All g·x: ``[batch, *shape] -> [|G|, batch, *shape]``, in memory with the batch first.

        One point ``[*shape]`` gives ``[|G|, *shape]``.
        """
        if self._is_plain_batch(x, 1):
            rows = self.maps[0].orbit(x.flatten(1))
            return rows.view(*rows.shape[:2], *x.shape[1:]).transpose(0, 1)
        arrays = as_leaves(x, self.leaves)
        single = self._is_single(arrays)
        moved = self._moved(arrays, 0 if single else 1, lambda maps, flat: maps.orbit(flat))
        orbits = []
        for part, array in zip(moved, arrays, strict=True):
            shape = np.shape(array) if single else np.shape(array)[1:]
            orbit = _swap(part.reshape(*part.shape[:2], *shape))
            orbits.append(orbit[:, 0] if single else orbit)
        return from_leaves(orbits, self.leaves)

    def orbit_head(self, x: torch.Tensor, entries: int) -> torch.Tensor | None:
        """The first so many entries of every g·x, flat: ``[|G|, batch, entries]``.

        None where that would not be less work than the whole orbit.
        """
        if not self._is_plain_batch(x, 1) or not entries < self.maps[0].entries:
            return None
        if not isinstance(self.maps[0], SignedPermutations):
            return None
        head: torch.Tensor = self.maps[0].head(entries).orbit(x.flatten(1))
        return head.transpose(0, 1)

    def pull_back(self, y: Any) -> Any:
        """``[|G|, batch, *shape] -> [|G|, batch, *shape]``: row g becomes g⁻¹·y[g]."""
        if self._is_plain_batch(y, 2) and len(y) == self.group.order:
            rows = y.transpose(0, 1)
            back = self._inverse_maps.along(rows.flatten(2))
            return back.reshape(rows.shape).transpose(0, 1)
        arrays = as_leaves(y, self.leaves)

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

        Unlike `transform` it does not look at the numbers, and so never waits for a device.
        """
        if self._is_plain_batch(x, 1):
            return self.maps[0].each(g, x.flatten(1)).view(x.shape)
        arrays = as_leaves(x, self.leaves)
        moved = self._moved(arrays, 1, lambda maps, flat: maps.each(g, flat))
        shaped = [part.reshape(a.shape) for part, a in zip(moved, arrays, strict=True)]
        return from_leaves(shaped, self.leaves)

    def pull_back_each(self, g: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """g⁻¹·y row by row, as `move_each`, for one tensor."""
        back: torch.Tensor = self._inverse_maps.each(g, y.reshape(-1, self.maps[0].entries)).view(
            y.shape
        )
        return back

    def _is_plain_batch(self, x: Any, batch_dimensions: int) -> bool:
        """Whether x is one tensor of points of the very shape, which needs no taking apart."""
        return isinstance(x, torch.Tensor) and x.shape[batch_dimensions:] == self._plain_shape

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
                moved[j] = part
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

    @staticmethod
    def _flat(array: Any, leaf: Leaf, batch_dimensions: int) -> Any:
        """``[*batch, *shape] -> [*batch or 1, n]``."""
        if not isinstance(array, torch.Tensor):
            array = np.asarray(array)
        batch = tuple(array.shape[:batch_dimensions])
        inner = tuple(array.shape[batch_dimensions:])
        # Replay buffers store a Discrete observation as [batch, 1].
        if inner != leaf.shape and not (leaf.shape == () and inner == (1,)):
            raise SymmetryError(
                f"{leaf} has shape {tuple(array.shape)}, expected {leaf.shape} behind "
                f"{batch_dimensions} batch dimension(s)"
            )
        return array.reshape(*(batch or (1,)), leaf.size)

    def _split(self, joined: Any, block: Block) -> list[Any]:
        if len(block) == 1:
            return [joined]
        ends = np.cumsum([self.leaves[j].size for j in block])
        return [
            joined[..., end - self.leaves[j].size : end] for j, end in zip(block, ends, strict=True)
        ]

    def images_transposed(self, keys: frozenset[str | None]) -> GroupAction:
        """The same action on images whose channels come first, as Stable-Baselines3 hands them on.

        Args:
            keys: the leaves that are transposed from (height, width, channels).
        """
        leaves, maps = list(self.leaves), list(self.maps)
        for b, block in enumerate(self.blocks):
            order, start = [], 0
            for j in block:
                leaf = self.leaves[j]
                entries = np.arange(leaf.size).reshape(leaf.shape)
                if leaf.key in keys:
                    height, width, channels = leaf.shape
                    leaves[j] = Leaf(leaf.key, (channels, height, width), leaf.dtype)
                    entries = np.transpose(entries, (2, 0, 1))
                order.append(start + entries.ravel())
                start += leaf.size
            maps[b] = maps[b].relabelled(np.concatenate(order))
        return GroupAction(self.group, tuple(leaves), self.blocks, tuple(maps))


def _concatenate(parts: list[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    return (
        torch.cat(parts, dim=-1)
        if isinstance(parts[0], torch.Tensor)
        else np.concatenate(parts, axis=-1)
    )


def _swap(x: Any) -> Any:
    return x.transpose(0, 1) if isinstance(x, torch.Tensor) else np.swapaxes(x, 0, 1)
