"""What is no symmetry is refused with the reason."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from equirl import Symmetry
from equirl.errors import EquirlWarning, SymmetryError
from shared.symmetry_cases import FLOATS, PAIR, hexagon_turn, rotation, vector


def _fails(_: Any) -> Any:
    raise KeyError("speed")


@pytest.mark.parametrize(
    ("space", "function", "message"),
    [
        pytest.param(
            FLOATS,
            lambda x: np.array([x[0], x[1], x[2] ** 3]),
            r"'g' is not affine: entry \[2\] becomes",
            id="cubic",
        ),
        pytest.param(FLOATS, np.tanh, r"is not affine: entry \[0\]", id="tanh"),
        pytest.param(
            vector(-np.inf, np.inf, 3, np.float32),
            lambda x: np.clip(-x, -1000, 1000),
            "is not affine",
            id="clipped far off",
        ),
        pytest.param(
            FLOATS, lambda x: -x if abs(x[1]) > 0.5 else x, "is not affine", id="piecewise"
        ),
        pytest.param(
            spaces.Box(-1, 1, (2, 2), np.float32),
            lambda x: np.sort(x, axis=0),
            r"not affine: entry \[\d, \d\]",
            id="sorted",
        ),
        pytest.param(vector(-9, 9, 3, np.int8), np.abs, "is not affine", id="absolute int8"),
        pytest.param(vector(-9, 9, 3, np.int64), np.abs, "is not affine", id="absolute int64"),
        pytest.param(vector(0, 9, 3, np.uint8), lambda x: x // 2 * 2, "is not affine", id="even"),
        pytest.param(
            vector(-1, 1, 3000, np.float32),
            lambda x: x - 2 * x.mean(),
            "not a signed permutation of its 3000 entries, .* up to 2048",
            id="dense",
        ),
        pytest.param(FLOATS, lambda x: 2 * x, "multiplies volumes by 8", id="scaled"),
        pytest.param(FLOATS, lambda x: x * [1, 0, 1], "multiplies volumes by 0", id="projected"),
        pytest.param(FLOATS, np.zeros_like, "multiplies volumes by 0", id="constant"),
        pytest.param(
            FLOATS,
            lambda x: x + 1,
            "the generators g do not close within 1024 elements: "
            "one of them is not of finite order",
            id="translation",
        ),
        pytest.param(FLOATS, lambda x: x * [3, 1 / 3, 1], "not of finite order", id="squeezed"),
        pytest.param(vector(-1, 1, 2, np.float32), rotation(1), None, id="360 steps are fine"),
        pytest.param(
            vector(-1, 1, 2, np.float32), rotation(np.sqrt(2)), "do not close", id="irrational"
        ),
        pytest.param(FLOATS, lambda x: x[:2], r"shape \(3,\) into shape \(2,\)", id="shortened"),
        pytest.param(FLOATS, lambda x: None, "must keep the shape", id="nothing returned"),
        pytest.param(FLOATS, lambda x: [[1], [1, 2]], "returns no array", id="ragged"),
        pytest.param(FLOATS, lambda x: x.astype(str), "returns <U.+, not real numbers", id="text"),
        pytest.param(
            FLOATS, lambda x: 1j * x, "returns complex128, not real numbers", id="complex"
        ),
        pytest.param(FLOATS, lambda x: x / 0, "values that are not finite", id="infinite"),
        pytest.param(
            FLOATS, _fails, r"'g' failed on one observation: KeyError: 'speed'", id="raises"
        ),
        pytest.param(
            vector(0, 9, 3, np.uint8), lambda x: x / 2, "returns fractions for uint8", id="half"
        ),
        pytest.param(
            vector(0, 9, 3, np.uint8),
            lambda x: 10 - x,
            "leaves the space: flat entry 0 would range over 1 … 10, the space has 0 … 9",
            id="beyond the box",
        ),
        pytest.param(
            spaces.Box(-128, 127, (3,), np.int8), np.negative, "leaves the space", id="-128"
        ),
        pytest.param(
            spaces.Box(np.array([0, 0]), np.array([4, 9]), dtype=np.int64),
            lambda x: x[::-1],
            "flat entry 0 would range over 0 … 9",
            id="unequal sides",
        ),
        pytest.param(
            vector(0, 9, 2, np.uint8),
            hexagon_turn,
            "'g' lets flat entry 0 range over -9 … 0, which uint8 cannot hold",
            id="unsigned",
        ),
        pytest.param(
            vector(-100, 100, 2, np.int8),
            hexagon_turn,
            "range over -200 … 200, which int8 cannot hold",
            id="overflow",
        ),
        pytest.param(
            spaces.Discrete(3),
            lambda s: s + 1,
            "leaves the space: entry .* becomes 3",
            id="off the end",
        ),
        pytest.param(
            spaces.Discrete(3),
            lambda s: 0,
            "not invertible: entry .* does not decide any entry",
            id="all to one",
        ),
        pytest.param(
            spaces.Discrete(4),
            lambda s: s // 2 if s else 1,
            "not (invertible|a permutation of the values)",
            id="two to one",
        ),
        pytest.param(
            spaces.MultiDiscrete([3, 3]),
            lambda x: np.array([x[0], x[0]]),
            r"not invertible: entry \[1\]",
            id="copied",
        ),
        pytest.param(
            spaces.MultiDiscrete([3, 3]),
            lambda x: np.array([x[0], (x[0] + x[1]) % 3]),
            r"'g' (is not|lets entry)",
            id="mixed",
        ),
        pytest.param(
            spaces.MultiDiscrete([4, 4]),
            lambda x: np.array([x[0], x[1] if x[0] % 3 == 0 else [3, 1, 2, 0][x[1]]]),
            r"entry \[1\] depend on several entries",
            id="conditional",
        ),
        pytest.param(
            spaces.MultiDiscrete([2, 3]), lambda x: x[::-1], "leaves the space", id="2 and 3"
        ),
        pytest.param(
            spaces.MultiDiscrete([3, 2]),
            lambda x: np.array([x[0] * 0 + x[1], x[0] // 2]),
            "'g' (is not|leaves)",
            id="3 to 2",
        ),
        pytest.param(
            spaces.Dict(a=FLOATS, b=spaces.Discrete(3)),
            lambda o: {"a": o["a"] * (o["b"] + 1), "b": o["b"]},
            r"lets observation\['a'\] \(float32\) depend on observation\['b'\] \(finite\)",
            id="kinds exchanged",
        ),
        pytest.param(
            PAIR,
            lambda o: {"a": o["a"]},
            r"the observation lacks \['b'\], it has \['a'\]",
            id="key dropped",
        ),
        pytest.param(
            PAIR, lambda o: o["a"], "expected a dict observation, got ndarray", id="no dict"
        ),
        pytest.param(
            PAIR,
            {"a": None},
            r"given for keys \['a'\], the observation has \['a', 'b'\]",
            id="key missing",
        ),
        pytest.param(
            PAIR, [1, 0], "of a Dict space must be a function, or a dict", id="array for dict"
        ),
        pytest.param(
            FLOATS,
            [1, 2, 3],
            r"has shape \(3,\): .*permutation of 0 … 2, 3 signs, a matrix",
            id="no permutation",
        ),
        pytest.param(FLOATS, np.eye(2), r"has shape \(2, 2\)", id="small matrix"),
        pytest.param(
            spaces.Discrete(3, start=1),
            [0, 1, 2],
            r"expected a permutation of 1 … 3, got \[0, 1, 2\]",
            id="no start",
        ),
    ],
)
def test_a_map_that_is_no_symmetry_is_refused_with_the_reason(space, function, message):
    arguments = space, spaces.Discrete(2), {"g": (function, [0, 1])}
    if message is None:
        with pytest.warns(EquirlWarning, match="360"):
            assert Symmetry.from_generators(*arguments).group.order == 360
        return
    with pytest.raises(SymmetryError, match=message) as caught:
        Symmetry.from_generators(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            spaces.Tuple([FLOATS]),
            "the observation space is a Tuple: symmetries act on Box, Discrete",
        ),
        (spaces.Text(3), "the observation space is a Text"),
        (spaces.Dict(a=spaces.Dict(b=FLOATS)), "'a'.* is a Dict inside a Dict: flatten it first"),
        (spaces.Dict(a=spaces.Text(3)), r"observation\['a'\] is a Text"),
    ],
)
def test_a_space_that_dqn_cannot_take_is_refused(space, message):
    with pytest.raises(SymmetryError, match=message):
        Symmetry.from_generators(space, spaces.Discrete(2), {"g": (None, [0, 1])})


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Dict(a=FLOATS), "left", None])
def test_actions_must_be_one_array(space):
    with pytest.raises(SymmetryError, match="action space must be Discrete, Box, Multi"):
        Symmetry.from_generators(FLOATS, space, {"g": (np.negative, [1, 0])})
    with pytest.raises(SymmetryError, match="action space must be Discrete, Box, Multi"):
        Symmetry.trivial(FLOATS, space)


@pytest.mark.parametrize(
    ("permutation", "message"),
    [
        ([1, 0], r"generator 'g': .* must list all 3 actions once, got \[1, 0\]"),
        ([[0, 1, 2]], "must list all 3 actions once"),
        ([0, 0, 1], r"generator 'g': \[0, 0, 1\] is not a permutation of 0 … 2"),
        ([1, 2, 3], r"\[1, 2, 3\] is not a permutation of 0 … 2"),
        ([1.0, 0.0, 2.0], "is not a permutation of 0 … 2"),
        (
            [1, 2, 0],
            r"not a homomorphism: g² moves observations as e does, but actions as \[2, 0, 1\] "
            r"and not \[0, 1, 2\]; mend the action permutation of 'g'",
        ),
    ],
)
def test_an_action_permutation_that_does_not_fit_is_refused(permutation, message):
    with pytest.raises(SymmetryError, match=message):
        Symmetry.from_generators(FLOATS, spaces.Discrete(3), {"g": (np.negative, permutation)})


def test_generators_that_move_observations_alike_must_move_actions_alike():
    alike = {"a": (np.negative, [1, 0, 2]), "b": (np.negative, [0, 2, 1])}
    with pytest.raises(SymmetryError, match="mend the action permutation of 'b'"):
        Symmetry.from_generators(FLOATS, spaces.Discrete(3), alike)


def test_actions_that_commute_where_observations_do_not_are_refused():
    turned = {"r": (lambda x: np.roll(x, 1), [1, 2, 0]), "s": (lambda x: x[::-1], [0, 1, 2])}
    with pytest.raises(SymmetryError, match="not a homomorphism"):
        Symmetry.from_generators(FLOATS, spaces.Discrete(3), turned)


@pytest.mark.parametrize(
    ("generators", "message"),
    [
        ({"g": np.negative}, r"'g' must be a pair \(observation map, action permutation\)"),
        ({"g": (np.negative, [1, 0], 3)}, "must be a pair"),
        ({"e": (np.negative, [1, 0])}, "two elements would be called 'e'"),
    ],
)
def test_a_malformed_generator_is_refused(generators, message):
    with pytest.raises(SymmetryError, match=message):
        Symmetry.from_generators(FLOATS, spaces.Discrete(2), generators)


def test_a_ragged_permutation_is_refused():
    with pytest.raises(SymmetryError, match="is not a permutation of 0 … 2"):
        Symmetry.from_generators(
            spaces.Box(-1, 1, (2,)), spaces.Discrete(3), {"g": (np.negative, [[1], 0, 2])}
        )


def test_an_action_map_of_another_length_is_called_one():
    actions = spaces.Box(-1, 1, (2,))
    with pytest.raises(SymmetryError, match=r"action map 'g' .*for the action of 2 entries give"):
        Symmetry.from_generators(FLOATS, actions, {"g": ([-1, 1, 1], [1, 1, 1])})
