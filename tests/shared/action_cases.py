"""Symmetries of actions in every kind of space, and what each generator does to one action."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from equirl import Symmetry
from shared.symmetry_cases import rotation

TURN = rotation(60)


@dataclass(frozen=True)
class ActionCase:
    """A generator of order 6, which turns the observations, and its map of one action."""

    name: str
    space: spaces.Space[Any]
    declared: Any
    function: Callable[[Any], Any]

    @cached_property
    def symmetry(self) -> Symmetry:
        plane = spaces.Box(-9, 9, (2,), np.float32)
        return Symmetry.from_generators(plane, self.space, {"r": (TURN, self.declared)})


def _function(name: str, space: spaces.Space[Any], function: Callable[[Any], Any]) -> ActionCase:
    return ActionCase(name, space, function, function)


UNIT = spaces.Box(0, 1, (3,), np.float64)
ACTION_CASES = [
    ActionCase("discrete", spaces.Discrete(3), [1, 2, 0], lambda a: (a + 1) % 3),
    ActionCase(
        "discrete-int32",
        spaces.Discrete(3, start=-5, dtype=np.int32),
        [-4, -5, -3],
        lambda a: {-5: -4, -4: -5, -3: -3}[int(a)],
    ),
    ActionCase("signs", spaces.Box(-2, 2, (3,)), [-1, 1, -1], lambda a: a * [-1, 1, -1]),
    ActionCase("one-sign", spaces.Box(-2, 2, (1,)), [-1], np.negative),
    ActionCase("permutation", spaces.Box(-1, 1, (3,)), [1, 2, 0], lambda a: a[[1, 2, 0]]),
    ActionCase("matrix", spaces.Box(-1, 1, (2,)), [[0, -1], [-1, 0]], lambda a: -a[::-1]),
    ActionCase("none", spaces.Box(-1, 1, (2,)), None, lambda a: a),
    _function("scalar", spaces.Box(-1, 1, ()), lambda a: -a),
    _function("matrices", spaces.Box(-1, 1, (2, 2)), lambda a: a[::-1]),
    _function("unbounded", spaces.Box(-np.inf, np.inf, (2,)), lambda a: -a[::-1]),
    _function("off-centre", UNIT, lambda a: 1 - a[[1, 0, 2]]),
    _function(
        "bounds-exchanged",
        spaces.Box(np.float32([-1, -3]), np.float32([3, 1])),
        lambda a: -a[::-1],
    ),
    _function("bytes", spaces.Box(0, 255, (2,), np.uint8), lambda a: 255 - a),
    _function(
        "multi-discrete",
        spaces.MultiDiscrete([3, 2, 3], np.int32, start=[1, 0, 4]),
        lambda a: np.array([a[2] - 3, 1 - a[1], a[0] + 3]),
    ),
    ActionCase("entries", spaces.MultiDiscrete([3, 3]), [1, 0], lambda a: a[::-1]),
    _function("multi-binary", spaces.MultiBinary(4), lambda a: 1 - a[[1, 0, 3, 2]]),
    ActionCase("bits", spaces.MultiBinary(3), [2, 0, 1], lambda a: a[[2, 0, 1]]),
]

every_action_case = pytest.mark.parametrize("case", ACTION_CASES, ids=lambda case: case.name)
