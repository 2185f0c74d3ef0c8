"""Symmetries of every kind of space, with their orders, and how to compare what they do."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import settings

from equirl import Symmetry
from shared.tried import examples

property_based = settings(deadline=None, max_examples=examples(8))


def rotation(degrees: float) -> np.ndarray:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s], [s, c]])


def about(centre: list[float], matrix: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: matrix @ (x - centre) + centre


def hexagon_turn(x: np.ndarray) -> np.ndarray:
    q, r = x
    return np.array([-r, q + r])


def hexagon_mirror(x: np.ndarray) -> np.ndarray:
    return x[::-1]


def grid_turn(s: int) -> int:
    row, column = divmod(int(s), 5)
    return 5 * column + 4 - row


def quarter_turn_of_scene(scene: dict[str, Any]) -> dict[str, Any]:
    """A robot on a square: its camera, four walls, heading, and two arms that change places."""
    return {
        "camera": np.rot90(scene["camera"]),
        "heading": (scene["heading"] + 1) % 4,
        "left": -scene["right"],
        "right": scene["left"],
        "walls": np.roll(scene["walls"], 1),
    }


@dataclass(frozen=True)
class Case:
    """A symmetry with its order, which is known beforehand."""

    name: str
    space: spaces.Space[Any]
    generators: Mapping[str, tuple[Any, list[int]]]
    order: int

    @cached_property
    def symmetry(self) -> Symmetry:
        n = len(next(iter(self.generators.values()))[1])
        return Symmetry.from_generators(self.space, spaces.Discrete(n), dict(self.generators))


def vector(low: float, high: float, n: int, dtype: type) -> spaces.Box:
    return spaces.Box(low, high, (n,), dtype)


SQUARE = {  # on (x, y, vx, vy) and the actions east, north, west, south
    "r": (lambda x: np.array([-x[1], x[0], -x[3], x[2]]), [1, 2, 3, 0]),
    "s": (lambda x: x * np.array([1, -1, 1, -1]), [0, 3, 2, 1]),
}
HEXAGON = {
    "r": (lambda x: rotation(60) @ x, [1, 2, 3, 4, 5, 0]),
    "s": (lambda x: np.array([x[0], -x[1]]), [0, 5, 4, 3, 2, 1]),
}
IMAGE = {"r": (np.rot90, [1, 2, 3, 0]), "s": (np.flipud, [0, 3, 2, 1])}

CASES = [
    *(
        Case(f"square-{dtype.__name__}", vector(-np.inf, np.inf, 4, dtype), SQUARE, 8)
        for dtype in (np.float16, np.float32, np.float64)
    ),
    *(
        Case(f"square-{dtype.__name__}", vector(-100, 100, 4, dtype), SQUARE, 8)
        for dtype in (np.int8, np.int16, np.int32, np.int64)
    ),
    *(
        Case(
            f"reflected-{dtype.__name__}",
            vector(0, 9, 5, dtype),
            {"turn": (lambda x: np.roll(x, 1), [0, 1]), "flip": (lambda x: 9 - x, [1, 0])},
            10,
        )
        for dtype in (np.uint8, np.uint16, np.uint32, np.uint64)
    ),
    Case(
        "offset-float32",
        vector(-5, 5, 2, np.float32),
        {"swap": (lambda x: np.array([3 - x[1], 3 - x[0]]), [1, 0])},
        2,
    ),
    Case("scalar", spaces.Box(-1, 1, (), np.float32), {"minus": (np.negative, [1, 0])}, 2),
    *(
        Case(f"hexagon-{dtype.__name__}", vector(-np.inf, np.inf, 2, dtype), HEXAGON, 12)
        for dtype in (np.float16, np.float32, np.float64)
    ),
    *(
        Case(
            f"triangle-about-a-point-{dtype.__name__}",
            vector(-5, 5, 2, dtype),
            {"r": (about([1.5, -0.25], rotation(120)), [1, 2, 0])},
            3,
        )
        for dtype in (np.float32, np.float64)
    ),
    *(
        Case(
            f"hexagonal-board-{dtype.__name__}",
            vector(-9, 9, 2, dtype),
            {
                "r": (hexagon_turn, [1, 2, 3, 4, 5, 0]),
                "s": (hexagon_mirror, [1, 0, 5, 4, 3, 2]),
            },
            12,
        )
        for dtype in (np.int8, np.int32, np.int64)
    ),
    Case(
        "bool",
        vector(0, 1, 4, np.bool_),
        {"turn": (lambda x: np.roll(x, 1), [0, 1]), "not": (lambda x: ~x, [1, 0])},
        8,
    ),
    Case("image", spaces.Box(0, 255, (6, 6, 3), np.uint8), IMAGE, 8),
    Case(
        "image-inverted",
        spaces.Box(0, 255, (4, 5, 1), np.uint8),
        {"invert": (lambda x: 255 - x, [1, 0]), "flip": (np.fliplr, [0, 1])},
        4,
    ),
    Case(
        "discrete",
        spaces.Discrete(25),
        {"r": (grid_turn, [1, 2, 3, 0])},
        4,
    ),
    Case(
        "discrete-from-minus-three",
        spaces.Discrete(7, start=-3),
        {"minus": (lambda s: -s, [1, 0])},
        2,
    ),
    Case(
        "multibinary",
        spaces.MultiBinary(6),
        {"turn": (lambda x: np.roll(x, 2), [1, 2, 0]), "not": (lambda x: 1 - x, [0, 1, 2])},
        6,
    ),
    Case("multibinary-2d", spaces.MultiBinary([3, 3]), IMAGE, 8),
    Case(
        "multidiscrete",  # row, column and heading on a 5 × 5 board, and a clock that stays
        spaces.MultiDiscrete([5, 5, 4, 7], start=[1, 1, 0, -2]),
        {"r": (lambda x: np.array([6 - x[1], x[0], (x[2] + 1) % 4, x[3]]), [1, 2, 3, 0])},
        4,
    ),
    Case(
        "multidiscrete-2d",
        spaces.MultiDiscrete([[2, 3], [2, 3]]),
        {"swap": (lambda x: x[::-1], [1, 0])},
        2,
    ),
    Case(
        "dict",
        spaces.Dict(
            camera=spaces.Box(0, 255, (4, 4, 2), np.uint8),
            heading=spaces.Discrete(4),
            left=vector(-1, 1, 3, np.float32),
            right=vector(-1, 1, 3, np.float32),
            walls=spaces.MultiBinary(4),
        ),
        {"r": (quarter_turn_of_scene, [1, 2, 3, 0])},
        4,
    ),
    Case(
        "dict-of-maps",
        spaces.Dict(
            goal=vector(-1, 1, 2, np.float32),
            step=spaces.Discrete(3),
            place=vector(-1, 1, 2, np.float64),
        ),
        {
            "r": ({"goal": rotation(90), "step": [1, 2, 0], "place": None}, [0, 1, 2, 3]),
            "s": ({"goal": [1, -1], "step": None, "place": [1, 0]}, [0, 1, 3, 2]),
        },
        24,  # D4 on the goal, times three steps
    ),
    Case("permutation", vector(-1, 1, 3, np.float32), {"r": ([1, 2, 0], [0, 1])}, 3),
    Case("signs", vector(-1, 1, 3, np.float32), {"s": ([-1, 1, -1], [1, 0])}, 2),
    Case("matrix", vector(-9, 9, 2, np.float32), {"r": (rotation(72), [1, 2, 3, 4, 0])}, 5),
    Case("nothing-moves", vector(-1, 1, 3, np.float32), {"stay": (None, [0, 1])}, 1),
]

RARE = [f"square-int{bits}" for bits in (16, 32)] + [f"reflected-uint{bits}" for bits in (16, 32)]
RARE += ["hexagon-float16", "triangle-about-a-point-float64", "hexagonal-board-int8"]
RARE += ["hexagonal-board-int32"]
"""Only with ``-m slow``: others have their maps, and others their dtypes."""


def parameters(cases: Iterable[Case]) -> list[Any]:
    """The cases by their names, rare ones marked slow."""
    return [
        pytest.param(case, id=case.name, marks=pytest.mark.slow if case.name in RARE else ())
        for case in cases
    ]


every_case = pytest.mark.parametrize("case", parameters(CASES))


def of_leaves(function: Callable[..., Any], *points: Any) -> Any:
    """The function on every array of points that may be dicts."""
    if isinstance(points[0], dict):
        return {key: function(*(point[key] for point in points)) for key in points[0]}
    return function(*points)


def sample(space: spaces.Space[Any], count: int, seed: int = 0) -> Any:
    space.seed(seed)
    return of_leaves(lambda *rows: np.stack(rows), *(space.sample() for _ in range(count)))


def row(batch: Any, k: int) -> Any:
    return of_leaves(lambda part: part[k], batch)


def tensors(points: Any, device: str = "cpu") -> Any:
    return of_leaves(lambda part: torch.from_numpy(np.array(part)).to(device), points)


def assert_same(actual: Any, expected: Any, exact: bool = False) -> None:
    """Equal, up to the rounding of their dtype for floats; same dtype and library."""
    if isinstance(expected, dict):
        assert list(actual) == list(expected)
        for key in expected:
            assert_same(actual[key], expected[key], exact)
        return
    assert isinstance(actual, torch.Tensor) == isinstance(expected, torch.Tensor)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    actual, expected = (
        np.asarray(x.cpu() if isinstance(x, torch.Tensor) else x) for x in (actual, expected)
    )
    if exact or not np.issubdtype(expected.dtype, np.floating):
        assert np.array_equal(actual, expected)
    else:
        rounding = 8 * np.finfo(expected.dtype).eps
        assert np.allclose(
            actual.astype(float),
            expected.astype(float),
            rtol=0,
            atol=rounding * (1 + np.abs(expected).max()),
        )


PAIR = spaces.Dict(a=vector(-1, 1, 2, np.float32), b=vector(-1, 1, 2, np.float32))
FLOATS = vector(-1, 1, 3, np.float32)
