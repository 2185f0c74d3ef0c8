"""Compiling maps, given as ordinary functions, by calling them on a few chosen points.

Which entry of the point decides which entry of the result is found for all entries at once
(`Reading`); blocks of leaves that depend on each other follow from it. Signs, offsets, matrices and
tables are then read off, and each compiled map is compared with its function on further points. The
function is never called again afterwards.

What is certain and what is tested. A map that belongs here (a permutation of the entries with
signs and offsets, an affine map, a renaming of finite values) is always recognised. Any other is
noticed when it differs from what was read off on one of the points tried: every point of a space
of at most 512, else fifteen, some near the bounds and some, where there are no bounds, as far off
as 10,000. A function that departs from its compiled form only in a small part of a large space
may therefore pass; where it does so nowhere within the bounds, such as an angle that wraps at π,
it is what its compiled form says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equirl.actions import Affines, Block, Lookups, Maps, SignedPermutations
from equirl.declaring.probes import SEVERAL, Probe, joined, leaf_sources
from equirl.declaring.readings import Reading, places
from equirl.declaring.windows import Array
from equirl.errors import SymmetryError

MAX_DENSE_ENTRIES = 2048
"""A general affine map needs n² numbers; beyond this many entries only permutations are taken."""

MAX_VALUES = 2**16
"""Values of all finite entries together, each entry counted with as many as the largest has."""


def compiled(probes: Sequence[Probe]) -> tuple[list[Block], list[tuple[Maps, ...]]]:
    """The blocks of leaves that some map lets depend on each other; each map on every block.

    Raises:
        SymmetryError: a map is not of a kind that can be compiled (the entry is named).
    """
    window = probes[0].window
    readings = [Reading.of(probe) for probe in probes]
    blocks = _blocks(readings)
    found: dict[Block, list[Maps]] = {}
    finite = [block for block in blocks if window.leaves[block[0]].low is not None]
    for block in finite:
        _check_table_size(probes[0], block)
    renamed, mixed = list(finite), []
    for block in (block for block in blocks if block not in finite):
        signed = [_signed_permutation(reading, block) for reading in readings]
        if all(maps is not None for maps in signed):
            found[block] = [maps for maps in signed if maps is not None]
        elif all(_may_rename(reading, block) for reading in readings):
            renamed.append(block)
        else:
            mixed.append(block)
    tables = [_lookups(reading, renamed) for reading in readings]
    for block in renamed:
        maps = [table[block] for table in tables]
        error = next((m for m in maps if isinstance(m, SymmetryError)), None)
        if error is None:
            found[block] = [m for m in maps if isinstance(m, Maps)]
        elif block in finite:
            raise error
        else:
            mixed.append(block)
    affines = [_affines(reading, mixed) for reading in readings]
    found |= {block: [each[block] for each in affines] for block in mixed}
    return blocks, list(zip(*(found[block] for block in blocks), strict=True))


def _blocks(readings: list[Reading]) -> list[Block]:
    window, pairs = readings[0].probe.window, set()
    for reading in readings:
        own = leaf_sources(reading.probe, reading.entry)
        for i, j in sorted(own):
            one, other = window.leaves[i].kind, window.leaves[j].kind
            if one != other:
                probe = reading.probe
                raise SymmetryError(
                    f"{probe.title} lets {probe.leaf_name(i)} ({one}) depend on "
                    f"{probe.leaf_name(j)} ({other}): only parts of one kind can be exchanged"
                )
        pairs |= own
    return joined(len(window.leaves), sorted(pairs))


def _signed_permutation(reading: Reading, block: Block) -> SignedPermutations | None:
    """None where the function is something else."""
    window, where = reading.probe.window, reading.probe.window.entries(block)
    entry, sign = reading.entry[where], np.rint(reading.slope[where])
    if not np.array_equal(np.sort(entry), np.sort(where)) or (np.abs(sign) != 1).any():
        return None
    offset = reading.centre[where] - sign * window.centre[entry] + 0.0
    found = SignedPermutations(places(window, where)[entry][None], sign[None], offset[None])
    return found if reading.mismatch(where, found) is None else None


def _affines(reading: Reading, blocks: list[Block]) -> dict[Block, Affines]:
    """The affine map on each block, all blocks probed at once.

    Raises:
        SymmetryError: the function is not affine on a block.
    """
    probe, window = reading.probe, reading.probe.window
    where = {block: window.entries(block) for block in blocks}
    found: dict[Block, Affines] = {}
    columns: dict[Block, list[Array]] = {}
    for block in blocks:
        signed = _signed_permutation(reading, block)
        if signed is not None:
            found[block] = signed.as_affines()
        elif len(where[block]) > MAX_DENSE_ENTRIES:
            raise SymmetryError(
                f"{probe.title} is not a signed permutation of its {len(where[block])} entries, "
                f"and other affine maps are taken up to {MAX_DENSE_ENTRIES} entries only"
            )
        else:
            columns[block] = []
    step = np.where(window.is_float, window.unit / 2, np.where(window.centre < window.most, 1, -1))
    for k in range(max((len(where[block]) for block in columns), default=0)):
        raised = [where[block][k] for block in columns if k < len(where[block])]
        point = window.centre.copy()
        point[raised] += step[raised]
        change = window.wrapped(probe(point) - reading.centre)
        for block in columns:
            if k < len(where[block]):
                columns[block].append(change[where[block]] / step[where[block][k]])
    for block, rows in columns.items():
        matrix = np.stack(rows, axis=1)
        offset = reading.centre[where[block]] - matrix @ window.centre[where[block]]
        found[block] = Affines(matrix[None], offset[None])
        _check_affine(reading, where[block], found[block])
    return found


def _check_affine(reading: Reading, where: Array, maps: Affines) -> None:
    probe, window = reading.probe, reading.probe.window
    mismatch = reading.mismatch(where, maps)
    if mismatch is not None:
        entry, got, expected = mismatch
        bounds = f"{window.low[entry]:g} … {window.high[entry]:g}"
        raise SymmetryError(
            f"{probe.title} is not affine: entry {probe.entry_name(entry)} becomes {got:g} where "
            f"an affine map gives {expected:g}, within its bounds {bounds}; give a permutation, "
            "signed permutation or affine map of the entries, or for whole numbers of few values "
            "one that renames them"
        )
    # A map that has the identity among its powers has determinant ±1.
    log_volume = float(np.linalg.slogdet(maps.matrix[0])[1])
    if not abs(log_volume) < 0.01:
        raise SymmetryError(
            f"{probe.title} generates no finite group: it multiplies volumes by "
            f"{np.exp(log_volume):g}, a map that comes back to the identity keeps them"
        )


def _may_rename(reading: Reading, block: Block) -> bool:
    """Whether a Box is of whole numbers few enough for tables, and each decides another."""
    window, where = reading.probe.window, reading.probe.window.entries(block)
    if window.is_float[where].any():
        return False
    most = int((window.high - window.low)[where].max()) + 1
    return len(where) * most <= MAX_VALUES and np.array_equal(
        np.sort(reading.entry[where]), np.sort(where)
    )


def _check_table_size(probe: Probe, block: Block) -> None:
    leaves = [probe.window.leaves[j] for j in block]
    most = max(max(leaf.values) for leaf in leaves if leaf.values is not None)
    n = sum(leaf.size for leaf in leaves)
    if n * most > MAX_VALUES:
        low, shape = leaves[0].low, leaves[0].shape or (1,)
        alike = low is not None and len({*low}) == 1 == len({*(leaves[0].values or ())})
        ends = f"{low[0]}, {low[0] + most - 1}" if alike and low is not None else "low, high"
        dtype = "uint8" if ends == "0, 1" else "int64"
        raise SymmetryError(
            f"{probe.leaf_name(block[0])} has {n} entries of up to {most:,} values: tables of "
            f"where each value goes are made up to {MAX_VALUES:,} in all; declare the space as "
            f"Box({ends}, {shape}, np.{dtype}), which needs no tables"
        )


def _lookups(reading: Reading, blocks: list[Block]) -> dict[Block, Lookups | SymmetryError]:
    """The table of each block, or why there is none, all blocks probed at once."""
    probe, window = reading.probe, reading.probe.window
    if not blocks:
        return {}
    where = np.concatenate([window.entries(block) for block in blocks])
    values = np.ones(len(window.leaf), dtype=np.int64)
    values[where] = (window.most - window.least)[where].astype(np.int64) + 1
    # Entries take their values at different times, so that one that depends on others shows.
    offsets = np.random.default_rng(2).integers(0, values)
    given, results = [], []
    for _ in range(int(values.max())):
        given.append(offsets)
        point = window.centre.copy()
        point[where] = (window.least + offsets)[where]
        results.append(probe(point).astype(np.int64))
        offsets = (offsets + 1) % values
    return {
        block: _lookup(reading, window.entries(block), values, np.array(given), np.array(results))
        for block in blocks
    }


def _lookup(
    reading: Reading, where: Array, values: Array, given: Array, results: Array
) -> Lookups | SymmetryError:
    """One block's table.

    Args:
        where: the block's entries, ``[n]``.
        values: how many values each entry of the space has.
        given: ``[calls, entries]``, how far above its least value each entry was.
        results: ``[calls, entries]``, what the function made of that.
    """
    probe, window, entry = reading.probe, reading.probe.window, reading.entry[where]
    several = where[entry == SEVERAL]
    if len(several):
        return _depends_on_several(probe, several[0])
    unused = np.setdiff1d(where, entry)
    if len(unused):
        return SymmetryError(
            f"{probe.title} is not invertible: entry {probe.entry_name(unused[0])} does not decide "
            "any entry of the result"
        )
    n, low, own = len(where), window.least[where].astype(np.int64), values[where]
    table = np.empty((n, int(own.max())), dtype=np.int64)
    table[np.arange(n), given[:, entry]] = results[:, where]
    conflicting = (table[np.arange(n), given[:, entry]] != results[:, where]).any(axis=0)
    if conflicting.any():
        return _depends_on_several(probe, where[conflicting][0])
    # An entry with fewer values repeats the last of its own.
    columns = np.minimum(np.arange(table.shape[1]), values[entry][:, None] - 1)
    table = np.take_along_axis(table, columns, axis=1)
    outside = (table < low[:, None]) | (table >= (low + own)[:, None])
    if outside.any():
        i, value = np.argwhere(outside)[0]
        return SymmetryError(
            f"{probe.title} leaves the space: entry {probe.entry_name(where[i])} becomes "
            f"{table[i, value]}, outside {low[i]} … {low[i] + own[i] - 1}"
        )
    used = np.arange(table.shape[1]) < values[entry][:, None]
    for i in range(n):
        reached = table[i, used[i]].tolist()
        if len(reached) != own[i] or len({*reached}) != own[i]:
            return SymmetryError(
                f"{probe.title} is not a permutation of the values of entry "
                f"{probe.entry_name(where[i])}: it gives {reached}"
            )
    found = Lookups(places(window, where)[entry][None], table[None], low[None])
    mismatch = reading.mismatch(where, found)
    return found if mismatch is None else _depends_on_several(probe, mismatch[0])


def _depends_on_several(probe: Probe, entry: int) -> SymmetryError:
    return SymmetryError(
        f"{probe.title} lets entry {probe.entry_name(entry)} depend on several entries: it must "
        "copy one entry, or rename its values"
    )
