"""Finite groups as Cayley tables.

Elements are the integers 0 … |G|-1 and 0 is always the identity e. The product ``g·h`` means
"first h, then g", as for maps: ``(g·h)(x) = g(h(x))``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from equirl.errors import GroupError

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
        >>> from equirl.groups import dihedral
        >>> d4 = dihedral(4)
        >>> d4.order, d4.names[:6]
        (8, ('e', 'r', 'r²', 'r³', 's', 'rs'))
        >>> r, s = d4.index("r"), d4.index("s")
        >>> d4.names[d4.product(s, r)]
        'r³s'
    """

    table: IntArray
    names: tuple[str, ...] = ()

    generators: tuple[int, ...] = field(init=False)
    """Elements that generate the group, each the first one that those before do not reach."""

    inverses: IntArray = field(init=False)
    """``[|G|]``: ``inverses[g]`` is g⁻¹."""

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
        self._check_latin_square()
        object.__setattr__(self, "generators", self._generators())
        self._check_associative()
        inverses = np.argmin(table, axis=1)  # g·h = e = 0 is the smallest entry of row g
        inverses.setflags(write=False)
        object.__setattr__(self, "inverses", inverses)

    def _generators(self) -> tuple[int, ...]:
        chosen: list[int] = []
        reached: Iterable[int] = {0}
        for element in range(self.order):
            if element not in reached:
                chosen.append(element)
                reached = self._words(chosen).keys()
        return tuple(chosen)

    def _check_latin_square(self) -> None:
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

    def _check_associative(self) -> None:
        # Light's test: the elements a with (x·a)·y = x·(a·y) for all x, y are closed under the
        # product, so it is enough to test a set that generates everything: |G|² per generator.
        for a in self.generators:
            left = self.table[self.table[:, a]]
            right = self.table[:, self.table[a]]
            if not np.array_equal(left, right):
                x, y = np.argwhere(left != right)[0]
                p, q, r = self.names[x], self.names[a], self.names[y]
                raise GroupError(f"not associative: ({p}·{q})·{r} differs from {p}·({q}·{r})")

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
        return tuple(sorted(self._words(list(elements))))

    def words(self, generators: Sequence[int]) -> list[tuple[int, ...]]:
        """Each element as a shortest product of the generators, by their positions in the list.

        Raises:
            GroupError: they do not generate the group.
        """
        words = self._words(generators)
        if len(words) < self.order:
            missing = next(g for g in range(self.order) if g not in words)
            raise GroupError(
                f"{', '.join(self.names[g] for g in generators)} do not generate the group: "
                f"{self.names[missing]} is not a product of them"
            )
        return [words[g] for g in range(self.order)]

    def _words(self, generators: Sequence[int]) -> dict[int, tuple[int, ...]]:
        words: dict[int, tuple[int, ...]] = {0: ()}
        pending = deque([0])
        while pending:
            g = pending.popleft()
            for k, h in enumerate(generators):
                product = int(self.table[g, h])
                if product not in words:
                    words[product] = (*words[g], k)
                    pending.append(product)
        return words

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
