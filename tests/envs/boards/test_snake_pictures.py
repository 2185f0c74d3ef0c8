"""Snake: its pictures."""

from __future__ import annotations

import numpy as np
import pytest

from equirl.envs.boards.snake import Snake
from shared.snakes import Cell


def test_the_picture_shows_snake_and_fruit_in_their_cells_only() -> None:
    env = Snake(size=4, render_mode="rgb_array")
    env.set_state([(1, 2), (1, 1), (2, 1), (3, 1)], (3, 3))
    picture = env.render()
    assert picture is not None
    assert picture.dtype == np.uint8
    assert picture.shape == (4 * 48 + 24, 4 * 48 + 24, 3)
    cells = picture[12:-12, 12:-12].reshape(4, 48, 4, 48, 3).swapaxes(1, 2).astype(int)
    red, green, blue = np.moveaxis(cells, -1, 0)
    snake = {tuple(map(int, cell)) for cell in np.argwhere((blue - green > 30).any((2, 3)))}
    fruit = {tuple(map(int, cell)) for cell in np.argwhere((red - green > 80).any((2, 3)))}
    assert snake == set(env.snake)
    assert fruit == {env.fruit}


@pytest.mark.parametrize("ahead", [(-1, 0), (0, 1), (1, 0), (0, -1)])
def test_the_eyes_look_ahead_whichever_way_the_snake_goes(ahead: Cell) -> None:
    env = Snake(size=5)
    env.set_state([(2 - k * ahead[0], 2 - k * ahead[1]) for k in range(3)], (0, 0))
    board = env.draw()[12:-12, 12:-12].astype(int).sum(-1)
    centre = 2.5 * 48
    pupils = np.argwhere(board < 130).mean(0) + 0.5 - centre
    whites = np.argwhere(board > 740).mean(0) + 0.5 - centre
    assert pupils @ ahead > whites @ ahead + 1 > 2
    assert abs(pupils @ ahead[::-1]) < 1


def test_human_mode_shows_the_picture_in_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = Snake(size=4, render_mode="human")
    env.reset(seed=0)
    env.step(0)
    shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
    np.testing.assert_array_equal(shown, env.draw())
    env.close()
    assert not pygame.display.get_init()
