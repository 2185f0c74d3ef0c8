"""`GroupAction`: how a finite group moves the points of one space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

from equirl.errors import GroupError, SymmetryError
from equirl.groups import Closure, FiniteGroup, close_generators
from equirl.layout import Leaf, as_leaves, from_leaves
from equirl.maps import CLOSING, Affines, Lookups, Maps, SignedPermutations
from equirl.probing import Block, ObservationMap, Probe, blocks_of, compile_block

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

    def __post_init__(self) -> None:
        generators = self.group._generating_set()
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
        single = self._is_single(arrays[0], self.leaves[0])
        flat = [
            self._flat(a, leaf, 1 - single) for a, leaf in zip(arrays, self.leaves, strict=True)
        ]
        moved: list[Any] = [None] * len(arrays)
        for block, maps in zip(self.blocks, self.maps, strict=True):
            joined = _concatenate([flat[j] for j in block])
            rows = self._rows(g, joined)
            for j, part in zip(block, self._split(maps.each(rows, joined), block), strict=True):
                moved[j] = part.reshape(np.shape(arrays[j]))[()]
        return from_leaves(moved, self.leaves)

    def orbit(self, x: Any) -> Any:
        """All g·x: ``[batch, *shape] -> [|G|, batch, *shape]``, in memory with the batch first.

        One point ``[*shape]`` gives ``[|G|, *shape]``.
        """
        arrays = as_leaves(x, self.leaves)
        single = self._is_single(arrays[0], self.leaves[0])
        flat = [
            self._flat(a, leaf, 1 - single) for a, leaf in zip(arrays, self.leaves, strict=True)
        ]
        moved: list[Any] = [None] * len(arrays)
        for block, maps in zip(self.blocks, self.maps, strict=True):
            orbits = maps.orbit(_concatenate([flat[j] for j in block]))
            for j, part in zip(block, self._split(orbits, block), strict=True):
                shape = np.shape(arrays[j]) if single else np.shape(arrays[j])[1:]
                orbit = _swap(part.reshape(*part.shape[:2], *shape))
                moved[j] = orbit[:, 0] if single else orbit
        return from_leaves(moved, self.leaves)

    def pull_back(self, y: Any) -> Any:
        """``[|G|, batch, *shape] -> [|G|, batch, *shape]``: row g becomes g⁻¹·y[g]."""
        arrays = as_leaves(y, self.leaves)
        flat = [self._flat(a, leaf, 2) for a, leaf in zip(arrays, self.leaves, strict=True)]
        moved: list[Any] = [None] * len(arrays)
        for block, maps in zip(self.blocks, self.maps, strict=True):
            joined = _concatenate([flat[j] for j in block])
            inverses: Any = self.group.inverses[:, None]
            if isinstance(joined, torch.Tensor):
                inverses = torch.from_numpy(inverses.copy()).to(joined.device)
            if joined.shape[0] != self.group.order:
                raise SymmetryError(f"expected {self.group.order} rows, got {joined.shape[0]}")
            for j, part in zip(block, self._split(maps.each(inverses, joined), block), strict=True):
                moved[j] = part.reshape(arrays[j].shape)
        return from_leaves(moved, self.leaves)

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

    @staticmethod
    def _is_single(array: Any, leaf: Leaf) -> bool:
        return np.ndim(array) == len(leaf.shape)

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


def close_actions(
    space: spaces.Space[Any], generators: dict[str, ObservationMap]
) -> tuple[Closure[tuple[Maps, ...]], GroupAction]:
    """The group generated by maps on a space, and its action there.

    Raises:
        SymmetryError: a map cannot be compiled, leaves the space, or the maps do not close.
    """
    probes = [Probe(name, function, space) for name, function in generators.items()]
    blocks = blocks_of(probes)
    compiled = [compile_block(probes, block) for block in blocks]
    for block, per_generator in zip(blocks, compiled, strict=True):
        for probe, maps in zip(probes, per_generator, strict=True):
            _check_integer_bounds(probe, maps, block, space)
    elements = [tuple(per_generator[k] for per_generator in compiled) for k in range(len(probes))]
    identity = tuple(
        _identity(maps[0], [probes[0].leaves[j] for j in block])
        for maps, block in zip(compiled, blocks, strict=True)
    )
    try:
        with np.errstate(all="ignore"):  # powers of a generator of infinite order may overflow
            closure = close_generators(
                dict(zip(generators, elements, strict=True)), identity, _compose, _Finder()
            )
    except GroupError as error:
        raise SymmetryError(str(error)) from error
    stacked = []
    for b, first in enumerate(identity):
        joined: Maps = type(first).stacked([element[b] for element in closure.elements])
        if isinstance(joined, Affines):
            joined = joined.polished(closure.group.table)
            _check_integer_range(closure.group, joined, blocks[b], space, probes[0].leaves)
        elif isinstance(joined, SignedPermutations):
            joined = joined.simplified()
        stacked.append(joined)
    return closure, GroupAction(closure.group, probes[0].leaves, tuple(blocks), tuple(stacked))


def compile_action(
    group: FiniteGroup, space: spaces.Space[Any], maps: Mapping[str, ObservationMap]
) -> GroupAction:
    """The action of a known group on a space, given the map of every element.

    Raises:
        SymmetryError: a map cannot be compiled, or the maps are not an action of the group.
    """
    probes = [Probe(name, maps[name], space) for name in group.names]
    blocks = blocks_of(probes)
    stacked = []
    for block in blocks:
        compiled = compile_block(probes, block)
        joined: Maps = type(compiled[0]).stacked(compiled)
        if isinstance(joined, Affines):
            joined = joined.polished(group.table)
        elif isinstance(joined, SignedPermutations):
            joined = joined.simplified()
        stacked.append(joined)
    return GroupAction(group, probes[0].leaves, tuple(blocks), tuple(stacked))


def _compose(g: tuple[Maps, ...], h: tuple[Maps, ...]) -> tuple[Maps, ...]:
    return tuple(a.compose(b) for a, b in zip(g, h, strict=True))


def _identity(maps: Maps, leaves: list[Leaf]) -> Maps:
    """The map of the same kind as ``maps`` that leaves every point where it is."""
    n = maps.entries
    if isinstance(maps, Affines):
        return Affines(np.eye(n)[None], np.zeros((1, n)))
    if isinstance(maps, Lookups):
        low = np.concatenate([leaf.low for leaf in leaves if leaf.low is not None])
        values = np.concatenate([leaf.values for leaf in leaves if leaf.values is not None])
        return Lookups.identity(low, values)
    return SignedPermutations(np.arange(n)[None]).with_all_arrays()


class _Finder:
    """Finds an element among those listed so far, by fingerprint and then in full."""

    def __init__(self) -> None:
        self._fingerprints: list[npt.NDArray[np.float64]] = []

    def __call__(
        self, elements: Sequence[tuple[Maps, ...]], element: tuple[Maps, ...]
    ) -> int | None:
        for known in elements[len(self._fingerprints) :]:
            self._fingerprints.append(_fingerprint(known))
        wanted = _fingerprint(element)
        known_prints = np.stack(self._fingerprints[: len(elements)])
        # Each fingerprint is a sum over all entries, whose rounding errors are of either sign.
        rounding = 3 * CLOSING * math.sqrt(sum(maps.entries**2 for maps in element))
        close = np.abs(known_prints - wanted) <= rounding + 1e-9 * np.abs(wanted)
        for candidate in np.flatnonzero(close.all(axis=1)).tolist():
            pairs = zip(elements[candidate], element, strict=True)
            if all(bool(a.equal(b, CLOSING).all()) for a, b in pairs):
                return int(candidate)
        return None


def _fingerprint(element: tuple[Maps, ...]) -> npt.NDArray[np.float64]:
    return np.concatenate([maps.fingerprint()[0] for maps in element])


def _check_integer_bounds(probe: Probe, maps: Maps, block: Block, space: spaces.Space[Any]) -> None:
    """Integers that leave their range would wrap around silently: refuse them."""
    parts = space.spaces if isinstance(space, spaces.Dict) else {None: space}
    boxes = [parts[probe.leaves[j].key] for j in block]  # type: ignore[index]
    if not all(
        isinstance(box, spaces.Box) and np.issubdtype(box.dtype, np.integer) for box in boxes
    ):
        return
    if not isinstance(maps, SignedPermutations):
        return
    low = np.concatenate([box.low.ravel() for box in boxes]).astype(np.float64)  # type: ignore[attr-defined]
    high = np.concatenate([box.high.ravel() for box in boxes]).astype(np.float64)  # type: ignore[attr-defined]
    corners = maps.orbit(np.stack([low, high]))[:, 0]
    outside = (corners.min(axis=0) < low) | (corners.max(axis=0) > high)
    if outside.any():
        entry = int(np.argmax(outside))
        raise SymmetryError(
            f"observation map {probe.name!r} leaves the space: flat entry {entry} would range over "
            f"{corners[:, entry].min():g} … {corners[:, entry].max():g}, the space has "
            f"{low[entry]:g} … {high[entry]:g}"
        )


def _check_integer_range(
    group: FiniteGroup,
    maps: Affines,
    block: Block,
    space: spaces.Space[Any],
    leaves: tuple[Leaf, ...],
) -> None:
    """An affine map may leave the box, as hexagonal coordinates do, but not the dtype's range."""
    dtype = np.dtype(leaves[block[0]].dtype)
    # Signed integers of 4 or 8 bytes have room for any map, and their boxes are often unbounded.
    if dtype.kind not in "iu" or (dtype.kind == "i" and dtype.itemsize >= 4):
        return
    parts = space.spaces if isinstance(space, spaces.Dict) else {None: space}
    boxes = [parts[leaves[j].key] for j in block]  # type: ignore[index]
    low = np.concatenate([box.low.ravel() for box in boxes]).astype(np.float64)  # type: ignore[attr-defined]
    high = np.concatenate([box.high.ravel() for box in boxes]).astype(np.float64)  # type: ignore[attr-defined]
    rising, falling = maps.matrix.clip(min=0), maps.matrix.clip(max=0)
    least = rising @ low + falling @ high + maps.offset
    most = rising @ high + falling @ low + maps.offset
    outside = (least < np.iinfo(dtype).min) | (most > np.iinfo(dtype).max)
    if outside.any():
        g, entry = np.argwhere(outside)[0]
        raise SymmetryError(
            f"element {group.names[g]!r} lets flat entry {entry} range over {least[g, entry]:g} … "
            f"{most[g, entry]:g}, which {dtype} cannot hold: declare narrower bounds or a wider "
            "dtype"
        )


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
