"""Closing a set of generators: every element they generate, and how the elements multiply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from equirl.errors import GroupError
from equirl.groups.element_names import word_name

T = TypeVar("T")

MAX_ORDER = 1024
"""Closures stop here: a generator of infinite order never closes; no practical one is larger."""


@dataclass(frozen=True)
class Closure(Generic[T]):
    """What a set of generators generates.

    Args:
        table: the Cayley table, integers ``[|G|, |G|]`` with the identity first.
        names: the name of each element, for `FiniteGroup`.
        elements: what each element is.
        words: each element as a word in the generators, e.g. ``("r", "r", "s")`` for r·r·s.
        generators: which element each generator is.
    """

    table: npt.NDArray[np.int64]
    names: tuple[str, ...]
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
        GroupError: more than ``limit`` elements, or a generator has the name of another element.
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
    for name in generators:
        if name in names and names.index(name) != times[name][0]:
            raise GroupError(
                f"the generator {name!r} is another element than the one that is called so: give "
                "it another name"
            )
    return Closure(
        np.stack(columns, axis=1),
        names,
        tuple(elements),
        tuple(words),
        {name: int(times[name][0]) for name in generators},
    )
