"""Transitions as columns of numbers, for the learners of the statistical check.

Entries of a `Discrete`, `MultiDiscrete` or `MultiBinary` are categories: one column of zeros and
ones per value. Entries of a `Box` are numbers. A `Dict` is flattened key by key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.actions import Leaf, as_leaves, leaves_of
from equirl.symmetry import Symmetry
from equirl.verification.play import Play

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

QUANTITIES = ("dynamics", "reward", "termination")
"""What must not change; the distribution of initial states may."""

MAX_COLUMNS = 150
"""Of observations with more columns that vary, those with the largest variance are looked at."""

LEAST_SEEN_AGAIN, LEAST_LIKELY = 0.05, 0.8
"""See `images_recur_less`."""

CONSTANT = 1e-9
"""A column with less spread does not vary."""

MAX_COPIES = 8
"""Cyclic groups up to this order are looked at whole; of larger ones, e and g."""


@dataclass(frozen=True)
class Column:
    """One column of encoded observations: an entry of a leaf, or one value of that entry."""

    leaf: int
    entry: int
    value: int | None
    name: str


def columns_of(space: spaces.Space[Any]) -> list[Column]:
    """All columns of the observations of a space; two-valued entries have one."""
    columns = []
    for number, leaf in enumerate(leaves_of(space)):
        for entry in range(leaf.size):
            name = entry_name(leaf, entry)
            count = None if leaf.values is None else leaf.values[entry]
            if count is None or leaf.low is None:
                columns.append(Column(number, entry, None, name))
                continue
            low = leaf.low[entry]
            values = range(low, low + count) if count > 2 else [low + 1]
            columns += [Column(number, entry, value, f"{name} = {value}") for value in values]
    return columns


def entry_name(leaf: Leaf, entry: int) -> str:
    """An entry as one writes it: ``s[3]``, ``position[1]``, ``s[0, 2]`` or ``s``."""
    name = "s" if leaf.key is None else leaf.key
    if not leaf.shape:
        return name
    place = np.unravel_index(entry, leaf.shape)
    return f"{name}[{', '.join(str(int(i)) for i in place)}]"


def encoded(
    space: spaces.Space[Any], columns: list[Column], observations: Any
) -> npt.NDArray[np.float64]:
    """``[N, columns]`` for a batch of observations."""
    arrays = as_leaves(observations, leaves_of(space))
    flat = [np.asarray(array).reshape(len(array), -1) for array in arrays]
    out = np.empty((len(flat[0]), len(columns)))
    for j, column in enumerate(columns):
        entry = flat[column.leaf][:, column.entry]
        out[:, j] = entry if column.value is None else entry == column.value
    return np.nan_to_num(out, posinf=1e9, neginf=-1e9)


@dataclass(frozen=True)
class Copies:
    """The same N transitions moved by e, g, g², …: K copies, the first as they happened.

    Args:
        states: encoded s and the time within the episode, ``[K, N, p]``, in units of the spread.
        names: of the columns of ``states``.
        actions: one-hot, or the numbers of a continuous action, ``[K, N, q]``.
        action_codes: which action, for few discrete ones, else zeros, ``[K, N]``.
        outcomes: what follows, by quantity, ``[K, N, m]``.
        outcome_names: of their columns.
        keys: equal for equal (s, a), ``[K, N]``.
        symbols: equal for equal outcomes, by quantity, ``[K, N]``.
    """

    states: FloatArray
    names: list[str]
    actions: FloatArray
    action_codes: IntArray
    outcomes: dict[str, FloatArray]
    outcome_names: dict[str, list[str]]
    keys: IntArray
    symbols: dict[str, IntArray]

    @property
    def count(self) -> int:
        """K."""
        return len(self.keys)

    @property
    def signs(self) -> FloatArray:
        """``[K]``: 1 for the transitions as they happened, −1 in total for the moved ones."""
        return np.array([1.0] + [-1.0 / (self.count - 1)] * (self.count - 1))


def powers(symmetry: Symmetry, name: str) -> list[int]:
    """The elements e, g, g², … by number; of a large order only e and g."""
    g = symmetry.group.index(name)
    elements, element = [0], g
    while element != 0:
        elements.append(element)
        element = int(symmetry.group.table[element, g])
    return elements if len(elements) <= MAX_COPIES else [0, g]


@dataclass(frozen=True)
class Encoder:
    """How the transitions of one play become columns, for one generator.

    Planted violations are encoded by the encoder of the play that they were planted in.
    """

    symmetry: Symmetry
    elements: list[int]
    kept: list[Column]
    outcome_columns: list[Column]
    centre: FloatArray
    spread: FloatArray
    action_count: int
    leaves_out: bool
    """More columns vary than `MAX_COLUMNS`."""

    @classmethod
    def of(cls, symmetry: Symmetry, name: str, play: Play) -> Encoder:
        """For the powers of the generator ``name``."""
        elements = powers(symmetry, name)
        space = symmetry.observation_space
        columns = columns_of(space)
        rows = max(100, min(4000, 10**6 // len(columns)))
        sample = play.rows(slice(None, None, max(1, len(play) // rows)))
        moved = [symmetry.transform_observation(g, sample.observations) for g in elements]
        following = [symmetry.transform_observation(g, sample.next_observations) for g in elements]
        here = np.concatenate([encoded(space, columns, m) for m in moved])
        there = np.concatenate([encoded(space, columns, m) for m in following])
        kept = _largest(here.std(axis=0))
        is_number = np.array([column.value is None for column in columns])
        changes = _largest(np.where(is_number, (there - here).std(axis=0), there.std(axis=0)))
        space_of_actions: Any = symmetry.action_space
        few = isinstance(space_of_actions, spaces.Discrete) and space_of_actions.n <= 24
        return cls(
            symmetry,
            elements,
            [columns[j] for j in kept],
            [columns[j] for j in changes],
            here[:, kept].mean(axis=0),
            here[:, kept].std(axis=0),
            int(space_of_actions.n) if few else 1,
            int((here.std(axis=0) > CONSTANT).sum()) > MAX_COLUMNS,
        )

    def copies(self, play: Play, before: Copies | None = None) -> Copies:
        """All copies of a play.

        Args:
            play: the transitions.
            before: copies of the same transitions, where only what followed was different.
        """
        space, k = self.symmetry.observation_space, len(self.elements)
        here, there, begun = [], [], []
        for g in self.elements:
            moved = self.symmetry.transform_observation(g, play.observations)
            following = self.symmetry.transform_observation(g, play.next_observations)
            if before is None:
                here.append((encoded(space, self.kept, moved) - self.centre) / self.spread)
            there.append(encoded(space, self.outcome_columns, following))
            begun.append(encoded(space, self.outcome_columns, moved))
        numbers = np.array([column.value is None for column in self.outcome_columns], dtype=float)
        changes = np.stack(there) - np.stack(begun) * numbers
        followed = changes.reshape(k * len(play), changes.shape[2])
        rewards = np.broadcast_to(play.rewards[:, None], (k, len(play), 1))
        ends = np.broadcast_to(play.terminations[:, None].astype(float), (k, len(play), 1))
        ours = self._of_states(play, here) if before is None else _of_states(before)
        names = [column.name for column in self.outcome_columns]
        return Copies(
            **ours,
            outcomes={"dynamics": changes, "reward": rewards.copy(), "termination": ends.copy()},
            outcome_names={"dynamics": names, "reward": ["reward"], "termination": ["terminated"]},
            symbols={
                "dynamics": _hashed(followed).reshape(k, -1),
                "reward": _hashed(rewards.reshape(-1, 1)).reshape(k, -1),
                "termination": ends[..., 0].astype(np.int64),
            },
        )

    def _of_states(self, play: Play, here: list[FloatArray]) -> dict[str, Any]:
        """The fields of `Copies` that say where the transitions begin."""
        k, n = len(self.elements), len(play)
        actions = [self.symmetry.transform_action(g, play.actions) for g in self.elements]
        codes = np.zeros((k, n), dtype=np.int64)
        if self.action_count > 1:
            first: Any = self.symmetry.action_space
            codes = np.stack([np.asarray(a, dtype=np.int64) - int(first.start) for a in actions])
            on_actions = (codes[..., None] == np.arange(self.action_count)).astype(float)
        else:
            on_actions = np.stack([np.asarray(a, dtype=np.float64).reshape(n, -1) for a in actions])
        x = _snapped(np.clip(np.stack(here), -5, 5))
        late = play.times / max(1, play.times.max(initial=0)) * 3
        time = np.broadcast_to(late[:, None], (k, n, 1))
        in_keys = np.concatenate([x, _snapped(on_actions)], axis=2)
        return {
            "states": np.concatenate([x, time], axis=2),
            "names": [*(column.name for column in self.kept), "time"],
            "actions": on_actions,
            "action_codes": codes,
            "keys": _hashed(in_keys.reshape(k * n, -1)).reshape(k, n),
        }


def _largest(spread: FloatArray) -> list[int]:
    """The columns that vary, at most `MAX_COLUMNS` of them, in their order."""
    order = np.argsort(-spread, kind="stable")[:MAX_COLUMNS]
    return [int(j) for j in sorted(order) if spread[j] > CONSTANT]


def _of_states(before: Copies) -> dict[str, Any]:
    names = ("states", "names", "actions", "action_codes", "keys")
    return {name: getattr(before, name) for name in names}


def _snapped(copies: FloatArray) -> FloatArray:
    """The same, values that differ by rounding made equal: 1 − 0.3 is not quite 0.7.

    Trees and thresholds could tell originals and moved copies apart by the last digit.
    """
    out = np.empty_like(copies)
    for j in range(copies.shape[2]):
        values, place = np.unique(copies[..., j], return_inverse=True)
        begins = np.concatenate([[True], np.diff(values) > 1e-5])
        firsts = values[begins][np.cumsum(begins) - 1]
        out[..., j] = firsts[place].reshape(copies.shape[:2])
    return out


def _hashed(rows: FloatArray) -> IntArray:
    """``[N]``: equal for rows equal to three decimals, and almost surely only then."""
    # An odd offset keeps values that differ by rounding away from the edges of the cells.
    cells = np.floor(rows * 1e3 + 0.4142).astype(np.int64)
    multipliers = np.random.default_rng(7).integers(2**61, size=rows.shape[1]) * 2 + 1
    with np.errstate(over="ignore"):
        return np.asarray((cells * multipliers).sum(axis=1), dtype=np.int64)


def images_recur_less(symmetry: Symmetry, name: str, play: Play) -> bool:
    """Whether whole states recur from episode to episode, but plainly less often their images.

    Of observations of which columns are left out this tells that visits are one-sided.
    """
    g, late = symmetry.group.index(name), play.episodes % 2 == 1
    states = _hashes(symmetry, play.rows(~late), 0)
    known = _hashes(symmetry, play.rows(late), 0)
    recurring = float(np.isin(states, known).mean())
    images = float(np.isin(_hashes(symmetry, play.rows(~late), g), known).mean())
    return recurring > LEAST_SEEN_AGAIN and images < LEAST_LIKELY * recurring


def _hashes(symmetry: Symmetry, play: Play, g: int) -> IntArray:
    leaves, found = leaves_of(symmetry.observation_space), [np.zeros(0, dtype=np.int64)]
    at_once = max(1, 2**22 // sum(leaf.size for leaf in leaves))  # of images there are many numbers
    for start in range(0, len(play), at_once):
        rows = play.rows(slice(start, start + at_once))
        arrays = as_leaves(symmetry.transform_observation(g, rows.observations), leaves)
        flat = [np.asarray(array, dtype=np.float64).reshape(len(rows), -1) for array in arrays]
        found.append(_hashed(np.concatenate(flat, axis=1)))
    return np.concatenate(found)
