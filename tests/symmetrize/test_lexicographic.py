"""The fixed order of `canonical`, looking at little of each point, is that of whole points."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import equirl.symmetrize.lexicographic
from equirl import GroupAction, Symmetrized, Symmetry
from equirl.groups import cyclic, dihedral, from_permutations
from equirl.symmetrize.lexicographic import HEADS, largest_points
from equirl.symmetrize.weightings import lexicographic_weights
from shared.map_stacks import DTYPES, points
from shared.representations import affine_action, output_action, signed_action, size
from shared.symmetrized_models import (
    METHODS,
    a_few,
    group_and_seed,
    mlp,
    on_stabilised,
    property_based,
)
from shared.symmetry_cases import every_case, sample, tensors

SIDE, CHANNELS = 84, 4
float_dtypes = st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64])
actions = st.sampled_from([signed_action, affine_action])


def assert_same_choice(x: Any, action: GroupAction) -> Tensor:
    """That of the whole orbit; returns it."""
    expected = lexicographic_weights(action.orbit(x), action.rounds)
    actual = largest_points(x, action)
    assert actual.dtype == expected.dtype
    assert torch.equal(actual, expected)
    torch.testing.assert_close(actual.sum(dim=0), torch.ones_like(actual[0]))
    return actual


@given(group_and_seed, actions, float_dtypes)
@property_based
def test_vectors_are_chosen_as_by_looking_at_all_of_them(where, kind, dtype):
    group, seed = where
    rng = np.random.default_rng(seed)
    action = kind(group, rng)
    assert_same_choice(points((int(rng.integers(1, 9)), size(action)), dtype, seed), action)


@given(group_and_seed, actions, st.sampled_from([torch.float32, torch.float64]))
@property_based
def test_vectors_that_tie_share_the_choice_as_by_looking_at_all_of_them(where, kind, dtype):
    group, seed = where
    rng = np.random.default_rng(seed)
    action = kind(group, rng)
    whole = torch.from_numpy(rng.integers(-1, 2, (8, size(action)))).to(dtype)
    fixed = on_stabilised(action, torch.randn(4, size(action), dtype=dtype), rng)
    assert_same_choice(torch.cat([whole, fixed, torch.zeros(1, size(action), dtype=dtype)]), action)


@given(group_and_seed, actions)
@a_few
def test_rows_of_a_batch_are_chosen_apart_from_each_other(where, kind):
    group, seed = where
    rng = np.random.default_rng(seed)
    action = kind(group, rng)
    x = torch.from_numpy(rng.integers(-1, 2, (8, size(action)))).float()
    together = largest_points(x, action)
    for i in range(8):
        assert torch.equal(largest_points(x[i : i + 1], action)[:, 0], together[:, i])


@given(group_and_seed, actions, st.sampled_from([torch.float32, torch.float64]))
@a_few
def test_numbers_that_are_not_finite_are_chosen_as_by_looking_at_all_of_them(where, kind, dtype):
    group, seed = where
    rng = np.random.default_rng(seed)
    action = kind(group, rng)
    x = points((12, size(action)), dtype, seed)
    for i, special in enumerate((float("nan"), float("inf"), -float("inf"))):
        x[3 * i, rng.integers(size(action))] = special
        x[3 * i + 1] = special
    weights = assert_same_choice(x, action)
    assert weights.isfinite().all()


@pytest.mark.parametrize("first", [0, 1, 3])
def test_two_floats_that_differ_by_rounding_share_the_choice_where_maps_round(first):
    space = spaces.Box(0, 9, (first + 1,), np.float32)

    def reflected(x):
        return np.concatenate([x[:first], 9 - x[first:]])

    action = Symmetry.from_generators(
        space, spaces.Discrete(2), {"reflect": (reflected, [1, 0])}
    ).observations
    assert (action.rounds, action.first_moved) == (True, first)
    x = torch.full((4, first + 1), 4.5)
    x[1, first] += 1e-6
    x[2, first] -= 1e-3
    x[3, first] += 1e-3
    weights = assert_same_choice(x, action)
    assert weights.tolist() == [[0.5, 0.5, 0.0, 1.0], [0.5, 0.5, 1.0, 0.0]]


def test_where_maps_round_nothing_the_smallest_difference_decides():
    swap = GroupAction.on_vectors(cyclic(2), permutations=[[0, 1], [1, 0]])
    assert not swap.rounds
    x = torch.tensor([[3.0, 3.0], [3.0, 3.0 + 1e-6]])
    assert assert_same_choice(x, swap).tolist() == [[0.5, 0.0], [0.5, 1.0]]


@pytest.mark.parametrize("kind", ["permutations", "matrices"])
@pytest.mark.parametrize("large", [1.0, 2e4, 1e6])
def test_small_entries_beside_a_large_one_are_ordered_the_same_way_from_everywhere(kind, large):
    """Almost equal is no order: 0 ~ 0.15 ~ 0.3 beside 20,000, but not 0 ~ 0.3."""
    group, among = from_permutations({"a": [1, 0, 2, 3], "b": [0, 2, 1, 3]})
    given = among if kind == "permutations" else np.eye(4)[np.argsort(among, axis=1)]
    action = GroupAction.on_vectors(group, **{kind: given})
    assert action.rounds == (kind == "matrices")
    torch.manual_seed(0)
    small = torch.cat([torch.tensor([[0.0, 0.15, 0.3]]), 3 * torch.randn(400, 3)])
    x = torch.cat([small, torch.full((401, 1), large)], dim=1)
    weights = largest_points(x, action)
    for g in range(6):
        moved = largest_points(action.transform(g, x), action)
        assert torch.equal(moved, weights[torch.from_numpy(group.table[:, g].copy())])


@every_case
def test_points_of_every_kind_of_space_are_chosen_as_by_looking_at_all_of_them(case):
    action = case.symmetry.observations
    assert_same_choice(tensors(sample(case.space, 40)), action)


def square(dtype: type) -> GroupAction:
    """D4 on images of 84 × 84 × 4."""
    high = 1 if dtype == np.bool_ else 255
    symmetry = Symmetry.from_generators(
        spaces.Box(0, high, (SIDE, SIDE, CHANNELS), dtype),
        spaces.Discrete(4),
        {"r": (np.rot90, [1, 2, 3, 0]), "s": (np.flipud, [0, 3, 2, 1])},
    )
    return symmetry.observations


@pytest.fixture(scope="module")
def on_images() -> GroupAction:
    return square(np.uint8)


def image_decided_at(entry: int, rng: np.random.Generator) -> Tensor:
    """A totally symmetric image but for one entry."""
    quarter = rng.integers(1, 200, (SIDE // 2, SIDE // 2, CHANNELS), np.uint8)
    quarter = np.maximum(quarter, quarter.transpose(1, 0, 2))
    half = np.concatenate([quarter, quarter[:, ::-1]], axis=1)
    image = np.concatenate([half, half[::-1]], axis=0)
    image.ravel()[entry] += 7
    return torch.from_numpy(image)


ENTRIES = SIDE * SIDE * CHANNELS
DECIDING = [0, *(entry for end in HEADS for entry in (end - 1, end)), ENTRIES - 1]


@pytest.mark.parametrize("entry", [entry for entry in DECIDING if entry < ENTRIES])
def test_images_are_told_apart_wherever_they_first_differ(on_images, entry):
    rng = np.random.default_rng(entry)
    x = torch.stack([image_decided_at(entry, rng) for _ in range(2)])
    assert_same_choice(x, on_images)


def test_images_decided_early_and_late_are_chosen_in_one_batch(on_images, monkeypatch):
    rng = np.random.default_rng(0)
    x = torch.stack([image_decided_at(e, rng) for e in DECIDING if e < ENTRIES])
    # Nothing along the upper edge, a bar on the diagonals, nothing at all; and noise.
    x = torch.cat([x, torch.zeros_like(x[:3]), points((3, *x.shape[1:]), torch.uint8)])
    middle = SIDE // 2
    x[-6, middle, : middle // 2] = 255
    x[-5, range(SIDE), range(SIDE)] = 255
    weights = assert_same_choice(x[torch.randperm(len(x))], on_images)
    assert 0.125 in weights  # of the image that is nothing at all
    looked_at: list[int] = []

    def watched(orbit: Tensor, rounds: bool) -> Tensor:
        looked_at.append(orbit[0, 0].numel())
        return lexicographic_weights(orbit, rounds)

    monkeypatch.setattr(equirl.symmetrize.lexicographic, "lexicographic_weights", watched)
    largest_points(x[-3:], on_images)
    assert looked_at == [HEADS[0]]  # noise is told apart by its beginning


def test_totally_symmetric_images_share_the_choice_equally(on_images):
    rng = np.random.default_rng(1)
    quarter = rng.integers(0, 256, (SIDE // 2, SIDE // 2, CHANNELS), np.uint8)
    half = np.concatenate([quarter, quarter[:, ::-1]], axis=1)
    mirrored = np.concatenate([half, half[::-1]], axis=0)  # under half of the group
    symmetric = np.maximum(mirrored, mirrored.transpose(1, 0, 2))
    x = torch.from_numpy(np.stack([symmetric, mirrored, np.full_like(mirrored, 9)]))
    weights = assert_same_choice(x, on_images)
    shares = [sorted(weights[:, i].tolist(), reverse=True) for i in range(3)]
    assert shares == [[0.125] * 8, [0.25] * 4 + [0.0] * 4, [0.125] * 8]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint16, np.int64])
def test_large_points_of_other_dtypes_are_chosen_as_by_looking_at_all_of_them(dtype):
    action = square(dtype)
    rng = np.random.default_rng(0)
    x = torch.stack([image_decided_at(e, rng) for e in (0, HEADS[0], ENTRIES - 1)])
    x = torch.cat([x, torch.zeros_like(x[:1])])
    images = (x.numpy() > 100) if dtype == np.bool_ else x.numpy().astype(dtype)
    assert_same_choice(torch.from_numpy(images), action)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if not d.is_floating_point], ids=str)
def test_whole_numbers_over_the_whole_range_are_chosen_as_by_looking_at_all_of_them(dtype):
    moves = {"r": "rot90", "s": "flipud"}
    action = GroupAction.on_images(dihedral(4), (CHANNELS, SIDE, SIDE), moves)
    x = points((2, CHANNELS, SIDE, SIDE), dtype)
    x[1] = 0
    assert_same_choice(x, action)


@given(group_and_seed, actions)
@a_few
def test_a_model_given_its_fixed_weights_is_the_same_model(where, kind):
    group, seed = where
    rng = np.random.default_rng(seed)
    into, out = kind(group, rng), output_action(group, rng)
    torch.manual_seed(seed)
    model = Symmetrized(mlp(size(into), size(out)), into, out, "canonical")
    whole = torch.from_numpy(rng.integers(-1, 2, (6, size(into)))).float()
    x = torch.cat([torch.randn(4, size(into)), whole])
    weights = model.fixed_weights(x)
    assert weights is not None
    assert weights.shape == (group.order, 10)
    assert not weights.requires_grad
    assert torch.equal(model(x, weights), model(x))
    assert torch.equal(model(x[3:7], weights[:, 3:7]), model(x[3:7]))

    upstream = torch.randn(10, size(out))
    twin = copy.deepcopy(model)
    (model(x, weights) * upstream).sum().backward()
    (twin(x) * upstream).sum().backward()
    for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(parameter.grad, other.grad)


@pytest.mark.parametrize("name", METHODS)
def test_only_a_choice_that_depends_on_nothing_learned_has_fixed_weights(name):
    options: dict[str, Any] = dict(METHODS[name])
    turn = GroupAction.on_vectors(cyclic(3), permutations=[[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    if options.pop("canonical_score", False):
        options["canonical_score"] = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    model = Symmetrized(nn.Linear(3, 3), turn, turn, feature_dim=3, **options)
    assert (model.fixed_weights(torch.randn(4, 3)) is not None) == (name == "canonical")
