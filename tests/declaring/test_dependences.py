"""What depends on what is found however many entries there are, or the map is refused."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from equirl import Symmetry
from equirl.actions import GroupAction
from equirl.declaring import close_actions, compile_action
from equirl.errors import SymmetryError
from equirl.groups import cyclic
from shared.symmetry_cases import assert_same, property_based, rotation, sample, vector

TWO = spaces.Discrete(2)


def switches(count: int) -> spaces.Dict:
    return spaces.Dict({f"switch{k:03}": spaces.Discrete(2) for k in range(count)})


def blocks_by_key(action: GroupAction) -> set[frozenset[str]]:
    return {frozenset(str(action.leaves[j].key) for j in block) for block in action.blocks}


@given(st.sampled_from([2, 19, 40, 150]), st.data())
@property_based
def test_a_swap_of_any_two_of_many_switches_is_seen(count, data):
    space = switches(count)
    a, b = (
        f"switch{k:03}"
        for k in data.draw(st.lists(st.integers(0, count - 1), min_size=2, max_size=2, unique=True))
    )
    swap = {"m": (lambda o: {**o, a: o[b], b: o[a]}, [1, 0])}
    symmetry = Symmetry.from_generators(space, TWO, swap)
    assert {len(block) for block in symmetry.observations.blocks} <= {1, 2}
    scene = sample(space, 3)
    assert_same(symmetry.transform_observation("m", scene), swap["m"][0](scene), exact=True)


KINDS = {
    "discrete": spaces.Discrete(3),
    "float": vector(-1, 1, 2, np.float32),
    "half": vector(0, np.inf, 2, np.float32),
    "integer": vector(-3, 3, 2, np.int8),
    "mask": spaces.MultiBinary(3),
}


def inverted(kind: str, part: Any) -> Any:
    if kind == "mask":
        return 1 - part
    return (2 - part) if kind == "discrete" else (part if kind == "half" else -part)


@given(
    st.lists(st.sampled_from(sorted(KINDS)), min_size=2, max_size=40),
    st.integers(0, 2**32 - 1),
)
@property_based
def test_any_structure_of_many_keys_is_found_exactly(kinds, seed):
    """Keys of one kind are permuted, some of them turned over; blocks are the permutation's."""
    rng = np.random.default_rng(seed)
    keys = [f"{kind}{k:02}" for k, kind in enumerate(sorted(kinds))]
    space = spaces.Dict({key: KINDS[kind] for key, kind in zip(keys, sorted(kinds), strict=True)})
    source = {}
    for kind in {*kinds}:
        own = [key for key in keys if key.startswith(kind)]
        order = list(own)
        for a, b in rng.permutation(len(own))[: len(own) // 2 * 2].reshape(-1, 2):
            if rng.random() < 0.5:
                order[a], order[b] = order[b], order[a]
        source |= dict(zip(own, order, strict=True))
    turned = {frozenset((key, source[key])): rng.random() < 0.5 for key in keys}

    def function(scene: dict[str, Any]) -> dict[str, Any]:
        return {
            key: inverted(key[:-2], scene[source[key]])
            if turned[frozenset((key, source[key]))]
            else scene[source[key]]
            for key in keys
        }

    closure, action = close_actions(space, {"g": function})
    assert blocks_by_key(action) == {frozenset((key, source[key])) for key in keys}
    scene = sample(space, 4)
    moved = action.transform(closure.generators["g"], scene)
    assert_same(moved, function(scene), exact=True)


@given(st.integers(2, 30), st.integers(2, 6), st.booleans())
@property_based
def test_rotations_within_and_across_keys_are_found(count, k, across):
    """By 1/k of a turn, in the plane of each key or of every two keys' entries."""
    keys = [f"k{i:02}" for i in range(2 * (count // 2))]
    space = spaces.Dict({key: vector(-1, 1, 2, np.float64) for key in keys})
    matrix = rotation(360 / k)

    def function(scene: dict[str, Any]) -> dict[str, Any]:
        if not across:
            return {key: matrix @ part for key, part in scene.items()}
        moved = {}
        for a, b in zip(keys[::2], keys[1::2], strict=True):
            moved[a], moved[b] = np.einsum("ij,jn->in", matrix, np.stack([scene[a], scene[b]]))
        return moved

    closure, action = close_actions(space, {"r": function})
    assert action.group == cyclic(k) or k == 2
    pairs = {frozenset(p) for p in zip(keys[::2], keys[1::2], strict=True)}
    each = {frozenset([key]) for key in keys}
    assert blocks_by_key(action) == (pairs if across and k not in (2,) else each)
    scene = {key: part[0] for key, part in sample(space, 1).items()}
    moved = action.transform(closure.generators["r"], scene)
    for key in keys:
        assert np.allclose(moved[key], function(scene)[key], rtol=0, atol=1e-12)


@given(st.integers(4, 16), st.integers(0, 2**32 - 1))
@property_based
def test_what_depends_on_several_finite_keys_is_refused_by_name(count, seed):
    rng = np.random.default_rng(seed)
    a, b, c = (f"switch{k:03}" for k in rng.choice(count, 3, replace=False))
    functions = [
        lambda o: {**o, a: o[a] ^ o[b]},
        lambda o: {**o, a: o[b], b: o[a]} if o[c] else o,
        lambda o: {**o, a: o[a] & o[b]},
    ]
    for function in functions:
        with pytest.raises(SymmetryError, match=f"{a}|{b}"):
            Symmetry.from_generators(switches(count), TWO, {"m": (function, [1, 0])})


@given(st.integers(2, 30), st.sampled_from(["square", "product", "sort", "gate"]), st.data())
@property_based
def test_what_is_not_affine_is_refused_by_name(count, form, data):
    keys = [f"k{i:02}" for i in range(count)]
    space = spaces.Dict({key: vector(-1, 1, 2, np.float32) for key in keys})
    one, other = data.draw(st.permutations(keys))[:2]

    def function(scene: dict[str, Any]) -> dict[str, Any]:
        a, b = scene[one], scene[other]
        moved = {
            "square": a * np.abs(a),
            "product": a * (1 + b / 2),
            "sort": np.maximum(a, b),
            "gate": -a if b[0] > 0 else a,
        }
        return {**scene, one: moved[form]}

    with pytest.raises(SymmetryError, match=f"not affine: entry '{one}'"):
        Symmetry.from_generators(space, TWO, {"m": (function, [1, 0])})


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x[::-1] if x.sum() != 4 else x,
        lambda x: x[::-1] if x.any() else x ^ 1,
        lambda x: 1 - x if x[:8].all() else x,
    ],
)
def test_every_point_of_a_small_space_is_compared(function):
    """These differ from a renaming at few of the 256 points."""
    with pytest.raises(SymmetryError):
        Symmetry.from_generators(spaces.MultiBinary(8), TWO, {"m": (function, [1, 0])})


def test_a_map_of_150_keys_is_called_a_few_times_only():
    keys = [f"k{i:03}" for i in range(150)]
    space, calls = spaces.Dict({key: vector(-1, 1, 3, np.float32) for key in keys}), []

    def function(scene: dict[str, Any]) -> dict[str, Any]:
        calls.append(None)
        return {key: -part for key, part in scene.items()}

    action = compile_action(cyclic(2), space, {"e": None, "r": function})
    assert len(action.blocks) == 150
    assert len(calls) < 50


def test_entries_of_one_value_may_stand_anywhere():
    """They cannot be moved within the bounds, and need not be."""
    low, high = np.array([0, 5, 0, 7]), np.array([3, 5, 3, 7])
    space = spaces.Box(low, high, dtype=np.int16)
    symmetry = Symmetry.from_generators(space, TWO, {"m": (lambda x: x[[2, 1, 0, 3]], [1, 0])})
    assert symmetry.transform_observation("m", np.array([1, 5, 2, 7])).tolist() == [2, 5, 1, 7]
