"""The fast paths of a group action for whole batches do what `GroupAction.transform` does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equirl import GroupAction, Symmetry
from shared.map_stacks import assert_near, points
from shared.representations import GROUPS, affine_action, output_action, signed_action, size
from shared.symmetrized_models import a_few, group_and_seed, square_of_images
from shared.symmetry_cases import CASES, assert_same, every_case, of_leaves, row, sample, tensors

KINDS = [signed_action, affine_action, output_action]
every_kind = st.sampled_from(KINDS)
dtypes = st.sampled_from([torch.float16, torch.float32, torch.float64])


def pulled_back_one_by_one(action: GroupAction, y: Tensor) -> Tensor:
    """Row g moved by the inverse of g."""
    inverses = action.group.inverses.tolist()
    return torch.stack([action.transform(h, row) for h, row in zip(inverses, y, strict=True)])


@given(group_and_seed, every_kind, dtypes)
@a_few
def test_pulling_back_moves_row_g_by_the_inverse_of_g(where, kind, dtype):
    group, seed = where
    action = kind(group, np.random.default_rng(seed))
    y = points((group.order, 3, size(action)), dtype, seed)
    expected = pulled_back_one_by_one(action, y)
    for learns in (False, True):
        back = action.pull_back(y.clone().requires_grad_(learns))
        assert back.dtype == dtype
        assert_near(back.detach(), expected, dtype)


@given(group_and_seed, every_kind, dtypes)
@a_few
def test_rows_are_moved_each_by_its_own_element_and_back(where, kind, dtype):
    group, seed = where
    rng = np.random.default_rng(seed)
    action = kind(group, rng)
    rows = int(rng.integers(0, 20))
    x = points((rows, size(action)), dtype, seed)
    g = torch.from_numpy(rng.integers(0, group.order, rows))
    moved = action.move_each(g, x)
    assert moved.dtype == dtype
    assert_near(moved, action.transform(g, x), dtype)
    back = action.pull_back_each(g, x)
    assert back.dtype == dtype
    assert_near(back, action.transform(group.inverses[g.numpy()], x), dtype)


@every_case
def test_rows_of_every_kind_of_space_are_moved_each_by_its_own_element(case):
    action = case.symmetry.observations
    x = tensors(sample(case.space, 24))
    g = torch.arange(24) % case.order
    assert_same(action.move_each(g, x), action.transform(g, x))
    none = of_leaves(lambda part: part[:0], x)
    assert_same(action.move_each(g[:0], none), none, exact=True)


def test_images_are_pulled_back_pixel_by_pixel():
    action, _ = square_of_images()
    y = points((8, 2, 2, 6, 6), torch.float32)
    expected = pulled_back_one_by_one(action, y)
    assert torch.equal(action.pull_back(y), expected)
    assert torch.equal(action.pull_back(y.requires_grad_()), expected)
    g = torch.tensor([3, 5])
    inverses = action.group.inverses[[3, 5]]
    assert torch.equal(action.pull_back_each(g, y[0]), action.transform(inverses, y[0]))


@every_case
def test_the_head_of_an_orbit_is_its_beginning_or_not_given(case):
    action = case.symmetry.observations
    x = tensors(sample(case.space, 5))
    entries = sum(leaf.size for leaf in action.leaves)
    orbit = action.orbit(x)
    for count in {1, max(1, entries // 2), entries - 1, entries, entries + 1}:
        head = None if isinstance(x, dict) else action.orbit_head(x, count)
        if head is not None:
            assert count < entries
            assert_same(head, orbit.flatten(2)[:, :, :count])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int64, torch.float32])
@pytest.mark.parametrize("count", [1, 7, 71])
def test_the_head_of_the_orbit_of_images_is_given(dtype, count):
    action, _ = square_of_images()
    x = points((3, 2, 6, 6), dtype)
    for _ in range(2):  # the second time from what was kept
        head = action.orbit_head(x, count)
        assert head.shape == (8, 3, count)
        assert_same(head, action.orbit(x).flatten(2)[:, :, :count])
    assert action.orbit_head(x, 72) is None
    assert action.orbit_head(x.numpy(), count) is None
    assert action.orbit_head(x[0], count) is None


def case_named(name: str) -> Any:
    (case,) = [case for case in CASES if case.name == name]
    return case


@pytest.mark.parametrize("name", ["dict", "hexagon-float32", "multidiscrete", "discrete"])
def test_no_head_is_given_where_it_would_be_no_less_work(name):
    case = case_named(name)
    action = case.symmetry.observations
    x = tensors(sample(case.space, 3))
    if not isinstance(x, dict):
        assert action.orbit_head(x, 1) is None
    else:
        assert action.orbit_head(x["camera"], 1) is None


@every_case
def test_the_first_moved_entry_is_the_first_that_differs_along_orbits(case):
    action = case.symmetry.observations
    x = tensors(sample(case.space, 64))
    if isinstance(x, dict) or action.leaves[0].shape == ():
        assert action.first_moved is None
        return
    orbit = action.orbit(x).flatten(2).double()
    moves = ((orbit - orbit[:1]).abs() > 1e-3).any(dim=1).any(dim=0)
    first = int(moves.to(torch.uint8).argmax()) if moves.any() else 0
    assert action.first_moved == first


def test_the_first_moved_entry_may_be_late():
    space = spaces.Box(-1, 1, (5,), np.float32)
    symmetry = Symmetry.from_generators(
        space, spaces.Discrete(2), {"swap": ([0, 1, 2, 4, 3], [1, 0])}
    )
    assert symmetry.observations.first_moved == 3


def test_an_orbit_lies_batch_first_in_memory_so_that_no_copy_is_made_of_it():
    for group in GROUPS[:4]:
        action = signed_action(group, np.random.default_rng(0))
        orbit = action.orbit(points((5, size(action)), torch.float32))
        assert orbit.transpose(0, 1).is_contiguous()
        assert row(orbit, 0).shape == (5, size(action))
