"""What is no group, or too large a one, is refused."""

import numpy as np
import pytest

from equirl import FiniteGroup
from equirl.errors import GroupError
from equirl.groups import (
    cyclic,
    dihedral,
    direct_product,
    from_permutations,
    symmetric,
)
from equirl.groups.closures import MAX_ORDER

LATIN_LOOP_OF_ORDER_FIVE = [
    [0, 1, 2, 3, 4],
    [1, 0, 3, 4, 2],
    [2, 4, 0, 1, 3],
    [3, 2, 4, 0, 1],
    [4, 3, 1, 2, 0],
]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros((2, 3), int), r"square and not empty, this one is \(2, 3\)"),
        (np.zeros((0, 0), int), "square and not empty"),
        (np.zeros((2, 2)), "holds integers, this one holds float64"),
        ([[0, 1], [1, 2]], "entries must lie in 0 … 1"),
        ([[0, 1], [1, -1]], "entries must lie in 0 … 1"),
        ([[1, 0], [0, 1]], "element 0 must be the identity"),
        ([[0, 1, 2], [2, 0, 1], [1, 2, 0]], "element 0 must be the identity"),
        ([[0, 1], [1, 1]], "every row and column must hold every element once"),
        ([[0, 1, 2], [1, 2, 0], [2, 1, 0]], "every row and column must hold every element once"),
        (LATIN_LOOP_OF_ORDER_FIVE, r"not associative: \(.+\)·.+ differs from .+·\(.+\)"),
    ],
)
def test_a_table_that_is_no_group_is_refused_with_the_axiom_it_breaks(table, message):
    with pytest.raises(GroupError, match=message):
        FiniteGroup(table)


def test_the_elements_that_break_associativity_are_named():
    with pytest.raises(GroupError) as caught:
        FiniteGroup(LATIN_LOOP_OF_ORDER_FIVE, ("e", "a", "b", "c", "d"))
    product = str(caught.value).removeprefix("not associative: ").split(" differs")[0]
    x, y, z = ("eabcd".index(letter) for letter in product if letter in "eabcd")
    loop = np.array(LATIN_LOOP_OF_ORDER_FIVE)
    assert loop[loop[x, y], z] != loop[x, loop[y, z]]


@pytest.mark.parametrize("names", [("e",), ("e", "e"), ("e", "a", "b")])
def test_names_must_be_distinct_and_one_per_element(names):
    with pytest.raises(GroupError, match="2 elements need 2 distinct names"):
        FiniteGroup(cyclic(2).table, names)


@pytest.mark.parametrize(
    ("generators", "message"),
    [
        ({"a": [0, 0, 1]}, r"generator 'a' is not a permutation of 0 … 2: \[0, 0, 1\]"),
        ({"a": [1, 2, 3]}, "generator 'a' is not a permutation of 0 … 2"),
        ({"a": [1, 0], "b": [1, 2, 0]}, r"equal length, got lengths \[2, 3\]"),
        ({}, "no generators"),
        ({"e": [1, 0]}, "two elements would be called 'e'"),
        ({"r": [1, 0, 2], "s": [0, 2, 1], "rs": [0, 1, 2, 3]}, "equal length"),
    ],
)
def test_generators_that_are_no_permutations_are_refused_by_name(generators, message):
    with pytest.raises(GroupError, match=message):
        from_permutations(generators)


def test_groups_close_up_to_1024_elements_and_no_further():
    assert MAX_ORDER == 1024
    assert cyclic(1024).order == dihedral(512).order == 1024
    ten_switches = {
        f"s{k}": [*range(2 * k), 2 * k + 1, 2 * k, *range(2 * k + 2, 20)] for k in range(10)
    }
    assert from_permutations(ten_switches)[0].order == 1024
    with pytest.raises(GroupError, match=r"cyclic\(1025\) has 1025 elements, more than the 1024"):
        cyclic(1025)
    with pytest.raises(GroupError, match="1026 elements"):
        dihedral(513)
    with pytest.raises(GroupError, match="5040 elements"):
        symmetric(7)
    with pytest.raises(GroupError, match="1025 elements"):
        direct_product(cyclic(41), cyclic(25))
    with pytest.raises(GroupError, match=r"turn, swap do not close within 1024 elements"):
        from_permutations({"turn": [1, 2, 3, 4, 5, 6, 0], "swap": [1, 0, 2, 3, 4, 5, 6]})


@pytest.mark.parametrize("family", [cyclic, dihedral, symmetric])
@pytest.mark.parametrize("n", [0, -3])
def test_sizes_below_one_are_refused(family, n):
    with pytest.raises(GroupError, match=f"needs n ≥ 1, got {n}"):
        family(n)
