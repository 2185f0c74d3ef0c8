"""Scores that tie: the choice is shared, and equivariance survives."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from equirl import GroupAction, Symmetrized
from equirl.groups import cyclic, dihedral
from equirl.symmetrize.weightings import (
    lexicographic_weights,
    shared_among_best,
)
from equirl.testing import assert_equivariant
from shared.representations import affine_action, output_action, signed_action, size
from shared.symmetrized_models import (
    METHODS,
    WholeNumbers,
    dtypes,
    group_and_seed,
    method_names,
    mlp,
    property_based,
    symmetrized,
)


class Constant(nn.Module):
    """The same distinct values for every input: all scores tie, yet no two branches agree."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.linspace(-1, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.values.expand(len(x), -1) + 0 * x.sum(dim=1, keepdim=True)


class Invariant(nn.Module):
    """An invariant model: all scores tie up to rounding, yet no two branches agree."""

    def __init__(self, action: GroupAction, outputs: int) -> None:
        super().__init__()
        self.action = action
        self.inner, self.outer = mlp(size(action), 5), mlp(5, outputs)

    def forward(self, x: Tensor) -> Tensor:
        orbit = self.action.orbit(x)
        pooled: Tensor = self.outer(
            self.inner(orbit.flatten(0, 1)).unflatten(0, orbit.shape[:2]).mean(0)
        )
        return pooled


@given(group_and_seed, method_names, dtypes, st.sampled_from([signed_action, affine_action]))
@property_based
def test_every_method_is_equivariant_when_all_scores_tie(where, name, dtype, action):
    group, seed = where
    rng = np.random.default_rng(seed)
    into, out = action(group, rng), output_action(group, rng)
    x = torch.randn(6, size(into), dtype=dtype)
    for network in (Constant(size(out)), Invariant(into, size(out))):
        model = symmetrized(network, into, out, METHODS[name], seed).to(dtype)
        model(x)  # λ measures a spread of rounding errors, and must not magnify it
        assert_equivariant(model, into, out, x, seed=seed)


@given(group_and_seed, method_names, dtypes)
@property_based
def test_every_method_is_equivariant_when_some_scores_tie(where, name, dtype):
    group, seed = where
    rng = np.random.default_rng(seed)
    into, out = signed_action(group, rng), output_action(group, rng)
    torch.manual_seed(seed)
    network = WholeNumbers(size(into), size(out))
    model = symmetrized(network, into, out, METHODS[name], seed).to(dtype)
    x = torch.randint(-1, 2, (12, size(into))).to(dtype)
    assert_equivariant(model, into, out, x, seed=seed)
    with torch.no_grad():
        assert_equivariant(model, into, out, x, seed=seed)


def test_canonical_runs_the_model_once_per_input_without_ties():
    group = dihedral(4)
    into = GroupAction.on_vectors(group, permutations=group.table)
    rows = []

    def counted(x: Tensor) -> Tensor:
        rows.append(len(x))
        return x

    Symmetrized(counted, into, into, "canonical")(torch.randn(5, 8))
    assert rows == [5]
    Symmetrized(counted, into, into, "canonical")(torch.zeros(5, 8))
    assert rows == [5, 40]  # every element stabilises zero


@pytest.mark.parametrize(
    "points",
    [
        torch.tensor([[3, 1, 2, 1]], dtype=torch.uint8),
        torch.tensor([[300, 1, 2, 1]], dtype=torch.uint16),
        torch.tensor([[True, False, False, False]]),
        torch.tensor([[3.0, 1.0, 2.0, 1.0]], dtype=torch.float16),
        torch.tensor([[3.0, 1.0, 2.0, 1.0]], dtype=torch.float64),
        torch.tensor([[-1, -3, -2, -3]]),
    ],
    ids=lambda points: str(points.dtype),
)
def test_the_lexicographically_largest_point_is_chosen_in_every_dtype(points):
    group = cyclic(4)
    turns = GroupAction.on_vectors(group, permutations=group.table)
    weights = lexicographic_weights(turns.orbit(points), turns.rounds)
    assert weights.flatten().tolist() == [1, 0, 0, 0]
    assert weights.is_floating_point()
    orbit = turns.orbit(turns.orbit(points)[3])
    assert lexicographic_weights(orbit, turns.rounds).flatten().tolist() == [
        0,
        1,
        0,
        0,
    ]  # 3 + 1 = 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64, torch.uint8])
def test_a_stabiliser_shares_the_weight_and_the_shares_sum_to_one(dtype):
    group = cyclic(6)
    turns = GroupAction.on_vectors(group, permutations=group.table)
    orbit = turns.orbit(torch.tensor([[5, 1, 5, 1, 5, 1]]).to(dtype))
    weights = lexicographic_weights(orbit, turns.rounds)
    assert weights.flatten().tolist() == pytest.approx([1 / 3, 0] * 3)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("rounds", [False, True])
def test_beside_large_numbers_small_ones_still_decide_the_order(rounds):
    orbit = {
        "image": torch.full((2, 1, 4), 255.0),
        "speed": torch.tensor([[[-1e-3]], [[1e-3]]]),
    }
    assert lexicographic_weights(orbit, rounds).flatten().tolist() == [0, 1]


def test_a_learned_score_near_zero_ties_up_to_the_rounding_of_what_it_came_from():
    group = cyclic(2)
    flip = GroupAction.on_vectors(group, matrices=[np.eye(2), -np.eye(2)])
    swap = GroupAction.on_vectors(group, permutations=[[0, 1], [1, 0]])
    # c is invariant but for the rounding of numbers of order one that cancel.
    score = {"canonical_score": lambda rows: 1e-7 * rows[:, 0]}
    model = Symmetrized(nn.Linear(2, 2), flip, swap, "canonical", **score)
    x = torch.randn(5, 2)
    assert torch.equal(model.branches(x).weights, torch.full((2, 5), 0.5))


def test_scores_within_rounding_share_and_others_do_not():
    scores = torch.tensor([[1.0, 1.0, -5.0], [1.0 + 1e-6, 1.0 + 1e-3, -5.0], [0.0, 0.5, -6.0]])
    weights = shared_among_best(scores, torch.tensor([1.0, 1.0, 6.0]))
    assert weights.T.tolist() == [[0.5, 0.5, 0], [0, 1, 0], [0.5, 0.5, 0]]
