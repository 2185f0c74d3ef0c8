"""Finite groups: the axioms and known groups."""

import copy
import dataclasses
import itertools
import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from equirl import FiniteGroup
from equirl.errors import GroupError
from equirl.groups import (
    cyclic,
    dihedral,
    direct_product,
    from_permutations,
    isomorphism,
    symmetric,
)
from equirl.groups.element_names import cycle_notation, word_name

factors = st.one_of(
    st.builds(cyclic, st.integers(1, 12)),
    st.builds(dihedral, st.integers(1, 8)),
    st.builds(symmetric, st.integers(1, 4)),
)
products = (
    st.tuples(factors, factors)
    .filter(lambda pair: pair[0].order * pair[1].order <= 48)
    .map(lambda pair: direct_product(*pair))
)
groups = st.one_of(factors, products)
permutations_of_five = st.permutations(range(5))

property_based = settings(deadline=None, max_examples=40)


def is_associative(table: np.ndarray) -> bool:
    return np.array_equal(table[table], table[:, table])  # (x·y)·z and x·(y·z)


def element_orders(group: FiniteGroup) -> Counter[int]:
    return Counter(group.order_of(g) for g in range(group.order))


@given(groups)
@property_based
def test_constructed_groups_satisfy_the_axioms(group):
    elements = np.arange(group.order)
    assert is_associative(group.table)
    assert (group.table[group.identity] == elements).all()
    assert (group.table[:, group.identity] == elements).all()
    assert (group.table[elements, group.inverses] == group.identity).all()
    assert (group.table[group.inverses, elements] == group.identity).all()


@given(groups, st.data())
@property_based
def test_products_are_read_from_left_to_right_in_the_table(group, data):
    g, h, k = (data.draw(st.integers(0, group.order - 1)) for _ in range(3))
    assert group.product() == group.identity
    assert group.product(g, h) == group.table[g, h]
    assert group.product(g, h, k) == group.product(group.product(g, h), k)
    assert group.product(group.inverse(h), group.inverse(g)) == group.inverse(group.product(g, h))


@given(groups, st.data())
@property_based
def test_the_order_of_an_element_is_its_first_power_that_is_the_identity(group, data):
    g = data.draw(st.integers(0, group.order - 1))
    powers = [group.product(*[g] * k) for k in range(1, group.order_of(g) + 1)]
    assert powers.index(group.identity) == group.order_of(g) - 1
    assert group.order % group.order_of(g) == 0


@given(groups, st.data())
@property_based
def test_generated_elements_are_the_smallest_closed_set(group, data):
    generators = data.draw(st.lists(st.integers(0, group.order - 1), max_size=3))
    members = group.generated_by(generators)
    assert list(members) == sorted(set(members))
    assert {0, *generators} <= set(members)
    assert {group.product(g, h) for g in members for h in members} == set(members)
    assert group.order % len(members) == 0  # Lagrange
    smallest = {0}
    while bigger := {group.product(g, h) for g in smallest for h in generators} - smallest:
        smallest |= bigger
    assert set(members) == smallest


@given(groups, st.data())
@property_based
def test_a_subgroup_multiplies_as_the_whole_group_does(group, data):
    generators = data.draw(st.lists(st.integers(0, group.order - 1), max_size=2))
    members = group.generated_by(generators)
    subgroup = group.subgroup(generators)
    assert subgroup.order == len(members)
    assert subgroup.names == tuple(group.names[g] for g in members)
    for i, j in itertools.product(range(subgroup.order), repeat=2):
        assert members[subgroup.product(i, j)] == group.product(members[i], members[j])


@given(groups, st.randoms(use_true_random=False))
@property_based
def test_renaming_the_elements_of_a_group_gives_a_group(group, random):
    new = [0, *random.sample(range(1, group.order), group.order - 1)]
    table = np.empty_like(group.table)
    table[np.ix_(new, new)] = np.array(new)[group.table]
    assert element_orders(FiniteGroup(table)) == element_orders(group)


@given(
    st.sampled_from(
        [dihedral(4), direct_product(dihedral(2), cyclic(2)), dihedral(6), dihedral(8)]
    ),
    st.randoms(use_true_random=False),
)
@property_based
def test_a_latin_square_is_accepted_exactly_where_it_is_associative(group, random):
    """Switching a 2×2 subsquare keeps a Latin square Latin, and mostly breaks associativity."""
    table = group.table.copy()
    subsquares = [
        (a, b, c, d)
        for a, b in itertools.combinations(range(1, group.order), 2)
        for c, d in itertools.combinations(range(1, group.order), 2)
        if table[a, c] == table[b, d] and table[a, d] == table[b, c]
    ]
    a, b, c, d = random.choice(subsquares)
    table[[a, b], [c, c]], table[[a, b], [d, d]] = table[[a, b], [d, d]], table[[a, b], [c, c]]
    if is_associative(table):
        assert FiniteGroup(table).order == group.order
    else:
        with pytest.raises(GroupError, match=r"not associative: \(.+·.+\)·.+ differs from"):
            FiniteGroup(table)


@given(groups, groups)
@property_based
def test_a_direct_product_multiplies_componentwise(a, b):
    assume(a.order * b.order <= 200)
    product = direct_product(a, b)
    assert product.is_abelian == (a.is_abelian and b.is_abelian)
    for x, y in itertools.product(range(0, product.order, 3), range(0, product.order, 5)):
        (g, h), (k, m) = divmod(x, b.order), divmod(y, b.order)
        assert product.product(x, y) == a.product(g, k) * b.order + b.product(h, m)


@given(groups.filter(lambda group: group.order <= 24), st.randoms(use_true_random=False))
@property_based
def test_an_isomorphism_is_found_to_the_same_group_with_its_elements_in_another_order(
    group, random
):
    order = [0, *random.sample(range(1, group.order), group.order - 1)]
    place = np.argsort(order)
    other = FiniteGroup(place[group.table[np.ix_(order, order)]])
    phi = isomorphism(group, other)
    assert sorted(phi) == list(range(group.order))
    assert np.array_equal(phi[group.table], other.table[np.ix_(phi, phi)])


def test_groups_of_one_order_that_differ_are_not_isomorphic():
    of_order_24 = [cyclic(24), dihedral(12), symmetric(4), direct_product(cyclic(2), cyclic(12))]
    for a, b in itertools.combinations(of_order_24, 2):
        assert isomorphism(a, b) is None


@given(st.lists(permutations_of_five, min_size=1, max_size=3))
@property_based
def test_the_closure_of_permutations_is_the_group_they_generate(generators):
    named = {f"generator{k}": p for k, p in enumerate(generators)}
    group, permutations = from_permutations(named)
    reached = {tuple(range(5))}
    while bigger := {tuple(p[x] for x in q) for p in reached for q in generators} - reached:
        reached |= bigger
    assert set(map(tuple, permutations.tolist())) == reached
    assert group.order == len(reached) == len(permutations)
    assert permutations[0].tolist() == list(range(5))
    composed = permutations[:, permutations]  # [g, h, x] = g(h(x))
    assert np.array_equal(permutations[group.table], composed)


@given(groups)
@property_based
def test_equality_hash_pickle_and_copies_go_by_value(group):
    same = FiniteGroup(group.table.copy(), group.names)
    assert group == same
    assert hash(group) == hash(same)
    for other in (pickle.loads(pickle.dumps(group)), copy.deepcopy(group)):
        assert other == group
        assert np.array_equal(other.inverses, group.inverses)
        assert not other.table.flags.writeable
    assert group != FiniteGroup(group.table, tuple(f"x{g}" for g in range(group.order)))
    assert group != group.table.tolist()


@pytest.mark.parametrize(
    ("group", "orders", "abelian"),
    [
        (FiniteGroup.trivial(), {1: 1}, True),
        (cyclic(6), {1: 1, 2: 1, 3: 2, 6: 2}, True),
        (direct_product(cyclic(2), cyclic(3)), {1: 1, 2: 1, 3: 2, 6: 2}, True),
        (dihedral(1), {1: 1, 2: 1}, True),
        (dihedral(2), {1: 1, 2: 3}, True),
        (dihedral(3), {1: 1, 2: 3, 3: 2}, False),
        (dihedral(4), {1: 1, 2: 5, 4: 2}, False),
        (symmetric(1), {1: 1}, True),
        (symmetric(3), {1: 1, 2: 3, 3: 2}, False),
        (symmetric(4), {1: 1, 2: 9, 3: 8, 4: 6}, False),
        (symmetric(5), {1: 1, 2: 25, 3: 20, 4: 30, 5: 24, 6: 20}, False),
        (direct_product(symmetric(4), cyclic(2)), {1: 1, 2: 19, 3: 8, 4: 12, 6: 8}, False),
    ],
    ids=lambda value: repr(value) if isinstance(value, FiniteGroup) else "",
)
def test_known_groups_have_their_known_elements(group, orders, abelian):
    assert element_orders(group) == orders
    assert group.order == sum(orders.values())
    assert group.is_abelian == abelian


@pytest.mark.parametrize(
    ("generators", "orders"),
    [
        # The alternating group A5, the affine group of the line over F7, the quaternion group.
        ({"a": [1, 2, 3, 4, 0], "b": [1, 2, 0, 3, 4]}, {1: 1, 2: 15, 3: 20, 5: 24}),
        (
            {"add": [(x + 1) % 7 for x in range(7)], "times": [3 * x % 7 for x in range(7)]},
            {1: 1, 2: 7, 3: 14, 6: 14, 7: 6},
        ),
        (
            {"i": [2, 3, 1, 0, 6, 7, 5, 4], "j": [4, 5, 7, 6, 1, 0, 2, 3]},
            {1: 1, 2: 1, 4: 6},
        ),
        ({"same": [0, 1, 2]}, {1: 1}),
    ],
    ids=["A5", "AGL(1,7)", "Q8", "trivial"],
)
def test_permutations_generate_their_known_group(generators, orders):
    assert element_orders(from_permutations(generators)[0]) == orders


def test_the_square_and_the_triangle_give_the_dihedral_groups_themselves():
    square, _ = from_permutations({"r": [1, 2, 3, 0], "s": [1, 0, 3, 2]})
    triangle, _ = from_permutations({"r": [1, 2, 0], "s": [1, 0, 2]})
    assert square == dihedral(4)
    assert triangle == dihedral(3)


def test_s3_and_d3_are_isomorphic_through_their_permutations_of_three_points():
    _, permutations = from_permutations({"r": [1, 2, 0], "s": [1, 0, 2]})
    s3 = symmetric(3)
    image = np.array([s3.index(cycle_notation(p)) for p in permutations])
    assert sorted(image) == list(range(6))
    assert np.array_equal(s3.table[np.ix_(image, image)], image[dihedral(3).table])


def test_d4_has_a_centre_of_two_elements_and_is_not_abelian():
    d4 = dihedral(4)
    centre = [g for g in range(8) if (d4.table[g] == d4.table[:, g]).all()]
    assert [d4.names[g] for g in centre] == ["e", "r²"]
    r, s = d4.index("r"), d4.index("s")
    assert d4.product(s, r, s) == d4.inverse(r) != r


def test_repeated_and_redundant_generators_are_named_but_add_nothing():
    group, permutations = from_permutations(
        {"turn": [1, 2, 0], "again": [1, 2, 0], "back": [2, 0, 1], "stay": [0, 1, 2]}
    )
    assert group.names == ("e", "turn", "turn²")
    assert permutations.tolist() == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]


def test_elements_are_named_by_words_and_cycles():
    assert cyclic(4).names == ("e", "r", "r²", "r³")
    assert dihedral(3).names == ("e", "r", "r²", "s", "rs", "r²s")
    assert direct_product(cyclic(2), cyclic(2)).names == ("e", "(e, r)", "(r, e)", "(r, r)")
    assert word_name(()) == "e"
    assert word_name(("r",) * 12 + ("s",)) == "r¹²s"
    assert word_name(("turn", "turn", "mirror")) == "turn²·mirror"
    assert cycle_notation([1, 2, 0, 4, 3, 5]) == "(0 1 2)(3 4)"
    assert cycle_notation([0, 1]) == "e"
    assert FiniteGroup(cyclic(3).table).names == ("e", "g1", "g2")


def test_every_name_finds_its_element_and_others_are_refused():
    group = symmetric(4)
    assert [group.index(name) for name in group.names] == list(range(24))
    with pytest.raises(GroupError, match=r"no element 'x'; the elements are e, r"):
        cyclic(2).index("x")


def test_a_group_cannot_be_changed():
    table = cyclic(3).table.copy()
    group = FiniteGroup(table)
    table[1, 1] = 0
    assert group.table[1, 1] == 2
    for array in (group.table, group.inverses):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        group.table = table
