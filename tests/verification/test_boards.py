"""Boards whose cells tell where something is large, from observations alone."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from equirl.verification.boards import board_of, boards_of, shows_board

SPACE = spaces.Box(0, 255, (4, 5, 2), np.uint8)


def test_the_plane_that_tells_best_comes_first() -> None:
    rng = np.random.default_rng(0)
    seen = np.zeros((600, *SPACE.shape), np.uint8)
    places = rng.integers([4, 5], size=(2, 600, 2))
    for plane, cells in enumerate(places):
        seen[np.arange(600), cells[:, 0], cells[:, 1], plane] = 255
    corner = (places[1] == [0, 4]).all(axis=1)
    breach, weights = np.where(corner, 0.8, 0.1), np.ones(600)
    best = board_of(SPACE, seen, breach, weights)
    assert best is not None
    assert best.what == "s[:, :, 1] = 255"
    expected = np.full((4, 5), 0.1)
    expected[0, 4] = 0.8
    np.testing.assert_allclose(best.shares, expected)

    assert len(boards_of(SPACE, seen, breach, weights)) == 1
    both = boards_of(SPACE, seen, breach, weights, stands_out=-np.inf)
    assert [board.what for board in both] == ["s[:, :, 1] = 255", "s[:, :, 0] = 255"]
    assert board_of(SPACE, seen, np.full(600, 0.3), weights) is None


@pytest.mark.parametrize(
    ("shape", "is_board"),
    [
        ((4, 4, 16), True),
        ((12, 7, 7), True),
        ((6, 6), True),
        ((3, 10, 10), True),
        ((10, 10, 6), True),
        ((84, 84, 4), False),
        ((8,), False),
    ],
)
def test_what_is_a_board(shape: tuple[int, ...], is_board: bool) -> None:
    assert shows_board(spaces.Box(0, 255, shape, np.uint8)) == is_board


@pytest.mark.parametrize(
    ("shape", "board"),
    [
        ((3, 6, 6), (6, 6)),
        ((12, 7, 7), (7, 7)),
        ((6, 6, 3), (6, 6)),
        ((4, 4, 16), (4, 4)),
        ((10, 10, 12), (10, 10)),
        ((2, 4, 5), (4, 5)),
        ((4, 5, 2), (4, 5)),
        ((4, 4, 4), (4, 4)),
        ((5, 6), (5, 6)),
    ],
)
def test_which_axis_is_of_planes(shape: tuple[int, ...], board: tuple[int, int]) -> None:
    seen = np.random.default_rng(0).integers(2, size=(50, *shape), dtype=np.uint8)
    space = spaces.Box(0, 1, shape, np.uint8)
    found = boards_of(space, seen, np.linspace(0, 1, 50), np.ones(50), stands_out=-np.inf)
    assert len(found) == np.prod(shape) // np.prod(board)
    assert {one.shares.shape for one in found} == {board}
