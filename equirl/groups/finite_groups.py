"""Finite groups as Cayley tables, and the usual families of them.

Elements are the integers 0 … |G|-1 and 0 is always the identity e. The product ``g·h`` means
"first h, then g", as for maps: ``(g·h)(x) = g(h(x))``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import factorial

import numpy as np
import numpy.typing as npt

from equirl.errors import GroupError
from equirl.groups.closures import MAX_ORDER, close_generators
from equirl.groups.element_names import cycle_notation, word_name

IntArray = npt.NDArray[np.int64]


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
        for a in self.generators:
            left = self.table[self.table[:, a]]
            right = self.table[:, self.table[a]]
            if not np.array_equal(left, right):
                x, y = np.argwhere(left != right)[0]
                p, q, r = self.names[x], self.names[a], self.names[y]
                raise GroupError(f"not associative: ({p}·{q})·{r} differs from {p}·({q}·{r})")

    @cached_property
    def generators(self) -> list[int]:
        """Elements that generate the group, each the first one that those before do not reach."""
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
    permutations = np.array(closure.elements, dtype=np.int64).reshape(-1, n)
    return FiniteGroup(closure.table, closure.names), permutations


def _check_size(kind: str, n: int, order: int) -> None:
    if n < 1:
        raise GroupError(f"{kind}(n) needs n ≥ 1, got {n}")
    if order > MAX_ORDER:
        raise GroupError(f"{kind}({n}) has {order} elements, more than the {MAX_ORDER} supported")
