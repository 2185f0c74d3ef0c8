"""What a group element does to each named entry, as a table that one can proof-read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from equirl.actions import Affines, GroupAction, Lookups, Maps, NumpyArray, SignedPermutations
from equirl.errors import SymmetryError

MOST_ROWS = 200
"""Of tables of more entries only those that change are shown, and no more than this."""


class Row(NamedTuple):
    """One entry: its name, what it becomes, and ``+``, ``-`` or nothing in place of a sign."""

    entry: str
    becomes: str
    sign: str

    @property
    def stays(self) -> bool:
        """Whether the entry is left as it is."""
        return self.entry == self.becomes and self.sign == "+"


def table(rows: Sequence[Row]) -> str:
    """The rows under ``entry``, ``becomes`` and ``sign``, in columns."""
    shown = list(rows) if len(rows) <= MOST_ROWS else [row for row in rows if not row.stays]
    left_out = len(rows) - len(shown), max(0, len(shown) - MOST_ROWS)
    shown = shown[:MOST_ROWS]
    lines = [("entry", "becomes", "sign"), *shown]
    widths = [max(len(line[column]) for line in lines) for column in range(2)]
    text = [
        f"{entry:<{widths[0]}}  {becomes:<{widths[1]}}  {sign}".rstrip()
        for entry, becomes, sign in lines
    ]
    text += [f"({left_out[0]:,} more entries stay as they are)"] if left_out[0] else []
    text += [f"({left_out[1]:,} more entries change)"] if left_out[1] else []
    return "\n".join(text)


def describe_action(action: GroupAction, g: int | str, names: Sequence[str] | None = None) -> str:
    """What an element does to every entry, as a table.

    Args:
        action: of a group, on observations or on actions.
        g: the element, by number or name.
        names: of the flat entries, leaf after leaf; of a Discrete space, of its values. Without
            them entries are called as they are indexed.

    Raises:
        SymmetryError: there are not as many names as entries, or no such element.

    Example:
        >>> from equirl import Symmetry
        >>> from gymnasium import spaces
        >>> cartpole = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
        >>> symmetry = Symmetry.from_generators(*cartpole, {"mirror": ([-1, 1], [1, 0])})
        >>> print(describe_action(symmetry.observations, "mirror", ["angle", "height"]))
        entry   becomes  sign
        angle   angle    -
        height  height   +
        >>> print(describe_action(symmetry.actions, "mirror", ["push left", "push right"]))
        entry       becomes     sign
        push left   push right  +
        push right  push left   +
    """
    return table(_rows_of(action, g, names))


def describe_changes(action: GroupAction, g: int | str, names: Sequence[str] | None = None) -> str:
    """The entries that an element does not leave as they are, on one line.

    Args:
        action: as of `describe_action`.
        g: likewise.
        names: likewise.

    Example:
        >>> from equirl import Symmetry
        >>> from gymnasium import spaces
        >>> pendulum = spaces.Box(-1, 1, (3,)), spaces.Box(-2, 2, (1,))
        >>> symmetry = Symmetry.from_generators(*pendulum, {"mirror": ([1, -1, -1], [-1])})
        >>> describe_changes(symmetry.observations, "mirror", ["cos", "sin", "speed"])
        'sin → -sin, speed → -speed'
    """
    changed = [row for row in _rows_of(action, g, names) if not row.stays]
    signs = {"-": "-", "+": "", "": ""}
    return ", ".join(f"{row.entry} → {signs[row.sign]}{row.becomes}" for row in changed)


def _rows_of(action: GroupAction, g: int | str, names: Sequence[str] | None) -> list[Row]:
    k = action.group.index(g) if isinstance(g, str) else int(g)
    if not 0 <= k < action.group.order:
        raise SymmetryError(f"elements are numbered 0 … {action.group.order - 1}, got {g}")
    leaf = action.leaves[0]
    if leaf.key is None and leaf.shape == () and isinstance(action.maps[0], Lookups):
        maps = action.maps[0].take(k)
        low, values = int(maps.low[0, 0]), maps.table[0, 0]
        called = _checked_names(names, [str(low + v) for v in range(len(values))])
        return [Row(called[v], called[to - low], "+") for v, to in enumerate(values)]
    called = _checked_names(names, list(_indices(action)))
    starts = np.concatenate([[0], np.cumsum([leaf.size for leaf in action.leaves])])
    rows: dict[int, Row] = {}
    for block, stack in zip(action.blocks, action.maps, strict=True):
        where = np.concatenate([np.arange(starts[j], starts[j + 1]) for j in block])
        own = [called[i] for i in where]
        rows |= dict(zip(where.tolist(), _rows(stack.take(k), own), strict=True))
    return [rows[i] for i in range(len(rows))]


def _rows(maps: Maps, names: list[str]) -> Iterator[Row]:
    """The rows of the one map of a stack."""
    if isinstance(maps, Lookups):
        yield from _renamed_rows(maps, names)
        return
    if isinstance(maps, SignedPermutations):
        full = maps.with_all_arrays()
        sign, offset = full.arrays["sign"], full.arrays["offset"]
        assert sign is not None
        assert offset is not None
        for i, name in enumerate(names):
            yield _signed_row(name, names[full.index[0, i]], sign[0, i], offset[0, i])
        return
    assert isinstance(maps, Affines)
    for name, row, offset in zip(names, maps.matrix[0], maps.offset[0], strict=True):
        terms = [(c, names[j]) for j, c in enumerate(row) if abs(c) > 1e-9]
        if len(terms) == 1 and abs(abs(terms[0][0]) - 1) < 1e-9:
            yield _signed_row(name, terms[0][1], terms[0][0], offset)
        else:
            text = " + ".join(f"{c:g}·{other}" for c, other in terms) + _shift(offset)
            yield Row(name, text.replace("+ -", "- "), "")


def _signed_row(name: str, other: str, sign: float, offset: float) -> Row:
    if abs(offset) <= 1e-9:
        return Row(name, other, "+" if sign > 0 else "-")
    text = f"{other}{_shift(offset)}" if sign > 0 else f"{offset:g} - {other}"
    return Row(name, text, "")


def _shift(offset: float) -> str:
    if abs(offset) <= 1e-9:
        return ""
    return f" + {offset:g}" if offset > 0 else f" - {-offset:g}"


def _renamed_rows(maps: Lookups, names: list[str]) -> Iterator[Row]:
    for i, name in enumerate(names):
        source = int(maps.index[0, i])
        low = int(maps.low[0, source])
        becomes = _without_repetition(maps.table[0, i])
        changed = [(low + v, to) for v, to in enumerate(becomes) if to != low + v]
        text = ", ".join(f"{v}→{to}" for v, to in changed[:8]) + ", …" * (len(changed) > 8)
        yield Row(name, f"{names[source]} ({text})" if changed else names[source], "+" * (not text))


def _without_repetition(values: NumpyArray) -> list[int]:
    """An entry with fewer values than others repeats the last of its own."""
    listed: list[int] = values.tolist()
    while len(listed) > 1 and listed[-1] == listed[-2]:
        listed.pop()
    return listed


def _indices(action: GroupAction) -> Iterator[str]:
    for leaf in action.leaves:
        key = "" if leaf.key is None else repr(leaf.key)
        for index in np.ndindex(*leaf.shape):
            yield f"{key}[{', '.join(map(str, index))}]" if index else key or "value"


def _checked_names(given: Sequence[str] | None, entries: list[str]) -> list[str]:
    if given is None:
        return entries
    if isinstance(given, str) or len(given) != len(entries):
        count = 1 if isinstance(given, str) else len(given)
        raise SymmetryError(f"{len(entries)} entries need as many names, got {count}")
    return list(given)
