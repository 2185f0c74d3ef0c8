"""Finite groups as Cayley tables.

Elements are the integers 0 … |G|-1 and 0 is always the identity e. The product ``g·h`` means
"first h, then g", as for maps: ``(g·h)(x) = g(h(x))``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import factorial
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from equirl.errors import GroupError

IntArray = npt.NDArray[np.int64]
T = TypeVar("T")

MAX_ORDER = 1024
"""Closures stop here: a generator of infinite order never closes; no practical one is larger."""


@dataclass(frozen=True, eq=False)
class FiniteGroup:
    """An immutable finite group given by its Cayley table.

    Args:
        table: integers ``[|G|, |G|]``; ``table[g, h]`` is the element g·h. Element 0 must be the
            identity.
        names: one distinct name per element; ``e, g1, g2 …`` when left out.

    Raises:
        GroupError: the table breaks a group axiom (the message names the elements that break it).

    Example:
        >>> d4 = dihedral(4)
        >>> d4.order, d4.names[:6]
        (8, ('e', 'r', 'r²', 'r³', 's', 'rs'))
        >>> r, s = d4.index("r"), d4.index("s")
        >>> d4.names[d4.product(s, r)]
        'r³s'
    """

    table: IntArray
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        table = np.array(self.table)
        if table.ndim != 2 or table.shape[0] != table.shape[1] or table.shape[0] == 0:
            raise GroupError(f"a Cayley table is square and not empty, this one is {table.shape}")
        if not np.issubdtype(table.dtype, np.integer):
            raise GroupError(f"a Cayley table holds integers, this one holds {table.dtype}")
        order = table.shape[0]
        names = tuple(self.names) or ("e", *(f"g{i}" for i in range(1, order)))
        if len(names) != order or len(set(names)) != order:
            raise GroupError(f"{order} elements need {order} distinct names, got {names!r}")
        table = table.astype(np.int64)
        table.setflags(write=False)
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "names", names)
        self._check_axioms()

    def _check_axioms(self) -> None:
        elements = np.arange(self.order)
        if self.table.min() < 0 or self.table.max() >= self.order:
            raise GroupError(f"table entries must lie in 0 … {self.order - 1}")
        if not (
            np.array_equal(self.table[0], elements) and np.array_equal(self.table[:, 0], elements)
        ):
            raise GroupError(
                "element 0 must be the identity: row 0 and column 0 must be 0, 1, 2, …"
            )
        rows_are_permutations = np.array_equal(
            np.sort(self.table, axis=1), np.broadcast_to(elements, self.table.shape)
        )
        columns_are_permutations = np.array_equal(
            np.sort(self.table, axis=0), np.broadcast_to(elements[:, None], self.table.shape)
        )
        if not (rows_are_permutations and columns_are_permutations):
            raise GroupError(
                "every row and column must hold every element once, or inverses are missing"
            )
        # Light's test: the elements a with (x·a)·y = x·(a·y) for all x, y are closed under the
        # product, so it is enough to test a set that generates everything: |G|² per generator.
        for a in self._generating_set():
            left = self.table[self.table[:, a]]
            right = self.table[:, self.table[a]]
            if not np.array_equal(left, right):
                x, y = np.argwhere(left != right)[0]
                p, q, r = self.names[x], self.names[a], self.names[y]
                raise GroupError(f"not associative: ({p}·{q})·{r} differs from {p}·({q}·{r})")

    def _generating_set(self) -> list[int]:
        chosen: list[int] = []
        reached = {0}
        for element in range(self.order):
            if element not in reached:
                chosen.append(element)
                reached = set(self.generated_by(chosen))
        return chosen

    @classmethod
    def trivial(cls) -> FiniteGroup:
        """The group {e}."""
        return cls(np.zeros((1, 1), dtype=np.int64), ("e",))

    @property
    def order(self) -> int:
        """|G|, the number of elements."""
        return int(self.table.shape[0])

    @property
    def identity(self) -> int:
        """The identity element, always 0."""
        return 0

    @cached_property
    def inverses(self) -> IntArray:
        """``[|G|]``: ``inverses[g]`` is g⁻¹."""
        inverses: IntArray = np.argmin(
            self.table, axis=1
        )  # g·h = e = 0 is the smallest entry of row g
        inverses.setflags(write=False)
        return inverses

    def product(self, *elements: int) -> int:
        """g·h·…, the identity when no element is given."""
        result = 0
        for element in elements:
            result = int(self.table[result, element])
        return result

    def inverse(self, element: int) -> int:
        """g⁻¹."""
        return int(self.inverses[element])

    def order_of(self, element: int) -> int:
        """The smallest k ≥ 1 with gᵏ = e."""
        power, k = int(element), 1
        while power != 0:
            power, k = int(self.table[power, element]), k + 1
        return k

    def index(self, name: str) -> int:
        """The element called ``name``.

        Raises:
            GroupError: no element has that name.
        """
        if name not in self.names:
            raise GroupError(f"no element {name!r}; the elements are {', '.join(self.names)}")
        return self.names.index(name)

    @property
    def is_abelian(self) -> bool:
        """Whether g·h = h·g for all elements."""
        return bool(np.array_equal(self.table, self.table.T))

    def generated_by(self, elements: Iterable[int]) -> tuple[int, ...]:
        """The elements of the smallest subgroup holding ``elements``, in increasing order."""
        generators = [int(g) for g in elements]
        reached, pending = {0}, [0]
        while pending:
            g = pending.pop()
            for h in generators:
                product = int(self.table[g, h])
                if product not in reached:
                    reached.add(product)
                    pending.append(product)
        return tuple(sorted(reached))

    def subgroup(self, elements: Iterable[int]) -> FiniteGroup:
        """The subgroup generated by ``elements`` as a group of its own, names kept.

        Its element k is element ``generated_by(elements)[k]`` of this group.
        """
        members = np.array(self.generated_by(elements))
        position = np.full(self.order, -1)
        position[members] = np.arange(len(members))
        return FiniteGroup(
            position[self.table[np.ix_(members, members)]], tuple(self.names[g] for g in members)
        )

    def __reduce__(self) -> tuple[object, ...]:
        return FiniteGroup, (self.table, self.names)  # arrays unpickle writable; these must not

    def __deepcopy__(self, memo: dict[int, object]) -> FiniteGroup:
        return self  # immutable

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FiniteGroup):
            return NotImplemented
        return self.names == other.names and np.array_equal(self.table, other.table)

    def __hash__(self) -> int:
        return hash((self.names, self.table.tobytes()))

    def __repr__(self) -> str:
        shown = ", ".join(self.names[:8]) + (", …" if self.order > 8 else "")
        return f"FiniteGroup(order {self.order}: {shown})"


def cyclic(n: int) -> FiniteGroup:
    """The cyclic group of order n: e, r, r², …, generated by r.

    Example:
        >>> cyclic(3).names
        ('e', 'r', 'r²')
    """
    _check_size("cyclic", n, n)
    k = np.arange(n)
    return FiniteGroup((k[:, None] + k) % n, tuple(word_name(("r",) * i) for i in range(n)))


def dihedral(n: int) -> FiniteGroup:
    """The dihedral group of **order 2n**: n rotations rᵏ and n reflections rᵏs, with s·r = r⁻¹·s.

    ``dihedral(4)`` is the symmetry group of the square.
    """
    _check_size("dihedral", n, 2 * n)
    rotation, reflection = np.tile(np.arange(n), 2), np.repeat([0, 1], n)
    sign = 1 - 2 * reflection
    turned = (rotation[:, None] + sign[:, None] * rotation) % n
    names = tuple(
        word_name(("r",) * int(k) + ("s",) * int(f))
        for k, f in zip(rotation, reflection, strict=True)
    )
    return FiniteGroup(turned + n * (reflection[:, None] ^ reflection), names)


def symmetric(n: int) -> FiniteGroup:
    """The symmetric group of all n! permutations of 0 … n-1, named by their cycles.

    Example:
        >>> symmetric(3).names
        ('e', '(1 2)', '(0 1)', '(0 1 2)', '(0 2 1)', '(0 2)')
    """
    _check_size("symmetric", n, factorial(max(n, 0)))
    permutations = np.array(list(itertools.permutations(range(n))), dtype=np.int64)
    weights = n ** np.arange(n)[::-1]
    keys = permutations @ weights  # increasing, since itertools yields them in lexicographic order
    composed = permutations[:, permutations]  # [g, h, x] = g(h(x))
    return FiniteGroup(
        np.searchsorted(keys, composed @ weights), tuple(cycle_notation(p) for p in permutations)
    )


def direct_product(a: FiniteGroup, b: FiniteGroup) -> FiniteGroup:
    """The direct product A × B; the pair (g, h) is element ``g * b.order + h``."""
    _check_size("direct product", 1, a.order * b.order)
    table = (a.table[:, None, :, None] * b.order + b.table[None, :, None, :]).reshape(
        a.order * b.order, a.order * b.order
    )
    names = [f"({g}, {h})" for g in a.names for h in b.names]
    return FiniteGroup(table, ("e", *names[1:]))


@dataclass(frozen=True)
class Closure(Generic[T]):
    """What a set of generators generates.

    Args:
        group: the abstract group.
        elements: what each of its elements is, in the group's own order.
        words: each element as a word in the generators, e.g. ``("r", "r", "s")`` for r·r·s.
        generators: which element each generator is.
    """

    group: FiniteGroup
    elements: tuple[T, ...]
    words: tuple[tuple[str, ...], ...]
    generators: dict[str, int]


def close_generators(
    generators: Mapping[str, T],
    identity: T,
    compose: Callable[[T, T], T],
    find: Callable[[Sequence[T], T], int | None],
    limit: int = MAX_ORDER,
) -> Closure[T]:
    """Everything the generators generate, by Dimino's algorithm (coset by coset).

    Args:
        generators: the generators by name; element names are words in them (``r``, ``r²s``).
        identity: the neutral element.
        compose: ``compose(g, h)`` is g·h.
        find: position of an element in a sequence, or None where it is not in it.
        limit: give up beyond that many elements.

    Raises:
        GroupError: more than ``limit`` elements.
    """
    elements: list[T] = [identity]
    words: list[tuple[str, ...]] = [()]

    def add_coset(representative: T, word: tuple[str, ...], subgroup_order: int) -> None:
        if len(elements) + subgroup_order > limit:
            raise GroupError(
                f"the generators {', '.join(generators)} do not close within {limit} elements: "
                "one of them is not of finite order, or is misspelt"
            )
        for h in range(subgroup_order):
            elements.append(compose(elements[h], representative) if h else representative)
            words.append(words[h] + word)

    used: list[tuple[str, T]] = []
    for name, generator in generators.items():
        used.append((name, generator))
        if find(elements, generator) is not None:
            continue
        subgroup_order = coset_start = len(elements)
        add_coset(generator, (name,), subgroup_order)
        while coset_start < len(elements):
            for step_name, step in used:
                candidate = compose(elements[coset_start], step)
                if find(elements, candidate) is None:
                    add_coset(candidate, (*words[coset_start], step_name), subgroup_order)
            coset_start += subgroup_order

    def position(element: T) -> int:
        found = find(elements, element)
        if found is None:
            raise GroupError(
                f"the generators {', '.join(generators)} generate no finite group: one of them is "
                "not of finite order, or is misspelt"
            )
        return found

    times = {name: np.array([position(compose(g, step)) for g in elements]) for name, step in used}
    columns = []
    for word in words:
        column = np.arange(len(elements))
        for name in word:
            column = times[name][column]
        columns.append(column)
    names = tuple(map(word_name, words))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise GroupError(f"two elements would be called {twice!r}: give the generators other names")
    return Closure(
        FiniteGroup(np.stack(columns, axis=1), names),
        tuple(elements),
        tuple(words),
        {name: int(times[name][0]) for name in generators},
    )


def from_permutations(generators: Mapping[str, Sequence[int]]) -> tuple[FiniteGroup, IntArray]:
    """The permutation group generated by ``generators``.

    Returns:
        The group and its permutations ``[|G|, n]``, where ``permutations[g, x]`` is g(x).

    Raises:
        GroupError: a generator is not a permutation, or the lengths differ.

    Example:
        >>> group, permutations = from_permutations({"r": [1, 2, 3, 0], "s": [1, 0, 3, 2]})
        >>> group == dihedral(4)
        True
    """
    lengths = {len(p) for p in generators.values()}
    if len(lengths) != 1:
        raise GroupError(
            f"generators must be permutations of equal length, got lengths {sorted(lengths)}"
        )
    (n,) = lengths
    for name, permutation in generators.items():
        if sorted(permutation) != list(range(n)):
            raise GroupError(
                f"generator {name!r} is not a permutation of 0 … {n - 1}: {list(permutation)}"
            )
    positions: dict[tuple[int, ...], int] = {}

    def find(elements: Sequence[tuple[int, ...]], element: tuple[int, ...]) -> int | None:
        while len(positions) < len(elements):
            positions[elements[len(positions)]] = len(positions)
        return positions.get(element)

    closure = close_generators(
        {name: tuple(int(x) for x in p) for name, p in generators.items()},
        tuple(range(n)),
        lambda g, h: tuple(g[x] for x in h),
        find,
    )
    return closure.group, np.array(closure.elements, dtype=np.int64).reshape(-1, n)


_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def word_name(word: Sequence[str]) -> str:
    """A word in the generators as a name: ``e``, ``mirror``, ``r²s``, ``turn²·mirror``."""
    if not word:
        return "e"
    parts = []
    for letter, run in itertools.groupby(word):
        power = len(list(run))
        parts.append(letter if power == 1 else letter + str(power).translate(_SUPERSCRIPTS))
    return ("" if all(len(letter) == 1 for letter in word) else "·").join(parts)


def cycle_notation(permutation: Sequence[int] | IntArray) -> str:
    """A permutation as its cycles, ``(0 1 2)(3 4)``; ``e`` for the identity."""
    cycles, seen = [], set()
    for start in range(len(permutation)):
        cycle, x = [], start
        while x not in seen:
            seen.add(x)
            cycle.append(str(x))
            x = int(permutation[x])
        if len(cycle) > 1:
            cycles.append(f"({' '.join(cycle)})")
    return "".join(cycles) or "e"


def _check_size(kind: str, n: int, order: int) -> None:
    if n < 1:
        raise GroupError(f"{kind}(n) needs n ≥ 1, got {n}")
    if order > MAX_ORDER:
        raise GroupError(f"{kind}({n}) has {order} elements, more than the {MAX_ORDER} supported")
