"""Group actions: checked against their group, and what they are asked to move."""

import itertools

import numpy as np
import pytest
import torch
from gymnasium import spaces

from equirl import GroupAction, Symmetry
from equirl.errors import SymmetryError
from equirl.groups import cyclic, dihedral, symmetric
from shared.symmetry_cases import FLOATS, PAIR, rotation


@pytest.mark.parametrize(
    ("g", "x", "message"),
    [
        (2, np.zeros(3), r"elements are numbered 0 … 1, got 2"),
        (-1, np.zeros(3), r"elements are numbered 0 … 1, got -1"),
        ("mirrored", np.zeros(3), "no element 'mirrored'; the elements are e, mirror"),
        ([0, 1], np.zeros((3, 3)), r"one element, or one per row \(3\), got int64 of shape \(2,\)"),
        (0.5, np.zeros(3), "got float64 of shape"),
        (1, np.zeros(4), r"the observation has shape \(4,\), expected \(3,\) behind 0 batch"),
        (1, np.zeros((2, 2, 3)), r"expected \(3,\) behind 1 batch"),
        (1, torch.zeros(2, 4), r"has shape \(2, 4\), expected \(3,\)"),
    ],
)
def test_an_unknown_element_or_a_wrong_shape_is_refused(g, x, message):
    symmetry = Symmetry.from_generators(
        FLOATS, spaces.Discrete(2), {"mirror": (np.negative, [1, 0])}
    )
    with pytest.raises(ValueError, match=message):
        symmetry.transform_observation(g, x)


def test_a_dict_observation_must_have_every_key():
    symmetry = Symmetry.from_generators(
        PAIR, spaces.Discrete(2), {"g": ({"a": [-1, 1], "b": None}, [1, 0])}
    )
    with pytest.raises(SymmetryError, match=r"lacks \['b'\]"):
        symmetry.transform_observation(1, {"a": np.zeros(2)})
    with pytest.raises(SymmetryError, match="expected a dict observation, got ndarray"):
        symmetry.orbit(np.zeros(2))


def test_pulling_back_needs_one_row_per_element():
    symmetry = Symmetry.from_generators(
        FLOATS, spaces.Discrete(2), {"mirror": (np.negative, [1, 0])}
    )
    with pytest.raises(SymmetryError, match="expected 2 rows, got 3"):
        symmetry.pull_back(np.zeros((3, 5, 2)))
    with pytest.raises(SymmetryError, match=r"expected \(2,\) behind 2 batch"):
        symmetry.pull_back(np.zeros((2, 5, 3)))


def test_an_action_on_vectors_is_checked_against_its_group():
    turns = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    with pytest.raises(SymmetryError, match="3 elements need as many maps, got 2"):
        GroupAction.on_vectors(cyclic(3), permutations=turns[:2])
    with pytest.raises(
        SymmetryError, match="not a homomorphism: the map of h·r is not the map of h"
    ):
        GroupAction.on_vectors(cyclic(3), permutations=[[0, 1, 2], [1, 0, 2], [2, 0, 1]])
    with pytest.raises(SymmetryError, match="not a homomorphism"):
        GroupAction.on_vectors(cyclic(3), matrices=[np.eye(2), rotation(120), rotation(-60)])
    with pytest.raises(SymmetryError, match="the first map, of e, must leave x where it is"):
        GroupAction.on_vectors(cyclic(1), permutations=[[1, 0]])
    for singular in (np.zeros((2, 2)), np.diag([1.0, 0.0])):  # each is its own square
        with pytest.raises(SymmetryError, match="the first map, of e"):
            GroupAction.on_vectors(cyclic(2), matrices=[singular] * 2)
    for matrices in (np.eye(2), np.ones((2, 2, 3)), [np.eye(2)] * 3):
        with pytest.raises(SymmetryError, match="expected 2 square matrices, one a row, got shape"):
            GroupAction.on_vectors(cyclic(2), matrices=matrices)
    with pytest.raises(SymmetryError, match="either matrices or permutations"):
        GroupAction.on_vectors(cyclic(3))
    with pytest.raises(SymmetryError, match="either matrices or permutations"):
        GroupAction.on_vectors(cyclic(3), matrices=[np.eye(3)] * 3, permutations=turns)


@pytest.mark.parametrize("digits", [6, 12])
def test_rounded_matrices_are_brought_to_the_exact_representation(digits):
    rounded = np.round([np.eye(2), rotation(120), rotation(-120)], digits)
    action = GroupAction.on_vectors(cyclic(3), matrices=rounded)
    x = torch.randn(5, 2, dtype=torch.float64)
    once = action.transform(1, x)
    assert not torch.equal(once, x)
    torch.testing.assert_close(action.transform(2, once), x, rtol=1e-13, atol=1e-13)


def test_matrices_and_permutations_give_the_same_action():
    s3 = symmetric(3)
    permutations = np.array(list(itertools.permutations(range(3))))
    matrices = np.zeros((6, 3, 3))
    for g, permutation in enumerate(permutations):
        matrices[g, permutation, np.arange(3)] = 1
    x = np.random.default_rng(0).normal(size=(4, 3))
    by_index = GroupAction.on_vectors(s3, permutations=permutations)
    by_matrix = GroupAction.on_vectors(s3, matrices=matrices)
    assert np.array_equal(by_index.orbit(x), by_matrix.orbit(x))
    moved = by_index.transform(s3.index("(0 1 2)"), np.array([5.0, 6.0, 7.0]))
    assert moved.tolist() == [7, 5, 6]  # entry 0 becomes entry 1, and so on


def test_the_trivial_action_leaves_every_shape_where_it_is():
    action = GroupAction.trivial(dihedral(3), (2, 3))
    x = torch.randn(4, 2, 3)
    assert torch.equal(action.orbit(x), x.expand(6, 4, 2, 3))


def test_parts_that_move_into_each_other_keep_their_own_dtypes():
    space = spaces.Dict(door=spaces.MultiBinary(1), side=spaces.Discrete(2))
    swap = {"swap": (lambda o: {"door": o["side"][None], "side": o["door"][0]}, [1, 0])}
    symmetry = Symmetry.from_generators(space, spaces.Discrete(2), swap)
    assert symmetry.observations.blocks == ((0, 1),)
    point = {"door": np.array([1], np.int8), "side": np.int64(0)}
    moved = symmetry.transform_observation(1, point)
    assert (moved["door"], moved["side"]) == ([0], 1)
    assert space.contains(moved)
    batch = {"door": torch.ones(3, 1, dtype=torch.int8), "side": torch.zeros(3, dtype=torch.int64)}
    for moved in (symmetry.transform_observation(1, batch), symmetry.orbit(batch)):
        assert (moved["door"].dtype, moved["side"].dtype) == (torch.int8, torch.int64)


def test_numbers_given_in_several_dtypes_lose_nothing_where_they_move_into_each_other():
    swap = {"swap": (lambda o: {"a": o["b"], "b": o["a"]}, [1, 0])}
    symmetry = Symmetry.from_generators(PAIR, spaces.Discrete(2), swap)
    point = {"a": np.zeros(2, np.float32), "b": np.full(2, 1 / 3)}
    moved = symmetry.transform_observation("swap", point)
    np.testing.assert_array_equal(moved["a"], point["b"])
