"""Maps need be right only within the declared bounds, and are probed nowhere else."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import DtypeObservation, FlattenObservation, FrameStackObservation
from hypothesis import given
from hypothesis import strategies as st

from equirl import Symmetry
from equirl.actions.lookups import Lookups
from equirl.actions.signed_permutations import SignedPermutations
from equirl.declaring import close_actions
from equirl.envs import SymmetryWrapper, symmetry_of
from equirl.errors import SymmetryError
from equirl.saved_symmetry import from_json, to_json
from shared.symmetry_cases import assert_same, property_based, sample, tensors, vector

TWO = spaces.Discrete(2)
PI = np.pi


def mirror(space, function):
    return Symmetry.from_generators(space, TWO, {"m": (function, [1, 0])})


def box(low, high, shape, dtype=np.uint8):
    return spaces.Box(low, high, shape, dtype)


def renamed(values, start=0):
    return lambda x: np.array([0] * start + values)[x]


SIGNED = [
    ("xor", box(0, 1, (4,)), lambda mask: mask ^ 1),
    ("logical not", box(0, 1, (4,)), lambda mask: np.logical_not(mask).astype(np.uint8)),
    ("table of two", box(0, 1, (3, 3)), renamed([1, 0])),
    ("one-hot planes", box(0, 1, (5, 5, 3)), lambda planes: planes[..., [0, 2, 1]]),
    ("negated table", box(1, 13, (5,), np.int8), renamed([*range(13, 0, -1)], 1)),
    ("position", vector(0, 7, 2, np.int64), lambda x: 7 - x),
    ("table lookup of positions", vector(0, 9, 2, np.int32), renamed([*range(9, -1, -1)])),
    ("far from zero", vector(200, 255, 3, np.uint8), lambda x: 455 - x.astype(int)),
    ("unbounded int32", vector(-np.inf, np.inf, 3, np.int32), np.negative),
    ("unit interval", vector(0, 1, 5, np.float32), lambda x: 1 - x),
    ("root", vector(0, 1, 2, np.float64), lambda x: np.sqrt(x[::-1] ** 2)),
    ("wrapped at pi", vector(-PI, PI, 1, np.float32), lambda a: (-a + PI) % (2 * PI) - PI),
    ("wrapped at 2 pi", vector(0, 2 * PI, 2, np.float32), lambda a: (-a) % (2 * PI)),
    ("arc", vector(-1, 1, 2, np.float64), lambda x: np.sin(np.arcsin(-x))),
    ("clipped", vector(-1, 1, 3, np.float32), lambda x: np.clip(-x, -1, 1)),
    ("asserted", vector(-1e-3, 1e-3, 2, np.float32), lambda x: -x if (abs(x) <= 1e-3).all() else 0),
    ("half bounded", vector(0, np.inf, 3, np.float32), lambda x: abs(x[::-1])),
    ("bounded above", vector(-np.inf, -2, 2, np.float32), lambda x: -abs(x[::-1])),
    (
        "cartpole",
        spaces.Box(
            np.array([-4.8, -np.inf, -0.418, -np.inf], np.float32),
            np.array([4.8, np.inf, 0.418, np.inf], np.float32),
        ),
        np.negative,
    ),
    ("greatest float", vector(-3.4e38, 3.4e38, 2, np.float32), np.negative),
    ("image", box(0, 255, (84, 84, 4)), lambda x: 255 - np.fliplr(x)),
    ("many switches", box(0, 1, (40_000,)), lambda x: 1 - x),
]

RENAMED = [
    ("pieces", box(0, 2, (3, 3)), renamed([0, 2, 1])),
    ("pieces on a turned board", box(0, 2, (8, 8)), lambda b: np.rot90(renamed([0, 2, 1])(b), 2)),
    (
        "pieces of two sides",
        box(0, 12, (8, 8), np.int64),
        renamed([0, *range(7, 13), *range(1, 7)]),
    ),
    ("owners", box(1, 3, (6,), np.int16), renamed([2, 1, 3], 1)),
    ("suits", box(0, 3, (52,), np.int8), renamed([1, 0, 3, 2])),
    ("headings", vector(0, 3, 2, np.int64), lambda x: (x + 2) % 4),
    ("condition", box(0, 2, (4,)), lambda b: np.where(b == 1, 2, np.where(b == 2, 1, b))),
    ("by cases", box(-1, 2, (4,), np.int8), lambda b: np.where(b == 2, -1, np.where(b < 0, 2, b))),
]


@pytest.mark.parametrize(("space", "function"), [c[1:] for c in SIGNED], ids=[c[0] for c in SIGNED])
def test_a_signed_permutation_within_the_bounds_is_one(space, function):
    symmetry = mirror(space, function)
    assert isinstance(symmetry.observations.maps[0], SignedPermutations)
    points = sample(space, 5)
    expected = np.stack([function(point) for point in points])
    assert_same(symmetry.transform_observation("m", points), expected.astype(space.dtype))


@pytest.mark.parametrize(
    ("space", "function"), [c[1:] for c in RENAMED], ids=[c[0] for c in RENAMED]
)
def test_a_renaming_of_whole_numbers_is_the_table_it_is(space, function):
    symmetry = mirror(space, function)
    assert isinstance(symmetry.observations.maps[0], Lookups)
    points = sample(space, 5)
    expected = np.stack([function(point) for point in points]).astype(space.dtype)
    assert_same(symmetry.transform_observation("m", points), expected, exact=True)
    assert_same(symmetry.transform_observation("m", tensors(points)), tensors(expected))
    assert from_json(to_json(symmetry)) == symmetry == pickle.loads(pickle.dumps(symmetry))


@given(
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(-4, 4),
    st.sampled_from([np.int8, np.int16, np.int64]),
    st.integers(0, 2**32 - 1),
)
@property_based
def test_any_permutation_of_places_and_values_of_a_box_is_taken(n, values, low, dtype, seed):
    rng = np.random.default_rng(seed)
    space = vector(low, low + values - 1, n, dtype)
    table, place = rng.permutation(values), rng.permutation(n)
    closure, action = close_actions(space, {"g": lambda x: low + table[x[place] - low]})
    points = sample(space, 4)
    expected = (low + table[points[:, place] - low]).astype(dtype)
    assert_same(action.transform(closure.generators["g"], points), expected, exact=True)


@pytest.mark.parametrize("given", [[0, 2, 3, 1], [-1, 2, 3, 1], [1, 1.5, 3, 1], [1, 2, 3, 4]])
def test_other_values_than_the_table_has_are_refused(given):
    symmetry = mirror(box(1, 3, (4,), np.int64), renamed([2, 1, 3], 1))
    for point in (np.array(given), torch.tensor(given)):
        with pytest.raises(SymmetryError, match="whose values are 1 … 3"):
            symmetry.transform_observation("m", point)


class Board(gym.Env):
    """Random boards of pieces 1, 2 and 3."""

    observation_space = box(1, 3, (4,), np.int64)
    action_space = TWO


@pytest.mark.parametrize(
    "wrapper",
    [
        lambda env: FrameStackObservation(env, 3),
        FlattenObservation,
        lambda env: DtypeObservation(env, np.int8),
    ],
)
def test_a_table_is_carried_through_wrappers_that_keep_whole_numbers(wrapper):
    env = wrapper(SymmetryWrapper(Board(), {"m": (renamed([2, 1, 3], 1), [1, 0])}))
    points = sample(env.observation_space, 3)
    expected = renamed([2, 1, 3], 1)(points).astype(points.dtype)
    assert_same(symmetry_of(env).transform_observation("m", points), expected, exact=True)


def test_a_table_is_not_carried_into_a_box_of_floats():
    env = SymmetryWrapper(Board(), {"m": (renamed([2, 1, 3], 1), [1, 0])})
    with pytest.raises(SymmetryError, match="renames whole numbers"):
        symmetry_of(DtypeObservation(env, np.float32))


@pytest.mark.parametrize(
    ("space", "function", "said"),
    [
        (vector(-PI, PI, 1, np.float32), lambda a: (a + 1.5 * PI) % (2 * PI) - PI, "-3.14159 … 3"),
        (vector(0, 1, 2, np.float32), lambda x: x**2, "within its bounds 0 … 1"),
        (box(0, 2, (3,)), lambda b: b // 2, "within its bounds 0 … 2"),
        (box(0, 2, (3,)), lambda b: (b + b.sum()) % 3, "within its bounds 0 … 2"),
    ],
)
def test_what_is_neither_affine_nor_a_renaming_is_refused_with_its_bounds(space, function, said):
    with pytest.raises(SymmetryError, match=said):
        mirror(space, function)


@pytest.mark.parametrize(
    ("space", "box_that_works"),
    [
        (spaces.MultiBinary(40_000), spaces.Box(0, 1, (40_000,), np.uint8)),
        (spaces.MultiBinary((200, 200)), spaces.Box(0, 1, (200, 200), np.uint8)),
        (spaces.MultiDiscrete([3] * 30_000), spaces.Box(0, 2, (30_000,), np.int64)),
        (spaces.Discrete(100_000), spaces.Box(0, 99_999, (1,), np.int64)),
    ],
)
def test_too_many_values_are_refused_with_the_box_that_works(space, box_that_works):
    most = int(box_that_works.high.flat[0])
    with pytest.raises(SymmetryError) as refused:
        mirror(space, lambda x: most - x)
    named = f"Box(0, {most}, {box_that_works.shape}, np.{box_that_works.dtype})"
    assert named in str(refused.value)
    mirror(box_that_works, lambda x: most - x)
