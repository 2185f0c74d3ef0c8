"""Symmetries compiled from functions: they do what the functions do, on every space."""

import copy
import dataclasses
import itertools
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from equirl import GroupAction, Symmetry
from equirl.actions.signed_permutations import SignedPermutations
from equirl.errors import SymmetryError
from equirl.groups import cyclic, dihedral
from shared.hardware import needs_cuda
from shared.symmetry_cases import (
    CASES,
    IMAGE,
    assert_same,
    every_case,
    of_leaves,
    row,
    sample,
    tensors,
    vector,
)

gpu = pytest.mark.gpu


@every_case
def test_the_compiled_map_is_the_function(case):
    symmetry, batch = case.symmetry, sample(case.space, 12)
    assert symmetry.group.order == case.order
    for name, (function, permutation) in case.generators.items():
        if case.order == 1:
            name = "e"
        if callable(function):
            for k in range(12):
                point = row(batch, k)
                expected = of_leaves(
                    lambda moved, given: np.asarray(moved).astype(given.dtype)[()],
                    function(copy.deepcopy(point)),
                    point,
                )
                assert_same(symmetry.transform_observation(name, point), expected)
        actions = np.arange(len(permutation))
        assert symmetry.transform_action(name, actions).tolist() == permutation
        assert symmetry.transform_action(name, 0) == permutation[0]


@every_case
def test_the_maps_are_an_action_of_the_group(case):
    symmetry, batch = case.symmetry, sample(case.space, 6)
    group, move = symmetry.group, symmetry.transform_observation
    assert_same(move(0, batch), batch, exact=True)
    for g, h in itertools.product(range(group.order), repeat=2):
        assert_same(move(g, move(h, batch)), move(group.product(g, h), batch))
        actions = np.arange(symmetry.action_space.n)
        assert np.array_equal(
            symmetry.transform_action(g, symmetry.transform_action(h, actions)),
            symmetry.transform_action(group.product(g, h), actions),
        )
    for g in range(group.order):
        assert_same(move(group.inverse(g), move(g, batch)), batch)


@every_case
def test_one_observation_a_batch_and_an_element_per_row_agree_with_the_orbit(case):
    symmetry, batch = case.symmetry, sample(case.space, 5)
    order = symmetry.group.order
    for points, convert in ((batch, lambda x: x), (tensors(batch), tensors)):
        orbit = symmetry.orbit(points)
        for g, name in enumerate(symmetry.group.names):
            moved = symmetry.transform_observation(g, points)
            assert_same(row(orbit, g), moved)
            assert_same(symmetry.transform_observation(name, points), moved, exact=True)
            for k in range(5):
                one = row(points, k)
                assert_same(symmetry.transform_observation(g, one), row(moved, k))
                assert_same(row(symmetry.orbit(one), g), row(moved, k))
        elements = np.arange(5) * 3 % order
        for rows in (elements, elements.tolist(), torch.from_numpy(elements)):
            mixed = symmetry.transform_observation(rows, points)
            for k, g in enumerate(elements):
                assert_same(row(mixed, k), symmetry.transform_observation(int(g), row(points, k)))
        assert_same(mixed, convert(symmetry.transform_observation(elements, batch)))


@every_case
def test_tensors_stay_tensors_and_equal_the_arrays(case):
    symmetry, batch = case.symmetry, sample(case.space, 5)
    assert_same(symmetry.orbit(tensors(batch)), tensors(symmetry.orbit(batch)))
    for g in range(symmetry.group.order):
        assert_same(
            symmetry.transform_observation(g, tensors(batch)),
            tensors(symmetry.transform_observation(g, batch)),
        )
    actions = torch.arange(int(symmetry.action_space.n))
    assert isinstance(symmetry.transform_action(0, actions), torch.Tensor)


@every_case
def test_the_given_observation_is_not_changed(case):
    symmetry, batch = case.symmetry, sample(case.space, 3)
    before = copy.deepcopy(batch)
    symmetry.orbit(batch)
    symmetry.transform_observation(symmetry.group.order - 1, batch)
    assert_same(batch, before, exact=True)


@every_case
def test_pickles_and_copies_move_everything_alike(case):
    symmetry, batch = case.symmetry, sample(case.space, 3)
    anew = dataclasses.replace(case).symmetry
    for other in (pickle.loads(pickle.dumps(symmetry)), copy.deepcopy(symmetry), anew):
        assert other == symmetry
        assert hash(other) == hash(symmetry)
        assert_same(other.orbit(batch), symmetry.orbit(batch), exact=True)
        q = np.random.default_rng(0).normal(size=(symmetry.group.order, 2, symmetry.action_space.n))
        assert np.array_equal(other.pull_back(q), symmetry.pull_back(q))
    assert symmetry.carried_to(case.space) is symmetry
    assert symmetry.to("cpu") == symmetry


@every_case
def test_row_g_of_a_pull_back_is_q_at_the_moved_actions(case):
    symmetry = case.symmetry
    order, actions = symmetry.group.order, int(symmetry.action_space.n)
    q = np.random.default_rng(0).normal(size=(order, 3, actions)).astype(np.float32)
    for values in (q, torch.from_numpy(q)):
        pulled = symmetry.pull_back(values)
        for g, a in itertools.product(range(order), range(actions)):
            moved = symmetry.transform_action(g, a)
            assert_same(pulled[g, :, a], values[g, :, int(moved)], exact=True)
    moved = np.stack([symmetry.q_values.transform(g, q[0]) for g in range(order)])
    assert_same(symmetry.pull_back(moved), np.stack([q[0]] * order), exact=True)


@every_case
@gpu
@needs_cuda
def test_a_gpu_moves_observations_as_the_cpu_does(case):
    symmetry, batch = case.symmetry, sample(case.space, 5)
    on_gpu = tensors(batch, "cuda")
    orbit = symmetry.orbit(on_gpu)
    assert_same(orbit, tensors(symmetry.orbit(batch)))
    elements = torch.arange(5, device="cuda") % symmetry.group.order
    moved = symmetry.transform_observation(elements, on_gpu)
    assert_same(moved, tensors(symmetry.transform_observation(elements.cpu().numpy(), batch)))
    of_leaves(lambda part: part.is_cuda or pytest.fail("left the GPU"), moved)
    q = torch.randn(symmetry.group.order, 3, int(symmetry.action_space.n), device="cuda")
    assert_same(symmetry.pull_back(q), symmetry.pull_back(q.cpu()), exact=True)


def test_elements_are_named_by_words_in_the_generators():
    symmetry = next(case for case in CASES if case.name == "square-float32").symmetry
    assert symmetry.group == dihedral(4)
    assert "order 8" in repr(symmetry)


def test_cartpole_mirrored_negates_the_state_and_swaps_the_actions():
    symmetry = Symmetry.from_generators(
        vector(-1, 1, 4, np.float32), spaces.Discrete(2), {"mirror": (np.negative, [1, 0])}
    )
    state = np.array([0.1, -0.2, 0.3, -0.4], dtype=np.float32)
    assert np.array_equal(symmetry.transform_observation("mirror", state), -state)
    assert symmetry.transform_action("mirror", 0) == 1
    q = np.array([[[1.0, 2.0]], [[3.0, 4.0]]])
    assert symmetry.pull_back(q).tolist() == [[[1, 2]], [[4, 3]]]


def test_pull_back_uses_the_inverse_where_an_element_is_not_its_own():
    symmetry = Symmetry.from_generators(
        vector(-1, 1, 3, np.float32),
        spaces.Discrete(3),
        {"r": (lambda x: np.roll(x, 1), [1, 2, 0])},
    )
    q = np.array([[[0.0, 1.0, 2.0]]] * 3)  # (r⁻¹Q)(a) = Q(ra) = Q(a + 1)
    assert symmetry.pull_back(q)[:, 0].tolist() == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    assert symmetry.q_values.transform(1, q[0, 0]).tolist() == [2, 0, 1]


def test_the_trivial_symmetry_moves_nothing():
    for symmetry in (
        Symmetry.trivial(vector(-1, 1, 2, np.float32), spaces.Discrete(3)),
        Symmetry.from_generators(vector(-1, 1, 2, np.float32), spaces.Discrete(3), {}),
    ):
        assert symmetry.group.order == 1
        x = np.array([[1.0, 2.0]], dtype=np.float32)
        assert np.array_equal(symmetry.orbit(x), x[None])
        assert symmetry.pull_back(np.ones((1, 2, 3))).shape == (1, 2, 3)


def test_an_orbit_is_contiguous_batch_first():
    symmetry = next(case for case in CASES if case.name == "image").symmetry
    orbit = symmetry.orbit(torch.zeros(5, 6, 6, 3, dtype=torch.uint8))
    assert orbit.shape == (8, 5, 6, 6, 3)
    assert orbit.transpose(0, 1).is_contiguous()


def test_an_atari_image_costs_memory_in_proportion_to_its_pixels():
    space = spaces.Box(0, 255, (84, 84, 4), np.uint8)
    tracemalloc.start()
    symmetry = Symmetry.from_generators(space, spaces.Discrete(4), IMAGE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (maps,) = symmetry.observations.maps
    assert isinstance(maps, SignedPermutations)
    held = sum(a.nbytes for a in (maps.index, maps.sign, maps.offset) if a is not None)
    pixels = 84 * 84 * 4
    assert held <= 8 * symmetry.group.order * pixels
    assert peak < 50 * symmetry.group.order * pixels * 8  # a matrix would need 28,224 times as much
    image = sample(space, 2)
    assert np.array_equal(symmetry.transform_observation("r", image), np.rot90(image, axes=(1, 2)))


@pytest.mark.parametrize("name", ["image", "image-inverted", "dict"])
def test_a_transposed_image_moves_as_the_image_does(name):
    case = next(case for case in CASES if case.name == name)
    channels_first = _transposed_space(case.space)
    axes = dict.fromkeys((None, "camera"), (2, 0, 1))
    carried = case.symmetry.carried_to(channels_first, axes)
    assert carried.observation_space == channels_first
    batch = sample(case.space, 4)
    assert_same(
        carried.orbit(_transposed(batch)), _transposed(case.symmetry.orbit(batch)), exact=True
    )
    for g in range(case.order):
        assert_same(
            carried.transform_observation(g, tensors(_transposed(batch))),
            tensors(_transposed(case.symmetry.transform_observation(g, batch))),
            exact=True,
        )
    assert np.array_equal(carried.permutations, case.symmetry.permutations)


def _transposed_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _transposed_space(part) for key, part in space.spaces.items()})
    if len(space.shape) != 3:
        return space
    height, width, channels = space.shape
    return spaces.Box(0, 255, (channels, height, width), np.uint8)


def _transposed(points: Any) -> Any:
    return of_leaves(lambda x: np.moveaxis(x, -1, -3) if x.dtype == np.uint8 else x, points)


@pytest.mark.parametrize(
    ("declared", "seen"),
    [
        (spaces.Box(0, 255, (6, 6, 3), np.uint8), spaces.Box(0, 255, (6, 6, 12), np.uint8)),
        (spaces.Box(0, 255, (6, 6, 3), np.uint8), spaces.Box(0, 255, (12, 6, 6), np.uint8)),
        (spaces.Box(0, 255, (6, 5, 3), np.uint8), spaces.Box(0, 255, (3, 5, 6), np.uint8)),
        (spaces.Box(0, 255, (6, 6, 3), np.uint8), spaces.Box(0, 1, (6, 6, 3), np.float32)),
        (vector(-1, 1, 4, np.float32), vector(-1, 1, 8, np.float32)),
        (spaces.Discrete(3), spaces.Discrete(5)),
        (spaces.Discrete(3), spaces.Discrete(3, start=1)),
        (spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([3, 2])),
        (spaces.Dict(a=spaces.Discrete(3)), spaces.Dict(b=spaces.Discrete(3))),
        (spaces.Dict(a=spaces.Discrete(3)), spaces.Discrete(3)),
        (
            spaces.Dict(a=spaces.Discrete(3)),
            spaces.Dict(a=spaces.Discrete(3), b=spaces.Discrete(3)),
        ),
    ],
)
def test_a_space_that_is_not_the_declared_one_is_refused(declared, seen):
    symmetry = Symmetry.trivial(declared, spaces.Discrete(2))
    with pytest.raises(SymmetryError, match="declare it for what comes out of the last wrapper"):
        symmetry.carried_to(seen)


SWAP = {
    name: GroupAction.on_vectors(cyclic(2), permutations=[[*range(n)], [1, 0, *range(2, n)]])
    for name, n in (("two", 2), ("three", 3))
}


def test_actions_on_vectors_are_put_together_for_spaces_of_any_dtype():
    for dtype in (np.float32, np.float64):
        box = spaces.Box(-1, 1, (2,), dtype)
        built = Symmetry(cyclic(2), box, box, SWAP["two"], SWAP["two"])
        assert built == Symmetry.from_generators(box, box, {"r": ([1, 0], [1, 0])})


@pytest.mark.parametrize(
    ("actions", "moved", "message"),
    [
        (spaces.Box(np.float32([-1, -2]), np.float32([1, 2])), "two", "does not map the box to it"),
        (spaces.Box(-1, 1, (2,)), "three", "the group does not act on the actions of Box"),
        (spaces.Discrete(2), "two", "the group does not act on the actions of Discrete"),
    ],
)
def test_an_action_that_does_not_fit_its_space_is_refused(actions, moved, message):
    seen = spaces.Box(-1, 1, (2,))
    with pytest.raises(SymmetryError, match=message):
        Symmetry(cyclic(2), seen, actions, SWAP["two"], SWAP[moved])
    with pytest.raises(SymmetryError, match="on the observations of Box"):
        Symmetry(cyclic(2), seen, spaces.Box(-1, 1, (2,)), SWAP["three"], SWAP["two"])
