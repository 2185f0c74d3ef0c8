"""Symmetries compiled from functions: they do what the functions do, on every space."""

import copy
import itertools
import pickle
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from equirl import GroupAction, Symmetry
from equirl.affines import Affines
from equirl.errors import SymmetryError
from equirl.generated_actions import close_actions, compile_action
from equirl.groups import cyclic, dihedral, symmetric
from equirl.lookups import Lookups
from equirl.signed_permutations import SignedPermutations

property_based = settings(deadline=None, max_examples=40)
gpu = pytest.mark.gpu
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


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

    @property
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

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


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


@every_case
def test_the_compiled_map_is_the_function(case):
    symmetry, batch = case.symmetry, sample(case.space, 12)
    assert symmetry.group.order == case.order
    for name, (function, permutation) in case.generators.items():
        if case.order == 1:
            name = "e"
        if callable(function):
            for k in range(12):
                point = row(batch, k)
                expected = of_leaves(
                    lambda moved, given: np.asarray(moved).astype(given.dtype)[()],
                    function(copy.deepcopy(point)),
                    point,
                )
                assert_same(symmetry.transform_observation(name, point), expected)
        actions = np.arange(len(permutation))
        assert symmetry.transform_action(name, actions).tolist() == permutation
        assert symmetry.transform_action(name, 0) == permutation[0]


@every_case
def test_the_maps_are_an_action_of_the_group(case):
    symmetry, batch = case.symmetry, sample(case.space, 6)
    group, move = symmetry.group, symmetry.transform_observation
    assert_same(move(0, batch), batch, exact=True)
    for g, h in itertools.product(range(group.order), repeat=2):
        assert_same(move(g, move(h, batch)), move(group.product(g, h), batch))
        actions = np.arange(symmetry.action_space.n)
        assert np.array_equal(
            symmetry.transform_action(g, symmetry.transform_action(h, actions)),
            symmetry.transform_action(group.product(g, h), actions),
        )
    for g in range(group.order):
        assert_same(move(group.inverse(g), move(g, batch)), batch)


@every_case
def test_one_observation_a_batch_and_an_element_per_row_agree_with_the_orbit(case):
    symmetry, batch = case.symmetry, sample(case.space, 5)
    order = symmetry.group.order
    for points, convert in ((batch, lambda x: x), (tensors(batch), tensors)):
        orbit = symmetry.orbit(points)
        for g, name in enumerate(symmetry.group.names):
            moved = symmetry.transform_observation(g, points)
            assert_same(row(orbit, g), moved)
            assert_same(symmetry.transform_observation(name, points), moved, exact=True)
            for k in range(5):
                one = row(points, k)
                assert_same(symmetry.transform_observation(g, one), row(moved, k))
                assert_same(row(symmetry.orbit(one), g), row(moved, k))
        elements = np.arange(5) * 3 % order
        for rows in (elements, elements.tolist(), torch.from_numpy(elements)):
            mixed = symmetry.transform_observation(rows, points)
            for k, g in enumerate(elements):
                assert_same(row(mixed, k), symmetry.transform_observation(int(g), row(points, k)))
        assert_same(mixed, convert(symmetry.transform_observation(elements, batch)))


@every_case
def test_tensors_stay_tensors_and_equal_the_arrays(case):
    symmetry, batch = case.symmetry, sample(case.space, 5)
    assert_same(symmetry.orbit(tensors(batch)), tensors(symmetry.orbit(batch)))
    for g in range(symmetry.group.order):
        assert_same(
            symmetry.transform_observation(g, tensors(batch)),
            tensors(symmetry.transform_observation(g, batch)),
        )
    actions = torch.arange(int(symmetry.action_space.n))
    assert isinstance(symmetry.transform_action(0, actions), torch.Tensor)


@every_case
def test_the_given_observation_is_not_changed(case):
    symmetry, batch = case.symmetry, sample(case.space, 3)
    before = copy.deepcopy(batch)
    symmetry.orbit(batch)
    symmetry.transform_observation(symmetry.group.order - 1, batch)
    assert_same(batch, before, exact=True)


@every_case
def test_pickles_and_copies_move_everything_alike(case):
    symmetry, batch = case.symmetry, sample(case.space, 3)
    for other in (pickle.loads(pickle.dumps(symmetry)), copy.deepcopy(symmetry), case.symmetry):
        assert other == symmetry
        assert hash(other) == hash(symmetry)
        assert_same(other.orbit(batch), symmetry.orbit(batch), exact=True)
        q = np.random.default_rng(0).normal(size=(symmetry.group.order, 2, symmetry.action_space.n))
        assert np.array_equal(other.pull_back(q), symmetry.pull_back(q))
    assert symmetry.carried_to(case.space) is symmetry
    assert symmetry.to("cpu") == symmetry


@every_case
def test_row_g_of_a_pull_back_is_q_at_the_moved_actions(case):
    symmetry = case.symmetry
    order, actions = symmetry.group.order, int(symmetry.action_space.n)
    q = np.random.default_rng(0).normal(size=(order, 3, actions)).astype(np.float32)
    for values in (q, torch.from_numpy(q)):
        pulled = symmetry.pull_back(values)
        for g, a in itertools.product(range(order), range(actions)):
            moved = symmetry.transform_action(g, a)
            assert_same(pulled[g, :, a], values[g, :, int(moved)], exact=True)
    moved = np.stack([symmetry.q_values.transform(g, q[0]) for g in range(order)])
    assert_same(symmetry.pull_back(moved), np.stack([q[0]] * order), exact=True)


@every_case
@gpu
@needs_cuda
def test_a_gpu_moves_observations_as_the_cpu_does(case):
    symmetry, batch = case.symmetry, sample(case.space, 5)
    on_gpu = tensors(batch, "cuda")
    orbit = symmetry.orbit(on_gpu)
    assert_same(orbit, tensors(symmetry.orbit(batch)))
    elements = torch.arange(5, device="cuda") % symmetry.group.order
    moved = symmetry.transform_observation(elements, on_gpu)
    assert_same(moved, tensors(symmetry.transform_observation(elements.cpu().numpy(), batch)))
    of_leaves(lambda part: part.is_cuda or pytest.fail("left the GPU"), moved)
    q = torch.randn(symmetry.group.order, 3, int(symmetry.action_space.n), device="cuda")
    assert_same(symmetry.pull_back(q), symmetry.pull_back(q.cpu()), exact=True)


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


def test_elements_are_named_by_words_in_the_generators():
    symmetry = next(case for case in CASES if case.name == "square-float32").symmetry
    assert symmetry.group == dihedral(4)
    assert "order 8" in repr(symmetry)


def test_cartpole_mirrored_negates_the_state_and_swaps_the_actions():
    symmetry = Symmetry.from_generators(
        vector(-1, 1, 4, np.float32), spaces.Discrete(2), {"mirror": (np.negative, [1, 0])}
    )
    state = np.array([0.1, -0.2, 0.3, -0.4], dtype=np.float32)
    assert np.array_equal(symmetry.transform_observation("mirror", state), -state)
    assert symmetry.transform_action("mirror", 0) == 1
    q = np.array([[[1.0, 2.0]], [[3.0, 4.0]]])
    assert symmetry.pull_back(q).tolist() == [[[1, 2]], [[4, 3]]]


def test_pull_back_uses_the_inverse_where_an_element_is_not_its_own():
    symmetry = Symmetry.from_generators(
        vector(-1, 1, 3, np.float32),
        spaces.Discrete(3),
        {"r": (lambda x: np.roll(x, 1), [1, 2, 0])},
    )
    q = np.array([[[0.0, 1.0, 2.0]]] * 3)  # (r⁻¹Q)(a) = Q(ra) = Q(a + 1)
    assert symmetry.pull_back(q)[:, 0].tolist() == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    assert symmetry.q_values.transform(1, q[0, 0]).tolist() == [2, 0, 1]


def test_the_trivial_symmetry_moves_nothing():
    for symmetry in (
        Symmetry.trivial(vector(-1, 1, 2, np.float32), spaces.Discrete(3)),
        Symmetry.from_generators(vector(-1, 1, 2, np.float32), spaces.Discrete(3), {}),
    ):
        assert symmetry.group.order == 1
        x = np.array([[1.0, 2.0]], dtype=np.float32)
        assert np.array_equal(symmetry.orbit(x), x[None])
        assert symmetry.pull_back(np.ones((1, 2, 3))).shape == (1, 2, 3)


def test_discrete_observations_from_a_replay_buffer_keep_their_column():
    symmetry = next(case for case in CASES if case.name == "discrete").symmetry
    column = np.array([[0], [7], [24]])
    assert symmetry.transform_observation("r", column).tolist() == [[4], [grid_turn(7)], [20]]
    assert symmetry.orbit(torch.from_numpy(column)).shape == (4, 3, 1)


def test_an_orbit_is_contiguous_batch_first():
    symmetry = next(case for case in CASES if case.name == "image").symmetry
    orbit = symmetry.orbit(torch.zeros(5, 6, 6, 3, dtype=torch.uint8))
    assert orbit.shape == (8, 5, 6, 6, 3)
    assert orbit.transpose(0, 1).is_contiguous()


def test_an_atari_image_costs_memory_in_proportion_to_its_pixels():
    space = spaces.Box(0, 255, (84, 84, 4), np.uint8)
    tracemalloc.start()
    symmetry = Symmetry.from_generators(space, spaces.Discrete(4), IMAGE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (maps,) = symmetry.observations.maps
    assert isinstance(maps, SignedPermutations)
    held = sum(a.nbytes for a in (maps.index, maps.sign, maps.offset) if a is not None)
    pixels = 84 * 84 * 4
    assert held <= 8 * symmetry.group.order * pixels
    assert peak < 50 * symmetry.group.order * pixels * 8  # a matrix would need 28,224 times as much
    image = sample(space, 2)
    assert np.array_equal(symmetry.transform_observation("r", image), np.rot90(image, axes=(1, 2)))


@pytest.mark.parametrize("name", ["image", "image-inverted", "dict"])
def test_a_transposed_image_moves_as_the_image_does(name):
    case = next(case for case in CASES if case.name == name)
    channels_first = _transposed_space(case.space)
    carried = case.symmetry.carried_to(channels_first)
    assert carried.observation_space == channels_first
    batch = sample(case.space, 4)
    assert_same(
        carried.orbit(_transposed(batch)), _transposed(case.symmetry.orbit(batch)), exact=True
    )
    for g in range(case.order):
        assert_same(
            carried.transform_observation(g, tensors(_transposed(batch))),
            tensors(_transposed(case.symmetry.transform_observation(g, batch))),
            exact=True,
        )
    assert np.array_equal(carried.permutations, case.symmetry.permutations)


def _transposed_space(space: spaces.Space[Any]) -> spaces.Space[Any]:
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _transposed_space(part) for key, part in space.spaces.items()})
    if len(space.shape) != 3:
        return space
    height, width, channels = space.shape
    return spaces.Box(0, 255, (channels, height, width), np.uint8)


def _transposed(points: Any) -> Any:
    return of_leaves(lambda x: np.moveaxis(x, -1, -3) if x.dtype == np.uint8 else x, points)


@pytest.mark.parametrize(
    ("declared", "seen"),
    [
        (spaces.Box(0, 255, (6, 6, 3), np.uint8), spaces.Box(0, 255, (6, 6, 12), np.uint8)),
        (spaces.Box(0, 255, (6, 6, 3), np.uint8), spaces.Box(0, 255, (12, 6, 6), np.uint8)),
        (spaces.Box(0, 255, (6, 5, 3), np.uint8), spaces.Box(0, 255, (3, 5, 6), np.uint8)),
        (spaces.Box(0, 255, (6, 6, 3), np.uint8), spaces.Box(0, 1, (6, 6, 3), np.float32)),
        (vector(-1, 1, 4, np.float32), vector(-1, 1, 8, np.float32)),
        (spaces.Discrete(3), spaces.Discrete(5)),
        (spaces.Discrete(3), spaces.Discrete(3, start=1)),
        (spaces.MultiDiscrete([2, 3]), spaces.MultiDiscrete([3, 2])),
        (spaces.Dict(a=spaces.Discrete(3)), spaces.Dict(b=spaces.Discrete(3))),
        (spaces.Dict(a=spaces.Discrete(3)), spaces.Discrete(3)),
        (
            spaces.Dict(a=spaces.Discrete(3)),
            spaces.Dict(a=spaces.Discrete(3), b=spaces.Discrete(3)),
        ),
    ],
)
def test_a_space_that_is_not_the_declared_one_is_refused(declared, seen):
    symmetry = Symmetry.trivial(declared, spaces.Discrete(2))
    with pytest.raises(SymmetryError, match="declare it for what comes out of the last wrapper"):
        symmetry.carried_to(seen)


PAIR = spaces.Dict(a=vector(-1, 1, 2, np.float32), b=vector(-1, 1, 2, np.float32))
FLOATS = vector(-1, 1, 3, np.float32)


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
            FLOATS, lambda x: np.clip(-x, -1000, 1000), "is not affine", id="clipped far off"
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
            r"not a permutation of the values of .* gives \[0, 0, 0\]",
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


@pytest.mark.parametrize(
    "space", [FLOATS, spaces.Discrete(2, start=1), spaces.MultiDiscrete([2, 2])]
)
def test_actions_must_be_discrete_from_zero(space):
    with pytest.raises(SymmetryError, match="action space must be Discrete from 0"):
        Symmetry.from_generators(FLOATS, space, {"g": (np.negative, [1, 0])})
    with pytest.raises(SymmetryError, match="action space must be Discrete from 0"):
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


@pytest.mark.parametrize(
    ("g", "x", "message"),
    [
        (2, np.zeros(3), r"elements are numbered 0 … 1, got 2"),
        (-1, np.zeros(3), r"elements are numbered 0 … 1, got -1"),
        ("mirrored", np.zeros(3), "no element 'mirrored'; the elements are e, mirror"),
        ([0, 1], np.zeros((3, 3)), r"one element, or one per row \(3\), got int64 of shape \(2,\)"),
        (0.5, np.zeros(3), "got float64 of shape"),
        (1, np.zeros(4), r"the observation has shape \(4,\), expected \(3,\) behind 0 batch"),
        (1, np.zeros((2, 2, 3)), r"expected \(3,\) behind 1 batch"),
        (1, torch.zeros(2, 4), r"has shape \(2, 4\), expected \(3,\)"),
    ],
)
def test_an_unknown_element_or_a_wrong_shape_is_refused(g, x, message):
    symmetry = Symmetry.from_generators(
        FLOATS, spaces.Discrete(2), {"mirror": (np.negative, [1, 0])}
    )
    with pytest.raises(ValueError, match=message):
        symmetry.transform_observation(g, x)


def test_a_dict_observation_must_have_every_key():
    symmetry = Symmetry.from_generators(
        PAIR, spaces.Discrete(2), {"g": ({"a": [-1, 1], "b": None}, [1, 0])}
    )
    with pytest.raises(SymmetryError, match=r"lacks \['b'\]"):
        symmetry.transform_observation(1, {"a": np.zeros(2)})
    with pytest.raises(SymmetryError, match="expected a dict observation, got ndarray"):
        symmetry.orbit(np.zeros(2))


def test_pulling_back_needs_one_row_per_element():
    symmetry = Symmetry.from_generators(
        FLOATS, spaces.Discrete(2), {"mirror": (np.negative, [1, 0])}
    )
    with pytest.raises(SymmetryError, match="expected 2 rows, got 3"):
        symmetry.pull_back(np.zeros((3, 5, 2)))
    with pytest.raises(SymmetryError, match=r"expected \(2,\) behind 2 batch"):
        symmetry.pull_back(np.zeros((2, 5, 3)))


def test_an_action_on_vectors_is_checked_against_its_group():
    turns = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    with pytest.raises(SymmetryError, match="3 elements need as many maps, got 2"):
        GroupAction.on_vectors(cyclic(3), permutations=turns[:2])
    with pytest.raises(
        SymmetryError, match="not a homomorphism: the map of h·r is not the map of h"
    ):
        GroupAction.on_vectors(cyclic(3), permutations=[[0, 1, 2], [1, 0, 2], [2, 0, 1]])
    with pytest.raises(SymmetryError, match="not a homomorphism"):
        GroupAction.on_vectors(cyclic(3), matrices=[np.eye(2), rotation(120), rotation(-60)])
    with pytest.raises(SymmetryError, match="not a homomorphism: the map of h·e"):
        GroupAction.on_vectors(cyclic(1), permutations=[[1, 0]])
    with pytest.raises(SymmetryError, match="either matrices or permutations"):
        GroupAction.on_vectors(cyclic(3))
    with pytest.raises(SymmetryError, match="either matrices or permutations"):
        GroupAction.on_vectors(cyclic(3), matrices=[np.eye(3)] * 3, permutations=turns)


def test_matrices_and_permutations_give_the_same_action():
    s3 = symmetric(3)
    permutations = np.array(list(itertools.permutations(range(3))))
    matrices = np.zeros((6, 3, 3))
    for g, permutation in enumerate(permutations):
        matrices[g, permutation, np.arange(3)] = 1
    x = np.random.default_rng(0).normal(size=(4, 3))
    by_index = GroupAction.on_vectors(s3, permutations=permutations)
    by_matrix = GroupAction.on_vectors(s3, matrices=matrices)
    assert np.array_equal(by_index.orbit(x), by_matrix.orbit(x))
    moved = by_index.transform(s3.index("(0 1 2)"), np.array([5.0, 6.0, 7.0]))
    assert moved.tolist() == [7, 5, 6]  # entry 0 becomes entry 1, and so on


def test_the_trivial_action_leaves_every_shape_where_it_is():
    action = GroupAction.trivial(dihedral(3), (2, 3))
    x = torch.randn(4, 2, 3)
    assert torch.equal(action.orbit(x), x.expand(6, 4, 2, 3))


def test_a_ragged_permutation_is_refused():
    with pytest.raises(SymmetryError, match="is not a permutation of 0 … 2"):
        Symmetry.from_generators(
            spaces.Box(-1, 1, (2,)), spaces.Discrete(3), {"g": (np.negative, [[1], 0, 2])}
        )
