"""A symmetry's field types move as the symmetry does, and escnn's layers between them with it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from equirl import Symmetry
from equirl.errors import ConfigError, SymmetryError
from equirl.integrations.escnn import field_types

TURN = np.array([[-0.5, -(0.75**0.5)], [0.75**0.5, -0.5]])


def boxes(observations: int, actions: int) -> tuple[spaces.Box, spaces.Box]:
    return spaces.Box(-9, 9, (observations,)), spaces.Box(-1, 1, (actions,))


LEGS = Symmetry.from_generators(*boxes(4, 2), {"legs": ([2, 3, 0, 1], [1, 0])})
SYMMETRIES = {
    "trivial": Symmetry.trivial(*boxes(3, 2)),
    "mirror": Symmetry.from_generators(*boxes(3, 1), {"mirror": ([1, -1, -1], [-1])}),
    "legs": LEGS,
    "thirds of matrices, renamed actions": Symmetry.from_generators(
        spaces.Box(-9, 9, (2,)), spaces.Discrete(4), {"turn": (TURN, [1, 2, 0, 3])}
    ),
    "quarter turns and mirror of a point mass": Symmetry.from_generators(
        *boxes(5, 2),
        {"s": ([2, 3, 0, 1, 4], [1, 0]), "m": ([-1, -1, 1, 1, 1], [-1, 1])},
    ),
    "three mirrors": Symmetry.from_generators(
        *boxes(3, 3),
        {
            "x": ([-1, 1, 1], [-1, 1, 1]),
            "y": ([1, -1, 1], [1, -1, 1]),
            "z": ([1, 1, -1], [1, 1, -1]),
        },
    ),
    "a ring of six": Symmetry.from_generators(
        *boxes(7, 6), {"r": ([1, 2, 3, 4, 5, 0, 6], [1, 2, 3, 4, 5, 0])}
    ),
    "a ring of three with a switch": Symmetry.from_generators(
        spaces.Box(-9, 9, (4,)),
        spaces.MultiBinary(3),
        {
            "r": ([1, 2, 0, 3], lambda a: a[[1, 2, 0]]),
            "s": ([1, 0, 2, 3], lambda a: a[[1, 0, 2]]),
            "switch": ([1, 1, 1, -1], lambda a: 1 - a),
        },
    ),
}


@pytest.fixture(params=SYMMETRIES)
def symmetry(request: pytest.FixtureRequest) -> Symmetry:
    found: Symmetry = SYMMETRIES[request.param]
    return found


@pytest.fixture
def nn() -> ModuleType:
    module: ModuleType = pytest.importorskip(
        "escnn.nn", reason="needs equirl[escnn]", exc_type=ImportError
    )
    return module


def outputs(symmetry: Symmetry) -> Any:
    continuous = isinstance(symmetry.action_space, spaces.Box)
    return symmetry.action_means if continuous else symmetry.action_logits


def test_every_element_is_represented_by_the_matrix_that_moves(
    nn: ModuleType, symmetry: Symmetry
) -> None:
    types = field_types(symmetry)
    for field_type, action in [
        (types.observations, symmetry.observations),
        (types.actions, outputs(symmetry)),
    ]:
        for g, element in enumerate(types.elements):
            ours = action.transform(g, np.eye(field_type.size)).T
            np.testing.assert_allclose(field_type.representation(element), ours, atol=1e-12)


def test_products_of_elements_are_those_of_the_group(nn: ModuleType, symmetry: Symmetry) -> None:
    types = field_types(symmetry)
    for g, element in enumerate(types.elements):
        for h, other in enumerate(types.elements):
            assert element @ other == types.elements[symmetry.group.product(g, h)]


def test_a_linear_layer_between_the_field_types_is_equivariant(
    nn: ModuleType, symmetry: Symmetry
) -> None:
    types = field_types(symmetry)
    layer = nn.Linear(types.observations, types.actions).double()
    torch.nn.init.normal_(layer.weights)
    x = torch.randn(5, types.observations.size, dtype=torch.float64)

    def through(x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = layer(types.observations(x)).tensor
        return y

    assert through(x).abs().max() > 0.01
    for g in range(symmetry.group.order):
        expected = outputs(symmetry).transform(g, through(x))
        moved = through(symmetry.observations.transform(g, x))
        torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


def test_two_symmetries_of_one_group_are_not_confused(nn: ModuleType) -> None:
    types, others = field_types(LEGS), field_types(SYMMETRIES["mirror"])
    assert types.observations == field_types(LEGS).observations
    assert types.observations != others.observations
    assert types.actions != types.observations


@pytest.mark.parametrize(
    ("symmetry", "said"),
    [
        (
            Symmetry.from_generators(*boxes(2, 1), {"m": (lambda x: 3 - x, [-1])}),
            "'m' adds 3 to entry 0 of the observations",
        ),
        (
            Symmetry.from_generators(
                spaces.Box(-9, 9, (1,)), spaces.Box(0, 2, (2,)), {"m": ([-1], lambda a: 2 - a)}
            ),
            "'m' adds 2 to entry 0 of the actions",
        ),
        (
            Symmetry.from_generators(*boxes(2, 1), {"m": (np.array([[1, 1], [0, -1]]), [-1])}),
            "that of 'm' on the observations is not",
        ),
        (
            Symmetry.from_generators(
                spaces.MultiDiscrete([3, 3]), spaces.Discrete(2), {"m": ([1, 0], [1, 0])}
            ),
            "a table",
        ),
        (
            Symmetry.from_generators(
                spaces.Dict(x=spaces.Box(-1, 1, (1,))), spaces.Discrete(2), {"m": (None, [0, 1])}
            ),
            "are a Dict",
        ),
        (
            Symmetry.from_generators(
                spaces.Box(-1, 1, (3, 3)), spaces.Discrete(2), {"m": (np.fliplr, [1, 0])}
            ),
            "of shape (3, 3)",
        ),
        (
            Symmetry.from_generators(
                *boxes(4, 1), {"r": ([1, 2, 3, 0], None), "s": ([1, 0, 2, 3], None)}
            ),
            "24 elements",
        ),
    ],
)
def test_what_escnn_cannot_say_is_refused_by_name(symmetry: Symmetry, said: str) -> None:
    with pytest.raises(SymmetryError) as error:
        field_types(symmetry)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_without_escnn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "escnn", None)
    with pytest.raises(ConfigError, match=r"equirl\[escnn\]"):
        field_types(LEGS)
