"""Compiling an observation map, given as an ordinary function, by probing it.

A handful of well-chosen inputs reveals which input entry each output entry copies, its sign and
its offset; random inputs then confirm it. The function is never called again afterwards.
"""

from __future__ import annotations

import numpy as np

from equirl.actions.affines import Affines
from equirl.actions.layout import Leaf
from equirl.actions.lookups import Lookups
from equirl.actions.maps import Maps
from equirl.actions.signed_permutations import SignedPermutations
from equirl.declaring.probes import Array, Block, Probe
from equirl.errors import SymmetryError

MAX_DENSE_ENTRIES = 2048
"""A general affine map needs n² numbers; beyond this many entries only permutations are taken."""

MAX_VALUES = 2**16
"""Values of all finite entries together, each entry counted with as many as the largest has."""

MATCHING = 1e-5
"""Relative difference up to which a function counts as following its compiled form; float32
arithmetic inside the function is that coarse."""


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
    offset = probe.on_block(block, np.zeros(n))
    # Which entry goes where is read off numbers that name each entry: all at once where the dtype
    # is wide enough, else digit by digit. Each digit is ≥ 1, so that a sign always shows.
    widest = 2**20 if leaf.is_float else min(np.iinfo(leaf.dtype).max // 2 - 1, 2**20)
    base = max(min(widest, n), 2)
    index, sign, weight = np.zeros(n, dtype=np.int64), np.zeros(n), 1
    while weight < n or weight == 1:
        digits = (np.arange(n) // weight) % base + 1
        moved = _wrapped(probe.on_block(block, digits) - offset, leaf)
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
    offset = probe.on_block(block, np.zeros(n))
    columns = [_wrapped(probe.on_block(block, unit) - offset, leaf) for unit in np.eye(n)]
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
    if n * most > MAX_VALUES:
        raise SymmetryError(
            f"{probe.leaves[block[0]]} has {n} entries of up to {most:,} values: tables of where "
            f"each value goes are made up to {MAX_VALUES:,} in all"
        )

    def moved(offsets: Array) -> Array:
        return probe.on_block(block, low + np.minimum(offsets, values - 1))

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
        if leaf.is_float or leaf.low is not None:
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


def _wrapped(difference: Array, leaf: Leaf) -> Array:
    """A difference of integers, undoing the wrap-around of their dtype."""
    if leaf.is_float or np.dtype(leaf.dtype).itemsize == 8:
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
