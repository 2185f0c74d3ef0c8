"""Symmetry declarations as anybody might write them, most of them wrong."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from hypothesis import strategies as st

from equirl import Symmetry
from equirl.actions.layout import as_leaves
from equirl.errors import SymmetryError
from equirl.saved_symmetry import from_json, to_json
from fuzz.guarded import check_message, comes_to_an_end


def mostly(
    usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any], one_in: int = 16
) -> st.SearchStrategy[Any]:
    """``usual``, but for one input in so many: one mistake at a time is found out one by one."""
    return st.integers(1, one_in).flatmap(lambda drawn: odd if drawn == one_in else usual)


SHAPES = [(), (0,), (1,), (2,), (3,), (4,), (2, 2), (3, 3), (2, 2, 3), (1, 4), (0, 3), (12, 12, 1)]
DTYPES = [
    "float32", "float64", "float16", "uint8", "int8", "int16", "int32", "int64", "uint16",
    "uint32", "uint64", "bool", "longdouble",
]  # fmt: skip
BOUNDS = [(-1, 1), (0, 1), (0, 255), (-np.inf, np.inf), (-3, 3), (0, 0), (-1e30, 1e30), (0, np.inf)]


def _box(shape: tuple[int, ...], dtype: str, bounds: tuple[float, float]) -> spaces.Box:
    low, high = bounds
    if np.dtype(dtype).kind in "iub":
        range_ = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        low, high = max(low, range_[0]), min(high, range_[1])
    elif dtype == "float16":
        low, high = max(low, -6e4), min(high, 6e4)
    return spaces.Box(low, high, shape, np.dtype(dtype).type)


BOXES = st.builds(_box, st.sampled_from(SHAPES), st.sampled_from(DTYPES), st.sampled_from(BOUNDS))
DISCRETE = st.builds(
    spaces.Discrete, st.sampled_from([1, 2, 3, 4, 6, 500, 10**9, 2**62]), start=st.integers(-2, 2)
)
FINITE = st.one_of(
    DISCRETE,
    st.builds(spaces.MultiBinary, st.sampled_from([1, 3, 4, [2, 2], [1, 2, 2]])),
    st.sampled_from(
        [
            spaces.MultiDiscrete([2, 2]),
            spaces.MultiDiscrete([3, 2, 3]),
            spaces.MultiDiscrete([1, 1]),
            spaces.MultiDiscrete([[2, 3], [2, 3]]),
            spaces.MultiDiscrete([3, 3], start=[-1, 1]),
            spaces.MultiDiscrete([10**8, 2]),
        ]
    ),
)
OTHER = st.sampled_from(
    [
        spaces.Tuple([spaces.Discrete(2)]),
        spaces.Text(3),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Dict(),
        spaces.Dict(inner=spaces.Dict(x=spaces.Discrete(2))),
        spaces.Dict(t=spaces.Text(3)),
        spaces.Space(),
        spaces.Space((3,), np.float32),
        spaces.Box,
        None,
        "Box",
        4,
        np.zeros(4),
    ]
)
PARTS = st.one_of(BOXES, FINITE)
DICTS = st.dictionaries(st.sampled_from(["a", "b", "c", ""]), PARTS, min_size=1, max_size=3).map(
    spaces.Dict
)
SPACES = mostly(BOXES, mostly(mostly(FINITE, DICTS, 2), OTHER, 8), 2)
ACTIONS = mostly(
    st.sampled_from([spaces.Discrete(n) for n in (2, 1, 3, 4, 18)]),
    st.sampled_from(
        [
            spaces.Discrete(2, start=1),
            spaces.Box(-1, 1, (1,)),
            spaces.MultiDiscrete([2, 2]),
            spaces.Dict(),
            None,
            2,
        ]
    ),
    30,
)


def _raises(error: BaseException) -> Callable[[Any], Any]:
    def fails(x: Any) -> Any:
        raise error

    return fails


def _forgets(x: Any) -> None:
    x *= -1  # as does not return anything, having changed its argument


def _in_place(x: Any) -> Any:
    x[...] = -x
    return x


class _Counting:
    """Another map at every call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Any) -> Any:
        self.calls += 1
        return x * (-1) ** (self.calls // 7)


class _BadArray:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("no array here")

    def __repr__(self) -> str:
        return "two\nlines"


class _BadAttribute:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda x: x,
    "negative": lambda x: -x,
    "np.negative": np.negative,
    "reversed": lambda x: x[::-1],
    "np.flip": np.flip,
    "np.fliplr": np.fliplr,
    "np.rot90": np.rot90,
    "transposed": np.transpose,
    "roll": lambda x: np.roll(x, 1),
    "roll last": lambda x: np.roll(x, 1, axis=-1),
    "255 - x": lambda x: 255 - x,
    "1 - x": lambda x: 1 - x,
    "x + 1": lambda x: x + 1,
    "x + 1e9": lambda x: x + 1e9,
    "2 x": lambda x: 2 * x,
    "x / 2": lambda x: x / 2,
    "x // 2": lambda x: x // 2,
    "0 x": lambda x: 0 * x,
    "1e308 x": lambda x: 1e308 * x,
    "abs": np.abs,
    "sqrt": np.sqrt,
    "square": np.square,
    "sort": lambda x: np.sort(x, axis=-1),
    "clip": lambda x: np.clip(-x, -5, 5),
    "turn by a radian": lambda x: np.array(
        [np.cos(1) * x[0] - np.sin(1) * x[1], np.sin(1) * x[0] + np.cos(1) * x[1], *x[2:]]
    ),
    "turn by 120 degrees": lambda x: np.array(
        [-x[0] / 2 - 0.75**0.5 * x[1], 0.75**0.5 * x[0] - x[1] / 2, *x[2:]]
    ),
    "hexagon": lambda x: np.array([-x[1], x[0] + x[1], *x[2:]]),
    "shear": lambda x: np.array([x[0], x[0] - x[1], *x[2:]]),
    "next of 3": lambda x: (x + 1) % 3,
    "next of 4": lambda x: (x + 1) % 4,
    "3 - x": lambda x: 3 - x,
    "logical not": np.logical_not,
    "invert": lambda x: ~x,
    "xor": lambda x: x ^ 1,
    "float": float,
    "int": int,
    "list": list,
    "str": str,
    "np.float16": np.float16,
    "as uint8": lambda x: np.asarray(x).astype(np.uint8),
    "as bool": lambda x: np.asarray(x).astype(bool),
    "as complex": lambda x: np.asarray(x).astype(complex),
    "as object": lambda x: np.asarray(x).astype(object),
    "as tensor": lambda x: -torch.as_tensor(x),
    "as tensor with gradient": lambda x: torch.as_tensor(x).double().requires_grad_(),
    "masked": lambda x: np.ma.masked_array(x, mask=True),
    "matrix": np.asmatrix,
    "nan": lambda x: x * np.nan,
    "inf": lambda x: x + np.inf,
    "ragged": lambda x: [[1], [1, 2]],
    "None": lambda x: None,
    "text": lambda x: "x",
    "empty": lambda x: [],
    "scalar": lambda x: 1.5,
    "huge": lambda x: 10**400,
    "date": lambda x: np.datetime64("2020-01-01"),
    "structured": lambda x: np.zeros(np.shape(x), "i4,f4"),
    "bad array": lambda x: _BadArray(),
    "bad attribute": lambda x: _BadAttribute(),
    "set": lambda x: {1, 2},
    "generator": lambda x: (y for y in x),
    "flattened": np.ravel,
    "batched": lambda x: np.asarray(x)[None],
    "forgets": _forgets,
    "in place": _in_place,
    "exchange a and b": lambda x: {**x, "a": x["b"], "b": x["a"]},
    "negative a": lambda x: {**x, "a": -x["a"]},
    "loses a": lambda x: {k: v for k, v in x.items() if k != "a"},
    "gains z": lambda x: {**x, "z": 1},
    "a into b": lambda x: {**x, "b": x["b"] + x["a"]},
    "clears": lambda x: x.clear(),
    "two arguments": lambda x, y: x,
    "class": type,
    "ValueError": _raises(ValueError("two\nlines")),
    "KeyError": _raises(KeyError()),
    "StopIteration": _raises(StopIteration()),
    "MemoryError": _raises(MemoryError()),
    "RecursionError": _raises(RecursionError("x" * 10_000)),
    "AssertionError": _raises(AssertionError(np.zeros((30, 30)))),
}
CHANGING = {
    "random": lambda: np.random.default_rng(0).permuted,
    "counting": _Counting,
}
"""Functions that are not the same at every call; made anew for every input."""


class Named:
    """A function that says which it is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.function = FUNCTIONS[name] if name in FUNCTIONS else CHANGING[name]()

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __repr__(self) -> str:
        return f"Named({self.name!r})"


NAMED = st.sampled_from([*FUNCTIONS, *CHANGING]).map(Named)
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 3, True, 0.5, np.nan, np.inf, 1e300, 2**64, -(2**63), "1", None]),
    st.integers(-3, 5),
)
PERMUTATIONS = st.integers(0, 6).flatmap(lambda n: st.permutations(range(n)))
SIGNS = st.lists(st.sampled_from([1, -1]), max_size=5)
MATRICES = st.one_of(
    PERMUTATIONS.map(lambda p: np.eye(len(p))[list(p)]),
    SIGNS.map(lambda s: np.diag(np.array(s, dtype=float))),
    st.sampled_from(
        [
            np.full((2, 2), np.nan),
            np.full((3, 3), np.inf),
            np.zeros((2, 2)),
            np.ones((4, 4)),
            np.eye(2) * 2,
            np.eye(4) * 1e200,
            np.eye(2, dtype=complex) * 1j,
            np.array([[0, -1], [1, 0]]),
            np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]]),
            np.array([[-1, 3e6], [0, 1.0]]),
            np.array([[1, 1], [0, 1]]),
            np.eye(3, dtype=bool),
            np.eye(2, dtype=object),
            np.eye(2, dtype="timedelta64[s]"),
            np.zeros((0, 0)),
            np.array(["a", "b"]),
        ]
    ),
)
ODD = st.sampled_from(
    [0, 1, True, "", "mirror", b"\x01\x00", {}, {1, 0}, range(2), [[1], [0, 1]], _BadArray(), (),
     _BadAttribute(), float("nan"), np.float32(1), Ellipsis, object(), [None, None], slice(3),
     [_BadArray()], torch.tensor([1, 0]), np.array(3), (i for i in (1, 0)), 10**400]
)  # fmt: skip
ARRAYS = st.one_of(PERMUTATIONS, SIGNS, MATRICES)
PLAIN_MAPS = mostly(
    mostly(NAMED, mostly(ARRAYS, st.none(), 3), 3), st.one_of(ODD, st.lists(NUMBERS, max_size=4))
)
MAPS = mostly(
    PLAIN_MAPS,
    st.dictionaries(st.sampled_from(["a", "b", "c", "", 0, None, "z"]), PLAIN_MAPS, max_size=3),
)
ACTION_PERMUTATIONS = st.one_of(
    st.sampled_from([2, 2, 3, 4]).flatmap(lambda n: st.permutations(range(n))),
    st.lists(NUMBERS, max_size=4),
    ODD,
    NAMED,
    st.sampled_from([np.array([1, 0], dtype=d) for d in ("uint8", "float32", "bool", "O")]),
)
NAMES = mostly(
    st.sampled_from(["mirror", "r", "s", "a b", "e", "r²", "rr"]),
    st.one_of(
        st.sampled_from(["", "two\nlines", "x" * 300, 0, None, ("a",), b"r", True, np.nan]),
        st.text(max_size=3),
    ),
)


@st.composite
def _pairs(draw: st.DrawFn, maps: st.SearchStrategy[Any], n: int) -> Any:
    """A map and a permutation of the actions; one in eight is not even that."""
    how = draw(st.integers(0, 15))
    if how == 0:
        return draw(st.one_of(ODD, st.none(), MAPS, st.just("ab"), st.tuples(MAPS)))
    if how == 1:
        return draw(st.tuples(MAPS, ACTION_PERMUTATIONS).map(list))
    permutations = ACTION_PERMUTATIONS if how == 2 else st.permutations(range(n))
    return draw(maps), draw(permutations)


@st.composite
def declarations(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    """Observation space, action space and generators, right in most respects."""
    observation_space, action_space = draw(SPACES), draw(ACTIONS)
    if draw(st.integers(0, 15)) == 0:
        return observation_space, action_space, draw(ODD)
    maps = MAPS
    if isinstance(observation_space, spaces.Dict) and draw(st.booleans()):
        keys = list(observation_space.spaces)
        maps = st.fixed_dictionaries(dict.fromkeys(keys, PLAIN_MAPS))
    n = int(action_space.n) if isinstance(action_space, spaces.Discrete) else 2
    names = draw(st.lists(NAMES, min_size=1, max_size=2, unique_by=str))
    return observation_space, action_space, {name: draw(_pairs(maps, n)) for name in names}


def declare(observation_space: Any, action_space: Any, generators: Any) -> bool:
    """Declare a symmetry: it is refused in one line, or works.

    Returns:
        Whether it works.
    """
    with comes_to_an_end(), _quiet():
        try:
            symmetry = Symmetry.from_generators(observation_space, action_space, generators)
        except SymmetryError as error:
            check_message(error)
            return False
        _check_works(symmetry, generators)
    return True


def _check_works(symmetry: Symmetry, generators: Any) -> None:
    leaves = symmetry.observations.leaves
    try:
        observation = symmetry.observation_space.sample()
    except ValueError:  # Gymnasium adds one to the bound of an integer Box, beyond int64 here
        return
    for g in range(min(symmetry.group.order, 8)):
        moved = symmetry.transform_observation(g, observation)
        back = symmetry.transform_observation(int(symmetry.group.inverses[g]), moved)
        if all(not leaf.is_float for leaf in leaves):
            _check_close(back, observation, leaves)
    if isinstance(symmetry.action_space, spaces.Discrete):
        space = symmetry.action_space
        actions = int(space.start) + np.arange(int(space.n))
        assert sorted(symmetry.transform_action(0, actions)) == actions.tolist()
    else:
        action = symmetry.action_space.sample()
        assert np.array_equal(symmetry.transform_action(0, action), action)
    assert pickle.loads(pickle.dumps(symmetry)) == symmetry
    assert from_json(to_json(symmetry)) == symmetry
    for name, (given, _) in generators.items() if generators else ():
        if isinstance(given, Named) and given.name not in CHANGING and name in symmetry.group.names:
            moved = symmetry.transform_observation(name, observation)
            _check_close(
                moved,
                given(deepcopy(observation))
                if len(leaves) == 1 and leaves[0].key is None
                else moved,
                leaves,
            )


def _check_close(one: Any, other: Any, leaves: Any) -> None:
    for a, b in zip(as_leaves(one, leaves), as_leaves(other, leaves), strict=True):
        a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
        assert np.allclose(a, b, rtol=1e-2, atol=1e-2), (a, b)


@contextmanager
def _quiet() -> Iterator[None]:
    """NumPy's warnings about what the functions above do are not ours."""
    with np.errstate(all="ignore"):
        yield
