"""The fast ways of moving many points at once do what the definition of the maps says."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from equirl.actions import SignedPermutations
from equirl.actions.maps import LARGE_POINT, Maps, select_entries
from shared.map_stacks import (
    DTYPES,
    FLOATS,
    UNSIGNED,
    affines,
    along,
    assert_near,
    points,
    signed_permutations,
)
from shared.symmetrized_models import a_few

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
seeds = st.integers(0, 2**31 - 1)


@pytest.mark.covering(2)
@every_dtype
@pytest.mark.parametrize("entries", [1, 7, LARGE_POINT - 1, LARGE_POINT, LARGE_POINT + 1])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_selected_entries_are_those_at_the_index(
    dtype: torch.dtype, entries: int, batch: int
) -> None:
    x = points((batch, entries), dtype)
    for length in (0, 1, entries, 2 * entries + 1):  # repeated entries too
        index = torch.from_numpy(np.random.default_rng(1).integers(0, entries, length))
        selected = select_entries(x, index)
        assert selected.dtype == dtype
        assert selected.shape == (batch, length)
        bits = selected.view(torch.uint8) if dtype != torch.bool else selected
        expected = torch.stack([x[:, i] for i in index], dim=1) if length else selected
        assert torch.equal(bits, expected.contiguous().view(bits.dtype))


@pytest.mark.parametrize("entries", [LARGE_POINT - 1, LARGE_POINT])
def test_entries_are_selected_from_points_that_lie_anyhow_in_memory(entries: int) -> None:
    x = points((4, entries), torch.float32)
    index = torch.randperm(entries)
    apart = points((4, 2 * entries), torch.float32)[:, ::2].copy_(x)
    transposed = x.t().contiguous().t()
    repeated = x[:1].expand(4, -1)
    for laid in (apart, transposed):
        assert torch.equal(select_entries(laid, index), x[:, index])
    assert torch.equal(select_entries(repeated, index), repeated[:, index])


@pytest.mark.parametrize("entries", [LARGE_POINT - 1, LARGE_POINT])
def test_gradients_go_back_to_the_selected_entries(entries: int) -> None:
    x = points((3, entries), torch.float64).requires_grad_()
    index = torch.randint(entries, (entries,))
    weights = torch.randn(3, entries, dtype=torch.float64)
    (select_entries(x, index) * weights).sum().backward()
    expected = torch.zeros(3, entries, dtype=torch.float64).index_add(1, index, weights)
    torch.testing.assert_close(x.grad, expected)


@every_dtype
@pytest.mark.parametrize("entries", [5, LARGE_POINT])
def test_an_orbit_holds_every_map_of_every_point(dtype: torch.dtype, entries: int) -> None:
    maps = signed_permutations(4, entries, np.random.default_rng(2), signs=False, offsets=False)
    x = points((3, entries), dtype)
    orbit = maps.orbit(x)
    assert orbit.dtype == dtype
    for k in range(4):
        expected = torch.from_numpy(x.view(_holder(dtype)).numpy()[:, maps.index[k]])
        assert torch.equal(orbit[:, k].contiguous().view(expected.dtype), expected)


def _holder(dtype: torch.dtype) -> torch.dtype:
    """A dtype that NumPy knows, with the same bits."""
    return torch.int16 if dtype == torch.bfloat16 else dtype


def stack(kind: str, rng: np.random.Generator) -> Maps:
    count, entries = int(rng.integers(1, 9)), int(rng.integers(1, 20))
    if kind == "affine":
        return affines(count, entries, rng)
    signs, offsets = {
        "permutations": (False, False),
        "signed": (True, False),
        "shifted": (True, True),
        "only-shifted": (False, True),
    }[kind]
    return signed_permutations(count, entries, rng, signs=signs, offsets=offsets)


KINDS = ["permutations", "signed", "shifted", "only-shifted", "affine"]
every_kind = st.sampled_from(KINDS)


@given(every_kind, st.sampled_from(FLOATS), st.booleans(), seeds)
@a_few
def test_each_map_along_a_batch_moves_its_own_point(
    kind: str, dtype: torch.dtype, learns: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    maps = stack(kind, rng)
    x = points((int(rng.integers(0, 4)), maps.count, maps.entries), dtype, seed)
    expected = along(maps, x)
    moved = maps.along(x.requires_grad_(learns))
    assert moved.dtype == dtype
    assert_near(moved.detach(), expected, dtype)


@given(every_kind, st.sampled_from([torch.float32, torch.float64]), seeds)
@a_few
def test_gradients_along_a_batch_are_those_of_maps_applied_one_by_one(
    kind: str, dtype: torch.dtype, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    maps = stack(kind, rng)
    x = points((3, maps.count, maps.entries), dtype, seed).requires_grad_()
    one_by_one = [maps.take(k).orbit(x[:, k]) for k in range(maps.count)]
    expected = torch.cat(one_by_one, dim=1)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    assert_near(gradient(maps.along(x), x, upstream), gradient(expected, x, upstream), dtype)


def gradient(y: Tensor, x: Tensor, upstream: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(y, x, upstream, retain_graph=True)
    return result


@pytest.mark.parametrize("dtype", [torch.int64, *UNSIGNED], ids=str)
def test_whole_numbers_are_moved_along_a_batch_exactly(dtype: torch.dtype) -> None:
    maps = signed_permutations(3, 5, np.random.default_rng(0), signs=False, offsets=False)
    x = points((4, 3, 5), dtype)
    index = torch.from_numpy(np.array(maps.index))
    moved = maps.along(x)
    assert moved.dtype == dtype
    holder = x.view(torch.int64) if dtype == torch.uint64 else x.long()
    same = moved.view(torch.int64) if dtype == torch.uint64 else moved.long()
    assert torch.equal(same, holder.gather(-1, index.expand(x.shape)))


@given(every_kind, seeds)
@a_few
def test_arrays_are_moved_along_a_batch_as_tensors_are(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = stack(kind, rng)
    x = points((3, maps.count, maps.entries), torch.float64, seed)
    moved = maps.along(x.numpy())
    assert isinstance(moved, np.ndarray)
    assert_near(torch.from_numpy(moved), along(maps, x), torch.float64)


@given(every_kind, seeds)
@a_few
def test_the_first_moved_entry_is_the_first_that_a_map_treats_as_the_identity_does_not(
    kind: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    maps = stack(kind, rng)
    entries = maps.entries
    x = rng.normal(size=(20, entries))
    orbit = maps.orbit(x)
    moves = (np.abs(orbit - orbit[:, :1]) > 1e-9).any(axis=(0, 1))
    assert maps.first_moved() == (moves.argmax() if moves.any() else 0)


@pytest.mark.parametrize(("kept", "moved"), [(0, 0), (3, 3), (5, 5)])
def test_entries_before_the_first_moved_one_are_kept_by_all(kept: int, moved: int) -> None:
    turn = np.concatenate([np.arange(kept), kept + np.array([1, 2, 0])])
    maps: Any = signed_permutations(1, kept + 3, np.random.default_rng(0), offsets=False)
    maps = type(maps)(np.stack([np.arange(kept + 3), turn]))
    assert maps.first_moved() == moved


def test_constants_are_kept_once_for_each_dtype_and_left_behind_by_pickles() -> None:
    maps = SignedPermutations(np.array([[0, 1], [1, 0]]), np.array([[1.0, 1.0], [-1.0, -1.0]]))
    for batch in range(1, 50):
        for dtype in (torch.float32, torch.float64, torch.int64):
            maps.orbit(torch.zeros(batch, 2, dtype=dtype))
    assert len(maps._constants) == 3
    assert not pickle.loads(pickle.dumps(maps))._constants
