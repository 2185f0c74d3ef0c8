"""Actions on images, tokens, copies and sums: what they do, and networks made equivariant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from equirl import GroupAction, Symmetrized
from equirl.errors import GroupError, SymmetryError
from equirl.groups import cyclic, dihedral, symmetric
from shared.symmetry_cases import rotation

MOVES = {"r": "rot90", "s": "flipud"}
SQUARE = GroupAction.on_images(dihedral(4), (2, 4, 4), MOVES)
TURNS = GroupAction.on_vectors(cyclic(3), permutations=[[0, 1, 2], [1, 2, 0], [2, 0, 1]])
ROTATIONS = GroupAction.on_vectors(cyclic(3), matrices=[np.eye(2), rotation(120), rotation(240)])
TOKENS = GroupAction.on_tokens(cyclic(3), [[0, 1, 2], [1, 2, 0], [2, 0, 1]], length=5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64])
def test_images_are_turned_and_reflected_in_their_own_dtype(dtype):
    images = np.random.default_rng(0).integers(0, 99, (3, 2, 4, 4)).astype(dtype)
    group = SQUARE.group
    turned = np.rot90(images, axes=(-2, -1))
    expected = {
        "r": turned,
        "s": images[:, :, ::-1],
        "rs": np.rot90(images[:, :, ::-1], axes=(2, 3)),
    }
    for name, moved in expected.items():
        for given in (images, torch.from_numpy(images)):
            found = SQUARE.transform(name, given)
            assert np.array_equal(found, moved)
            assert found.dtype == given.dtype
            assert np.array_equal(SQUARE.orbit(given)[group.index(name)], moved)


def test_other_images_and_moves():
    flat = GroupAction.on_images(cyclic(2), (3, 4), {"r": "rot180"})
    image = np.arange(12).reshape(3, 4)
    assert np.array_equal(flat.transform(1, image), image[::-1, ::-1])
    channels = GroupAction.on_images(cyclic(2), (2, 3, 4), {"r": lambda x: x[::-1, :, ::-1]})
    assert channels.transform(1, np.arange(24).reshape(2, 3, 4))[0, 0, 0] == 15


@pytest.mark.parametrize(
    ("group", "shape", "moves"),
    [
        (dihedral(4), (2, 3, 4), MOVES),
        (dihedral(4), (2, 4, 4), {"r": "rot90"}),
        (dihedral(4), (2, 4, 4), {"r": "rot90", "s": "rot90"}),
        (cyclic(2), (4, 4), {"r": "rot90"}),
        (cyclic(2), (4, 4), {"r": "upside down"}),
        (cyclic(2), (4, 4), {"q": "rot180"}),
        (cyclic(2), (4, 4), {"r": lambda x: 0 * x}),
    ],
)
def test_moves_that_are_no_action_of_the_group_are_refused(group, shape, moves):
    with pytest.raises((SymmetryError, GroupError)):
        GroupAction.on_images(group, shape, moves)


def test_tokens_and_their_logits_move_alike():
    tokens = np.array([[0, 1, 2, 2, 0]])
    for given in (tokens, torch.from_numpy(tokens)):
        moved = TOKENS.transform("r", given)
        assert moved.tolist() == [[1, 2, 0, 0, 1]]
        one_hot = np.eye(3)[np.asarray(tokens)]
        assert np.array_equal(TURNS.copies(5).transform("r", one_hot), np.eye(3)[np.asarray(moved)])
    single = GroupAction.on_tokens(cyclic(3), [[0, 1, 2], [1, 2, 0], [2, 0, 1]])
    assert single.transform("r", 2) == 0
    for wrong in ([0, 1, 2, 3, 0], [-1, 0, 0, 0, 0], [0.5, 0, 0, 0, 0]):
        with pytest.raises(SymmetryError, match=str(max(wrong, key=lambda v: abs(v - 1)))):
            TOKENS.transform("r", wrong)
    for table in ([[0, 1], [0, 0], [1, 0]], [[0, 1, 2]] * 2, [0, 1]):
        with pytest.raises(SymmetryError):
            GroupAction.on_tokens(cyclic(3), table)
        with pytest.raises(SymmetryError):
            GroupAction.on_vectors(cyclic(3), permutations=table)


@pytest.mark.parametrize(
    "action", [TURNS, ROTATIONS, TOKENS, GroupAction.trivial(cyclic(3), (2, 2))]
)
def test_copies_move_each_as_one_and_a_sum_moves_its_parts(action):
    shape = action.leaves[0].shape
    finite = action.leaves[0].low is not None
    draw: Any = np.random.default_rng(0)
    make = (lambda *s: draw.integers(0, 3, s)) if finite else (lambda *s: draw.normal(size=s))
    x = make(4, 3, *shape)
    y = make(4, *shape)
    both = GroupAction.direct_sum(action, action.copies(3))
    for g in range(3):
        each = np.stack([action.transform(g, x[:, i]) for i in range(3)], axis=1)
        assert np.allclose(action.copies(3).transform(g, x), each)
        flat = np.concatenate([y.reshape(4, -1), x.reshape(4, -1)], axis=1)
        moved = both.transform(g, flat)
        assert np.allclose(moved[:, : y[0].size], action.transform(g, y).reshape(4, -1))
        assert np.allclose(moved[:, y[0].size :], each.reshape(4, -1))


def test_a_sum_of_different_kinds():
    signs = GroupAction.trivial(cyclic(3), (2,))
    both = GroupAction.direct_sum(signs, ROTATIONS, TURNS)
    x = np.arange(7.0)
    parts = [signs.transform(1, x[:2]), ROTATIONS.transform(1, x[2:4]), TURNS.transform(1, x[4:])]
    assert np.allclose(both.transform(1, x), np.concatenate(parts))
    for wrong in ((TURNS, TOKENS), (TURNS, GroupAction.trivial(cyclic(2), (1,)))):
        with pytest.raises(SymmetryError):
            GroupAction.direct_sum(*wrong)
    with pytest.raises(SymmetryError, match="0"):
        TURNS.copies(0)


MODELS = [
    (SQUARE, GroupAction.trivial(dihedral(4), (3,)), nn.Sequential(nn.Flatten(), nn.Linear(32, 3))),
    (SQUARE, SQUARE, nn.Conv2d(2, 2, 3, padding=1)),
    (
        TOKENS,
        TURNS.copies(5),
        nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 3)),
    ),
    (
        GroupAction.direct_sum(ROTATIONS, TURNS),
        GroupAction.direct_sum(TURNS, ROTATIONS.copies(2)),
        nn.Linear(5, 7),
    ),
]


@pytest.mark.covering(1)
@pytest.mark.parametrize("method", ["equitune", "equizero", "canonical"])
@pytest.mark.parametrize(("into", "out", "model"), MODELS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_networks_between_them_become_equivariant(into, out, model, method, dtype, tolerance):
    torch.manual_seed(0)
    score = (lambda y: y.flatten(1).amax(dim=1)) if method == "equizero" else None
    symmetrized = Symmetrized(
        model.to(dtype), into, out, method, **({} if score is None else {"score": score})
    )
    leaf = into.leaves[0]
    x = torch.randn(6, *leaf.shape, dtype=dtype)
    if leaf.low is not None:
        x = torch.randint(0, 3, (6, *leaf.shape))
    y = symmetrized(x)
    for g in range(into.group.order):
        torch.testing.assert_close(
            symmetrized(into.transform(g, x)), out.transform(g, y), rtol=0, atol=tolerance
        )


def test_words_are_shortest_products_of_the_generators():
    group = symmetric(4)
    generators = [group.index("(0 1)"), group.index("(0 1 2 3)")]
    words = group.words(generators)
    for g, word in enumerate(words):
        assert group.product(*(generators[k] for k in word)) == g
        assert len(word) <= 6
    with pytest.raises(GroupError, match="do not generate"):
        group.words(generators[:1])
