"""Pictures of square boards, painted with NumPy in anti-aliased layers, and a window for them."""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

Cell = tuple[int, int]
"""Row and column, from the top left."""
Image = NDArray[np.uint8]

RENDER_MODES = (None, "rgb_array", "human")
PIXELS, MARGIN = 48, 12
"""Side of a cell and width of the margin around the board, in pixels."""

Points = NDArray[np.complex128]
"""Pixels or places as x + iy, y pointing down."""
Distances = NDArray[np.float64]
"""Signed distances in pixels, negative inside a shape: painting by them anti-aliases every edge."""
Colour = tuple[int, int, int] | NDArray[np.float64]
"""One colour, or one for each pixel `[height, width, 3]`."""
Layers = tuple[tuple[Distances, float, float, Colour], ...]
"""Each layer: distances, width of its edge in pixels, opacity in [0, 1], colour."""


class RenderedBoard(gym.Env[Image, np.int64]):
    """A game on a square board, shown in `"rgb_array"` or `"human"` mode by what `draw` returns.

    Attributes:
        size: rows and columns of the board.
        render_mode: one of `RENDER_MODES`.
    """

    # No ClassVar (RUF012): Gymnasium declares it as an attribute of each environment.
    metadata = {"render_modes": list(RENDER_MODES[1:]), "render_fps": 8}  # noqa: RUF012
    _window: Any = None
    size: int

    @abstractmethod
    def draw(self) -> Image:
        """Return a picture `[height, width, 3]` of the present state."""

    def render(self) -> Image | None:
        """Return a picture `[height, width, 3]`, or show it in a window in `"human"` mode.

        Raises:
            gymnasium.error.DependencyNotInstalled: `"human"` mode without pygame.
        """
        if self.render_mode is None:
            name = type(self).__name__
            gym.logger.warn(f"render() does nothing: construct {name} with a render_mode.")
            return None
        picture = self.draw()
        if self.render_mode == "rgb_array":
            return picture
        self._show(picture)
        return None

    def close(self) -> None:
        """Close the window, if there is one; closing twice does no harm."""
        if self._window is not None:
            import pygame

            pygame.quit()
            self._window = None

    def _show(self, picture: Image) -> None:
        try:
            import pygame
        except ImportError as error:
            raise DependencyNotInstalled("pygame missing: `pip install equirl[envs]`") from error

        if self._window is None:
            pygame.display.init()
            pygame.display.set_caption(type(self).__name__)
            self._window = pygame.display.set_mode(picture.shape[:2])
        pygame.surfarray.blit_array(self._window, picture.swapaxes(0, 1))
        pygame.event.pump()
        pygame.display.flip()
        pygame.time.wait(1000 // self.metadata["render_fps"])


def plane(side: int) -> Points:
    """Return every pixel of a square picture as its place from the centre."""
    axis = np.arange(side) - (side - 1) / 2
    return axis + 1j * axis[:, None]


def rounded_square(z: Points, half: float, radius: float) -> Distances:
    """Distance to a square of half side `half` around 0, its corners rounded by `radius`."""
    x, y = np.abs(z.real) - half + radius, np.abs(z.imag) - half + radius
    return np.hypot(np.maximum(x, 0), np.maximum(y, 0)) + np.minimum(np.maximum(x, y), 0) - radius


def segment(z: Points, start: complex, end: complex) -> tuple[Distances, Distances]:
    """Distance to a segment, and where its nearest point is: 0 at `start`, 1 at `end`."""
    along = np.clip(((z - start) / (end - start)).real, 0, 1)
    return np.abs(z - start - along * (end - start)), along


def tapered_path(
    side: int, points: Points, radii: NDArray[np.float64]
) -> tuple[Distances, NDArray[np.float64]]:
    """Distance to a path through points, as thick as the radii at each, in a square picture.

    Args:
        side: pixels along the picture.
        points: `[n]`, places from the picture's top left corner.
        radii: `[n]`, in pixels; up to half a cell.

    Returns:
        Distances `[side, side]`, infinite where the path is more than half a cell away, and where
        along the path the nearest point is: 1.5 is halfway between points 1 and 2.
    """
    distances, along = np.full((side, side), np.inf), np.zeros((side, side))
    pixels = np.arange(side) + 0.5
    for k, (start, end) in enumerate(pairwise(points)):
        box = [(z.imag, z.real) for z in (start, end)]
        low = np.maximum(np.min(box, axis=0).astype(int) - PIXELS // 2, 0)
        high = np.max(box, axis=0).astype(int) + PIXELS // 2
        window = slice(low[0], high[0]), slice(low[1], high[1])
        distance, part = segment(pixels[window[1]] + 1j * pixels[window[0], None], start, end)
        distance -= (1 - part) * radii[k] + part * radii[k + 1]
        nearer = distance < distances[window]
        distances[window][nearer] = distance[nearer]
        along[window][nearer] = k + part[nearer]
    return distances, along


def paint(picture: NDArray[np.float64], layers: Layers) -> None:
    """Paint layers over a picture `[height, width, 3]` in place, the first one lowest."""
    for distances, edge, opacity, colour in layers:
        covered = opacity * np.clip(0.5 - distances / edge, 0, 1)
        picture += covered[..., None] * (np.array(colour) - picture)


def paint_cell(board: NDArray[np.float64], cell: Cell, layers: Layers) -> None:
    """Paint layers of `[PIXELS, PIXELS]` over one cell of a board, in place."""
    top, left = cell[0] * PIXELS, cell[1] * PIXELS
    paint(board[top : top + PIXELS, left : left + PIXELS], layers)


def empty_board(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the picture of an empty framed board, and the view of it that holds the cells."""
    side = size * PIXELS
    floor = rounded_square(plane(side + 2 * MARGIN), side / 2 + 3, 10)
    picture = np.full((*floor.shape, 3), (222, 225, 233), np.float64)
    paint(picture, ((floor - 1.5, 1, 1, (190, 196, 210)), (floor, 1, 1, (250, 249, 246))))
    return picture, picture[MARGIN:-MARGIN, MARGIN:-MARGIN]
