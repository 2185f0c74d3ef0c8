"""Equivariant layers: exact, complete, and the group convolution of Cohen and Welling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from equirl import FiniteGroup, Symmetry
from equirl.agents.native.equivariant_layers import (
    ActionValues,
    LiftingConv2d,
    RegularConv2d,
    RegularLinear,
)
from equirl.agents.native.grid_moves import grid_moves
from equirl.agents.policy_spaces import for_policy
from equirl.errors import SymmetryError
from equirl.groups import cyclic, dihedral, symmetric
from shared.symmetry_cases import CASES, every_case, property_based

GROUPS = [cyclic(1), cyclic(2), cyclic(5), dihedral(3), dihedral(4), symmetric(4)]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}

every_dtype = pytest.mark.parametrize("dtype", TOLERANCE)
every_group = pytest.mark.parametrize("group", GROUPS, ids=lambda group: f"order {group.order}")

VECTORS = {case.name: case for case in CASES if case.name in ("square-float64", "hexagon-float64")}
IMAGE_SYMMETRIES = {
    "D4": {"r": (np.rot90, [1, 2, 3, 0]), "s": (np.flipud, [0, 3, 2, 1])},
    "C4": {"r": (np.rot90, [1, 2, 3, 0])},
    "C2": {"r²": (lambda image: np.rot90(image, 2), [1, 0, 2, 3])},
    "mirror": {"m": (np.fliplr, [0, 1, 3, 2])},
    "mirror that exchanges channels": {"m": (lambda image: image[:, ::-1, ::-1], [0, 1, 3, 2])},
}


def seen_by(g: int, group: FiniteGroup, rows: Tensor) -> Tensor:
    """The rows of what is moved by g: f(gs)[h] = f(s)[h·g]."""
    return rows[:, torch.from_numpy(group.table[:, g].copy())]


def image_symmetry(name: str, size: int, channels: int = 3) -> Symmetry:
    images = spaces.Box(0, 255, (size, size, channels), np.uint8)
    declared = Symmetry.from_generators(images, spaces.Discrete(4), IMAGE_SYMMETRIES[name])
    seen = spaces.Box(0, 255, (channels, size, size), np.uint8)
    return for_policy(declared, seen)


@pytest.mark.covering(1)
@every_dtype
@every_group
@property_based
@given(copies=st.tuples(st.integers(1, 4), st.integers(1, 4)), seed=st.integers(0, 99))
def test_a_regular_layer_commutes_with_the_group(
    group: FiniteGroup, dtype: torch.dtype, copies: tuple[int, int], seed: int
) -> None:
    torch.manual_seed(seed)
    layer = RegularLinear(*copies, group).to(dtype)
    rows = torch.randn(3, group.order, copies[0], dtype=dtype)
    for g in range(group.order):
        moved = layer(seen_by(g, group, rows))
        assert (moved - seen_by(g, group, layer(rows))).abs().max() < TOLERANCE[dtype]


@pytest.mark.covering(1)
@every_dtype
@every_case
def test_action_values_move_with_the_actions(case: object, dtype: torch.dtype) -> None:
    symmetry = case.symmetry
    torch.manual_seed(0)
    head = ActionValues(3, symmetry).to(dtype)
    rows = torch.randn(4, symmetry.group.order, 3, dtype=dtype)
    q_values = head(rows)
    for g in range(symmetry.group.order):
        moved = head(seen_by(g, symmetry.group, rows))
        there = torch.from_numpy(symmetry.permutations[g].copy())
        assert (moved[:, there] - q_values).abs().max() < TOLERANCE[dtype]


def dense(layer: nn.Module, order: int, copies: int) -> Tensor:
    """The matrix of a layer without its bias, ``[outputs, |G| · copies]``."""
    units = torch.eye(order * copies, dtype=torch.float64).view(-1, order, copies)
    return (layer(units) - layer(torch.zeros_like(units[:1]))).flatten(1).t().detach()


def regular(group: FiniteGroup, g: int) -> Tensor:
    return seen_by(g, group, torch.eye(group.order, dtype=torch.float64)[None])[0]


def symmetrizer_rank(inputs: list[Tensor], outputs: list[Tensor]) -> int:
    """The dimension of {W : ρ_out(g) W = W ρ_in(g)}, by projection and singular values."""
    project = sum(
        torch.kron(torch.linalg.inv(out).contiguous(), a.t().contiguous())
        for a, out in zip(inputs, outputs, strict=True)
    ) / len(inputs)
    return int((torch.linalg.svdvals(project) > 1e-6).sum())


@every_group
def test_a_regular_layer_has_one_coefficient_for_each_dimension_of_the_symmetrizer(
    group: FiniteGroup,
) -> None:
    layer = RegularLinear(1, 1, group).double()
    moves = [regular(group, g) for g in range(group.order)]
    assert layer.weight.numel() == symmetrizer_rank(moves, moves) == group.order
    matrix = dense(layer, group.order, 1)
    assert all(torch.allclose(move @ matrix, matrix @ move) for move in moves)


@pytest.mark.parametrize("name", VECTORS)
def test_lifting_and_action_values_have_one_too(name: str) -> None:
    symmetry = VECTORS[name].symmetry
    group, (maps,) = symmetry.group, symmetry.observations.maps
    affine = maps if hasattr(maps, "matrix") else maps.as_affines()
    linear = [torch.from_numpy(matrix.copy()) for matrix in affine.matrix]
    moves = [regular(group, g) for g in range(group.order)]
    identity = torch.eye(symmetry.permutations.shape[1], dtype=torch.float64)
    actions = [identity[np.argsort(p)] for p in symmetry.permutations]
    assert nn.Linear(len(linear[0]), 1).weight.numel() == symmetrizer_rank(linear, moves)
    head = ActionValues(1, symmetry).double()
    assert head.weight.numel() == symmetrizer_rank(moves, actions)
    matrix = dense(head, group.order, 1)
    for move, action in zip(moves, actions, strict=True):
        assert torch.allclose(action @ matrix, matrix @ move)


def test_entries_have_the_variance_that_the_usual_layer_starts_with() -> None:
    torch.manual_seed(0)
    group = dihedral(4)
    usual = float(nn.Linear(8 * 40, 8 * 40).weight.detach().std())
    assert float(RegularLinear(40, 40, group).weight.detach().std()) == pytest.approx(
        usual, rel=0.05
    )
    symmetry = VECTORS["square-float64"].symmetry
    assert float(ActionValues(40, symmetry).weight.detach().std()) == pytest.approx(usual, rel=0.15)


@pytest.mark.covering(1)
@every_dtype
@pytest.mark.parametrize("size", [5, 6, 8, 11])
@pytest.mark.parametrize("name", IMAGE_SYMMETRIES)
def test_convolutions_commute_with_the_group_at_any_size_and_stride(
    name: str, size: int, dtype: torch.dtype
) -> None:
    symmetry = image_symmetry(name, size)
    group, moves = symmetry.group, grid_moves(symmetry.observations)
    torch.manual_seed(0)
    layers = nn.Sequential(
        LiftingConv2d(3, 2, 3, stride=2, padding=1),
        nn.ReLU(),
        RegularConv2d(2, 3, 2, group, moves, padding=1),
        nn.ReLU(),
        RegularConv2d(3, 2, 2, group, moves, stride=2),
    ).to(dtype)
    images = torch.randn(2, 3, size, size, dtype=dtype)

    def features(seen: Tensor) -> Tensor:
        return layers(symmetry.orbit(seen).transpose(0, 1))

    before = features(images)
    for g in range(group.order):
        moved = features(symmetry.transform_observation(g, images))
        assert (moved - seen_by(g, group, before)).abs().max() < TOLERANCE[dtype]
    assert before.std() > 1e-3


@pytest.mark.parametrize("name", ["D4", "C4", "mirror"])
def test_a_regular_convolution_is_the_group_convolution_with_turned_filters(name: str) -> None:
    symmetry = image_symmetry(name, 6)
    group, moves = symmetry.group, grid_moves(symmetry.observations)
    torch.manual_seed(0)
    layer = RegularConv2d(2, 3, 3, group, moves, padding=1).double()
    rows = torch.randn(2, group.order, 2, 6, 6, dtype=torch.float64)
    filters = layer.weight.unflatten(1, (group.order, 2))
    back = [moves[int(group.inverses[g])] for g in range(group.order)]

    # Cohen and Welling keep all rows in one frame, and turn the filters.
    upright = [back[h](rows[:, h]) for h in range(group.order)]
    ours = layer(rows)
    for g in range(group.order):
        expected = sum(
            F.conv2d(
                upright[h],
                back[g](filters[:, group.product(h, int(group.inverses[g]))]),
                padding=1,
            )
            for h in range(group.order)
        )
        torch.testing.assert_close(back[g](ours[:, g]), expected + layer.bias[:, None, None])


def test_the_move_of_every_element_is_that_of_its_images() -> None:
    for name in ("D4", "C4", "C2", "mirror"):
        symmetry = image_symmetry(name, 5)
        images = torch.randint(0, 255, (2, 3, 5, 5), dtype=torch.uint8)
        for g, move in enumerate(grid_moves(symmetry.observations)):
            assert torch.equal(move(images), symmetry.transform_observation(g, images))


def test_a_shift_of_the_pixels_is_refused() -> None:
    images = spaces.Box(0, 255, (3, 4, 4), np.uint8)
    shift = Symmetry.from_generators(
        images, spaces.Discrete(2), {"shift": (lambda image: np.roll(image, 1, axis=2), [0, 1])}
    )
    with pytest.raises(SymmetryError, match="shift is none: use MlpPolicy, or method=equitune"):
        grid_moves(shift.observations)
