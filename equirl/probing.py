"""Compiling an observation map, given as an ordinary function, by probing it.

A handful of well-chosen inputs reveals which input entry each output entry copies, its sign and
its offset; random inputs then confirm it. The function is never called again afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.errors import SymmetryError
from equirl.layout import Leaf, as_leaves, from_leaves, leaves_of
from equirl.maps import Affines, Lookups, Maps, SignedPermutations

Array = npt.NDArray[Any]
ObservationMap = Callable[[Any], Any] | npt.ArrayLike | Mapping[str, Any] | None
Block = tuple[int, ...]
"""Positions of the leaves that a map may mix with each other."""

MAX_DENSE_ENTRIES = 2048
"""A general affine map needs n² numbers; beyond this many entries only permutations are taken."""

MATCHING = 1e-5
"""Relative difference up to which a function counts as following its compiled form; float32
arithmetic inside the function is that coarse."""


class Probe:
    """An observation map that can be called on flat points, with everything it returns checked.

    Args:
        name: the generator's name, for messages.
        function: the map as `Symmetry.from_generators` takes it.
        space: the observation space it acts on.
    """

    def __init__(self, name: str, function: ObservationMap, space: spaces.Space[Any]) -> None:
        self.name = name
        self.leaves = leaves_of(space)
        self._function = _as_function(name, function, self.leaves)

    def __call__(self, points: list[Array]) -> list[Array]:
        """Flat leaves in, flat leaves out; floats as float64, integers as int64."""
        given = [
            # Floats are probed in double precision, so that cos(2π/3) keeps all its digits.
            p.astype(np.float64 if _is_float(leaf) else leaf.dtype).reshape(leaf.shape)
            for p, leaf in zip(points, self.leaves, strict=True)
        ]
        given = [g if leaf.shape else g[()] for g, leaf in zip(given, self.leaves, strict=True)]
        try:
            with np.errstate(all="ignore"):  # integers may wrap; infinities are refused below
                moved = self._function(from_leaves(given, self.leaves))
        except Exception as error:
            raise SymmetryError(
                f"observation map {self.name!r} failed on one observation: "
                f"{type(error).__name__}: {error}"
            ) from error
        arrays = as_leaves(moved, self.leaves)
        return [self._checked(a, leaf) for a, leaf in zip(arrays, self.leaves, strict=True)]

    def _checked(self, array: Any, leaf: Leaf) -> Array:
        try:
            result = np.asarray(array)
        except ValueError as error:  # nested lists of unequal lengths
            raise SymmetryError(
                f"observation map {self.name!r} returns no array: {error}"
            ) from error
        if result.shape != leaf.shape:
            raise SymmetryError(
                f"observation map {self.name!r} turns {leaf} of shape {leaf.shape} into shape "
                f"{result.shape}: it must keep the shape"
            )
        if result.dtype.kind not in "biuf":
            raise SymmetryError(
                f"observation map {self.name!r} returns {result.dtype}, not real numbers"
            )
        if not np.isfinite(result).all():
            raise SymmetryError(f"observation map {self.name!r} returns values that are not finite")
        if _is_float(leaf):
            return result.astype(np.float64).ravel()
        if (result != np.rint(result)).any():
            raise SymmetryError(f"observation map {self.name!r} returns fractions for {leaf.dtype}")
        return result.astype(np.int64).astype(leaf.dtype).astype(np.int64).ravel()

    def random_point(self, generator: np.random.Generator, scale: float = 1.0) -> list[Array]:
        """A point with entries all over the range of each leaf; floats as wide as ``scale``."""
        point: list[Array] = []
        for leaf in self.leaves:
            if leaf.low is not None and leaf.values is not None:
                point.append(np.array(leaf.low) + generator.integers(0, np.array(leaf.values)))
            elif _is_float(leaf):
                point.append(generator.normal(scale=scale, size=leaf.size))
            else:
                least, most = np.iinfo(leaf.dtype).min, np.iinfo(leaf.dtype).max
                bound = min(most, 2**15 - 1) + 1
                point.append(generator.integers(max(least, -bound), bound, size=leaf.size))
        return point

    def base_point(self) -> list[Array]:
        """The point of all zeros, or of the lowest values."""
        return [
            np.array(leaf.low, dtype=np.int64)
            if leaf.low is not None
            else np.zeros(leaf.size, dtype=np.float64 if _is_float(leaf) else np.int64)
            for leaf in self.leaves
        ]


def blocks_of(probes: list[Probe]) -> list[Block]:
    """Groups of leaves that some generator lets depend on each other.

    Raises:
        SymmetryError: leaves of different kinds (a Discrete and a Box, say) are exchanged.
    """
    leaves = probes[0].leaves
    block = list(range(len(leaves)))
    for probe in probes:
        start = probe.random_point(np.random.default_rng(1))
        unmoved = probe(start)
        for j in range(len(leaves)) if len(leaves) > 1 else ():
            for seed in range(2, 6):  # several, since a leaf of few values may repeat itself
                other = probe.random_point(np.random.default_rng(seed))
                moved = probe([*start[:j], other[j], *start[j + 1 :]])
                for i, (before, after) in enumerate(zip(unmoved, moved, strict=True)):
                    if not np.array_equal(before, after) and block[i] != block[j]:
                        if leaves[i].kind != leaves[j].kind:
                            raise SymmetryError(
                                f"observation map {probe.name!r} lets {leaves[i]} "
                                f"({leaves[i].kind}) depend on {leaves[j]} ({leaves[j].kind}): "
                                "only parts of one kind can be exchanged"
                            )
                        block = [block[i] if b == block[j] else b for b in block]
    return [tuple(j for j in range(len(leaves)) if block[j] == b) for b in dict.fromkeys(block)]


def compile_block(probes: list[Probe], block: Block) -> list[Maps]:
    """The maps of all generators on one block of leaves, all of one kind.

    Raises:
        SymmetryError: a function is not of a kind that can be compiled (the entry is named).
    """
    leaves = [probes[0].leaves[j] for j in block]
    if leaves[0].low is not None:
        return [_compile_lookup(probe, block) for probe in probes]
    compiled = [_compile_signed_permutation(probe, block) for probe in probes]
    if all(found is not None for found in compiled):
        return [found for found in compiled if found is not None]
    return [
        _compile_affine(probe, block) if found is None else found.as_affines()
        for probe, found in zip(probes, compiled, strict=True)
    ]


def _compile_signed_permutation(probe: Probe, block: Block) -> SignedPermutations | None:
    """None where the function is something else."""
    leaf = probe.leaves[block[0]]
    n = sum(probe.leaves[j].size for j in block)
    offset = _on_block(probe, block, np.zeros(n))
    # Which entry goes where is read off numbers that name each entry: all at once where the dtype
    # is wide enough, else digit by digit. Each digit is ≥ 1, so that a sign always shows.
    widest = 2**20 if _is_float(leaf) else min(np.iinfo(leaf.dtype).max // 2 - 1, 2**20)
    base = max(min(widest, n), 2)
    index, sign, weight = np.zeros(n, dtype=np.int64), np.zeros(n), 1
    while weight < n or weight == 1:
        digits = (np.arange(n) // weight) % base + 1
        moved = _wrapped(_on_block(probe, block, digits) - offset, leaf)
        nearest = np.rint(moved)
        magnitude = np.abs(nearest).astype(np.int64)
        if (np.abs(moved - nearest) > MATCHING * (1 + np.abs(nearest))).any():
            return None
        if (magnitude < 1).any() or (magnitude > base).any():
            return None
        if weight > 1 and (np.sign(nearest) != sign).any():
            return None
        index, sign = index + (magnitude - 1) * weight, np.sign(nearest)
        weight *= base
    if not np.array_equal(np.sort(index), np.arange(n)):
        return None
    found = SignedPermutations(index[None], sign[None], offset.astype(np.float64)[None])
    return found if _mismatch(probe, block, found) is None else None


def _compile_affine(probe: Probe, block: Block) -> Affines:
    n = sum(probe.leaves[j].size for j in block)
    if n > MAX_DENSE_ENTRIES:
        raise SymmetryError(
            f"observation map {probe.name!r} is not a signed permutation of its {n} entries, and "
            f"other affine maps are taken up to {MAX_DENSE_ENTRIES} entries only"
        )
    leaf = probe.leaves[block[0]]
    offset = _on_block(probe, block, np.zeros(n))
    columns = [_wrapped(_on_block(probe, block, unit) - offset, leaf) for unit in np.eye(n)]
    found = Affines(np.stack(columns, axis=1)[None].astype(np.float64), offset[None].astype(float))
    mismatch = _mismatch(probe, block, found)
    if mismatch is not None:
        entry, got, expected = mismatch
        raise SymmetryError(
            f"observation map {probe.name!r} is not affine: entry "
            f"{_entry_name(probe, block, entry)} becomes {got:g} where an affine map gives "
            f"{expected:g}; give a permutation, signed permutation or affine map of the entries"
        )
    # A map of which some power is the identity has determinant ±1.
    log_volume = float(np.linalg.slogdet(found.matrix[0])[1])
    if not abs(log_volume) < 0.01:
        raise SymmetryError(
            f"observation map {probe.name!r} generates no finite group: it multiplies volumes by "
            f"{np.exp(log_volume):g}, a map that comes back to the identity keeps them"
        )
    return found


def _compile_lookup(probe: Probe, block: Block) -> Lookups:
    low = np.concatenate([probe.leaves[j].low for j in block if probe.leaves[j].low])
    values = np.concatenate([probe.leaves[j].values for j in block if probe.leaves[j].values])
    n, most = len(low), int(values.max())

    def moved(offsets: Array) -> Array:
        return _on_block(probe, block, low + np.minimum(offsets, values - 1))

    # A bijection of an entry's values tells "lowest" from "next", so the entries whose number has
    # bit k set show as changed when they alone are raised by one.
    start, index = moved(np.zeros(n, dtype=np.int64)), np.zeros(n, dtype=np.int64)
    for bit in range(max(n - 1, 0).bit_length()):
        raised = (np.arange(n) >> bit) & 1
        index |= (moved(raised) != start).astype(np.int64) << bit
    fixed = values == 1
    index = np.where(fixed, np.arange(n), index) if fixed.any() else index
    if not np.array_equal(np.sort(index), np.arange(n)):
        entry = int(np.setdiff1d(np.arange(n), index)[0])
        raise SymmetryError(
            f"observation map {probe.name!r} is not invertible: entry "
            f"{_entry_name(probe, block, entry)} does not decide any entry of the result"
        )
    table = np.stack([moved(np.full(n, v)) for v in range(most)], axis=1)
    outside = (table < low[:, None]) | (table >= (low + values)[:, None])
    if outside.any():
        entry, value = np.argwhere(outside)[0]
        raise SymmetryError(
            f"observation map {probe.name!r} leaves the space: entry "
            f"{_entry_name(probe, block, int(entry))} becomes {table[entry, value]}, outside "
            f"{low[entry]} … {low[entry] + values[entry] - 1}"
        )
    for entry in range(n):
        reached = table[entry, : values[index[entry]]]
        if values[index[entry]] != values[entry] or len(set(reached.tolist())) != len(reached):
            raise SymmetryError(
                f"observation map {probe.name!r} is not a permutation of the values of entry "
                f"{_entry_name(probe, block, entry)}: it gives {reached.tolist()}"
            )
    found = Lookups(index[None], table[None], low[None])
    mismatch = _mismatch(probe, block, found)
    if mismatch is not None:
        raise SymmetryError(
            f"observation map {probe.name!r} lets entry {_entry_name(probe, block, mismatch[0])} "
            "depend on several entries: it must copy one entry, or rename its values"
        )
    return found


def _mismatch(probe: Probe, block: Block, compiled: Maps) -> tuple[int, float, float] | None:
    """The first entry where function and compiled map differ: (entry, function's, compiled's)."""
    generator = np.random.default_rng(0)
    leaf = probe.leaves[block[0]]
    for scale in (0.1, 1, 10, 100, 1e4, 1, 10):  # a map that clips or bends shows at some scale
        point = probe.random_point(generator, scale)
        flat = np.concatenate([point[j] for j in block])
        got = np.concatenate([probe(point)[j] for j in block]).astype(np.float64)
        if _is_float(leaf) or leaf.low is not None:
            expected = compiled.orbit(flat[None])[0, 0].astype(np.float64)
        else:
            exact = compiled.orbit(flat[None].astype(np.float64))[0, 0]
            wrapped = exact.astype(np.int64).astype(leaf.dtype).astype(np.int64)
            expected = wrapped.astype(np.float64)
        off = np.abs(got - expected) > MATCHING * (1 + np.abs(flat).max(initial=0))
        if off.any():
            entry = int(np.argmax(off))
            return entry, float(got[entry]), float(expected[entry])
    return None


def _on_block(probe: Probe, block: Block, flat: Array) -> Array:
    """The block's part of the result where the block holds ``flat`` and all else its base point."""
    point, start = probe.base_point(), 0
    for j in block:
        size = probe.leaves[j].size
        point[j] = flat[start : start + size]
        start += size
    moved = probe(point)
    return np.concatenate([moved[j] for j in block])


def _wrapped(difference: Array, leaf: Leaf) -> Array:
    """A difference of integers, undoing the wrap-around of their dtype."""
    if _is_float(leaf) or np.dtype(leaf.dtype).itemsize == 8:
        return difference
    modulus = 1 << (8 * np.dtype(leaf.dtype).itemsize)
    return (difference + modulus // 2) % modulus - modulus // 2


def _entry_name(probe: Probe, block: Block, entry: int) -> str:
    for j in block:
        leaf = probe.leaves[j]
        if entry < leaf.size:
            where = [int(i) for i in np.unravel_index(entry, leaf.shape)] if leaf.shape else ""
            return f"{where or '(the only one)'}" if leaf.key is None else f"{leaf.key!r}{where}"
        entry -= leaf.size
    raise AssertionError("entry beyond the block")


def _is_float(leaf: Leaf) -> bool:
    return bool(np.issubdtype(np.dtype(leaf.dtype), np.floating))


def _as_function(
    name: str, given: ObservationMap, leaves: tuple[Leaf, ...]
) -> Callable[[Any], Any]:
    if isinstance(given, Mapping):
        keys = [leaf.key for leaf in leaves]
        if set(given) != set(keys):
            raise SymmetryError(
                f"observation map {name!r} is given for keys {sorted(given)}, the observation has "
                f"{sorted(map(str, keys))}: give each key a map, None for one that stays as it is"
            )
        parts = {leaf.key: _leaf_function(name, given[str(leaf.key)], leaf) for leaf in leaves}
        return lambda observation: {key: part(observation[key]) for key, part in parts.items()}
    if given is None or callable(given):
        return _leaf_function(name, given, leaves[0])
    if leaves[0].key is not None:
        raise SymmetryError(
            f"observation map {name!r} of a Dict space must be a function, or a dict of one map "
            "per key"
        )
    return _leaf_function(name, given, leaves[0])


def _leaf_function(name: str, given: Any, leaf: Leaf) -> Callable[[Any], Any]:
    if given is None:
        return lambda observation: observation
    if callable(given):
        return given  # type: ignore[no-any-return]
    array, n = np.asarray(given), leaf.size
    if leaf.low is not None and leaf.shape == () and leaf.values is not None:
        start, count = leaf.low[0], leaf.values[0]
        if array.ndim == 1 and np.array_equal(np.sort(array), np.arange(count) + start):
            return lambda observation: array[observation - start]
        raise SymmetryError(
            f"observation map {name!r}: expected a permutation of {start} … {start + count - 1}, "
            f"got {array.tolist()}"
        )
    if array.ndim == 1 and np.array_equal(np.sort(array), np.arange(n)):
        return lambda observation: observation.ravel()[array].reshape(observation.shape)
    if array.shape == (n,) and np.isin(array, (-1, 1)).all():
        return lambda observation: observation * array.reshape(observation.shape)
    if array.shape == (n, n) and np.issubdtype(array.dtype, np.number):
        return lambda observation: (array @ observation.ravel()).reshape(observation.shape)
    raise SymmetryError(
        f"observation map {name!r} has shape {array.shape}: for {leaf} of {n} entries give a "
        f"permutation of 0 … {n - 1}, {n} signs, a matrix ({n}, {n}), or a function"
    )
