"""Any map that can be compiled is, exactly; what would wrap integers round is refused."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from equirl import Symmetry
from equirl.actions.affines import Affines
from equirl.actions.lookups import Lookups
from equirl.actions.signed_permutations import SignedPermutations
from equirl.declaring.generated_actions import close_actions, compile_action
from equirl.errors import SymmetryError
from equirl.groups import cyclic
from shared.symmetry_cases import (
    assert_same,
    hexagon_turn,
    property_based,
    rotation,
    sample,
    vector,
)

# Of four entries there are 2⁴ · 4! = 384, so that any two of them close.
signed_permutations = st.integers(1, 4).flatmap(
    lambda n: st.lists(
        st.tuples(
            st.permutations(range(n)), st.lists(st.sampled_from([-1, 1]), min_size=n, max_size=n)
        ),
        min_size=1,
        max_size=2,
    )
)


@given(
    signed_permutations,
    st.sampled_from([np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64]),
)
@property_based
def test_any_signed_permutations_compile_to_themselves_exactly(generators, dtype):
    n = len(generators[0][0])
    maps = {
        f"g{k}": lambda x, p=p, s=s: x[p] * np.array(s, dtype=x.dtype)
        for k, (p, s) in enumerate(generators)
    }
    closure, action = close_actions(vector(-50, 50, n, dtype), maps)
    assert isinstance(action.maps[0], SignedPermutations)
    x = sample(vector(-50, 50, n, dtype), 4)
    for name, function in maps.items():
        expected = np.stack([function(point) for point in x])
        assert_same(action.transform(closure.generators[name], x), expected, exact=True)


@given(
    st.integers(2, 8),
    st.integers(1, 3),
    st.integers(0, 2**32 - 1),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from([np.float32, np.float64]),
)
@property_based
def test_any_affine_map_of_finite_order_closes_at_that_order(k, blocks, seed, dtype, typed):
    """Rotations by 1/k of a turn in other coordinates, about another point, typed in ``typed``."""
    rng, n = np.random.default_rng(seed), 2 * blocks
    orthogonal = [np.linalg.qr(rng.normal(size=(n, n)))[0] for _ in range(2)]
    basis = orthogonal[0] @ np.diag(rng.uniform(0.5, 2, n)) @ orthogonal[1]
    matrix = basis @ np.kron(np.eye(blocks), rotation(360 / k)) @ np.linalg.inv(basis)
    centre = rng.normal(size=n)
    offset = centre - matrix @ centre
    matrix, offset = matrix.astype(typed), offset.astype(typed)
    space = vector(-np.inf, np.inf, n, dtype)
    symmetry = Symmetry.from_generators(
        space, spaces.Discrete(k), {"r": (lambda x: matrix @ x + offset, np.roll(np.arange(k), -1))}
    )
    assert symmetry.group == cyclic(k)
    x = sample(space, 4)
    coarse = max(np.finfo(dtype).eps, np.finfo(typed).eps)
    expected = x.astype(float) @ matrix.T.astype(float) + offset
    error = np.abs(symmetry.transform_observation("r", x) - expected)
    assert error.max() <= 400 * coarse * (1 + np.abs(x).max())
    turned = x.astype(np.float64)
    for _ in range(k):
        turned = symmetry.transform_observation("r", turned)
    assert np.allclose(turned, x, rtol=1e-12, atol=1e-12)  # exact, however coarsely it was typed


@given(st.data())
@property_based
def test_any_permutation_of_finite_values_compiles_to_itself(data):
    n = data.draw(st.integers(1, 6))
    counts = data.draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    start = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n)))
    source, renamed = np.arange(n), [[]] * n
    for count in set(counts):
        alike = [i for i in range(n) if counts[i] == count]
        source[alike] = data.draw(st.permutations(alike))
    renamed = [np.array(data.draw(st.permutations(range(count)))) for count in counts]

    def function(x: np.ndarray) -> np.ndarray:
        offsets = (x - start)[source]
        return start + np.array([renamed[i][offsets[i]] for i in range(n)])

    space = spaces.MultiDiscrete(counts, start=start)
    closure, action = close_actions(space, {"g": function})
    assert isinstance(action.maps[0], Lookups)
    x = sample(space, 6)
    expected = np.stack([function(point) for point in x])
    assert_same(action.transform(closure.generators["g"], x), expected, exact=True)
    back = action.transform(int(action.group.inverses[closure.generators["g"]]), expected)
    assert_same(back, x, exact=True)


@given(st.integers(1, 5).flatmap(lambda k: st.permutations(range(k + 1))), st.integers(2, 3))
@property_based
def test_any_exchange_of_dict_keys_is_found(order, values):
    keys = [f"key{k}" for k in range(len(order))]
    space = spaces.Dict({key: spaces.Discrete(values) for key in keys})

    def function(scene: dict[str, Any]) -> dict[str, Any]:
        return {key: scene[keys[order[k]]] for k, key in enumerate(keys)}

    closure, action = close_actions(space, {"g": function})
    scene = sample(space, 9)
    assert_same(action.transform(closure.generators["g"], scene), function(scene), exact=True)


def test_rotations_of_an_integer_board_stay_exact_at_every_cell():
    board = spaces.Box(-9, 9, (2,), np.int64)
    symmetry = Symmetry.from_generators(
        board, spaces.Discrete(6), {"r": (hexagon_turn, [1, 2, 3, 4, 5, 0])}
    )
    cells = np.array([(q, r) for q in range(-9, 10) for r in range(-9, 10)])
    assert isinstance(symmetry.observations.maps[0], Affines)
    assert np.array_equal(
        symmetry.transform_observation("r", cells), np.array([*map(hexagon_turn, cells)])
    )
    assert np.array_equal(symmetry.transform_observation("r³", cells), -cells)


def test_a_generator_typed_in_single_precision_becomes_an_exact_rotation():
    matrix = rotation(60).astype(np.float32)
    symmetry = Symmetry.from_generators(
        vector(-1, 1, 2, np.float64), spaces.Discrete(6), {"r": (matrix, [1, 2, 3, 4, 5, 0])}
    )
    x = np.array([0.3, -0.7])
    assert np.abs(symmetry.transform_observation("r", x) - rotation(60) @ x).max() < 1e-7
    for _ in range(6):
        x = symmetry.transform_observation("r", x)
    assert np.abs(x - [0.3, -0.7]).max() < 1e-15


@pytest.mark.parametrize(
    ("space", "function", "message"),
    [
        pytest.param(
            vector(0, 9, 3, np.uint8),
            lambda x: -x,
            "'r' lets flat entry 0 range over -9 … 0, which uint8 cannot hold",
            id="unsigned",
        ),
        pytest.param(
            vector(-128, 127, 3, np.int8),
            lambda x: -x,
            "range over -127 … 128, which int8 cannot hold",
            id="-128",
        ),
        pytest.param(
            vector(-100, 100, 2, np.int8),
            lambda x: np.array([x[0], -x[0] - x[1]], x.dtype),
            "'r' lets flat entry 1 range over -200 … 200, which int8 cannot hold",
            id="affine",
        ),
        pytest.param(
            spaces.Dict(
                {"image": vector(0, 9, 3, np.uint8), "speed": vector(-1, 1, 2, np.float32)}
            ),
            lambda x: {key: -part for key, part in x.items()},
            "range over -9 … 0, which uint8 cannot hold",
            id="one of several keys",
        ),
    ],
)
def test_maps_of_all_elements_are_refused_where_integers_would_wrap(space, function, message):
    with pytest.raises(SymmetryError, match=message):
        compile_action(cyclic(2), space, {"e": None, "r": function})


@pytest.mark.parametrize(
    "space",
    [
        pytest.param(vector(-2, 1, 3, np.int8), id="bounds not symmetric"),
        pytest.param(vector(-np.inf, np.inf, 3, np.int32), id="unbounded"),
        pytest.param(vector(-127, 127, 3, np.int8), id="all that fits"),
    ],
)
def test_maps_of_all_elements_may_leave_bounds_where_integers_do_not_wrap(space):
    action = compile_action(cyclic(2), space, {"e": None, "r": np.negative})
    x = np.array([[-2, 0, 1], [1, -1, -2]], space.dtype)
    assert_same(action.transform("r", x), -x, exact=True)
