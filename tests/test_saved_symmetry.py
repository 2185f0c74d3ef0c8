"""A symmetry survives being taken apart into plain data, and says so where it cannot be read."""

from __future__ import annotations

import json
import pickle
import pickletools
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from equirl import Symmetry
from equirl.errors import SymmetryError
from equirl.saved_symmetry import FORMAT, from_json, from_plain, to_json, to_plain
from shared.symmetry_cases import property_based

TURN = np.array([[np.cos(np.pi / 3), -np.sin(np.pi / 3)], [np.sin(np.pi / 3), np.cos(np.pi / 3)]])
IMAGE = spaces.Box(0, 255, (5, 5, 3), np.uint8)


def symmetries() -> dict[str, Symmetry]:
    declare: Any = Symmetry.from_generators
    four, two = spaces.Discrete(4), spaces.Discrete(2)
    exchanged = spaces.Dict(left=spaces.Box(-1, 1, (2,)), right=spaces.Box(-1, 1, (2,)))

    def exchange(observation: Any) -> Any:
        return {"left": observation["right"], "right": observation["left"]}

    image = declare(IMAGE, four, {"r": (np.rot90, [3, 0, 1, 2]), "s": (np.fliplr, [0, 3, 2, 1])})
    return {
        "signs": declare(spaces.Box(-1, 1, (4,)), two, {"mirror": (np.negative, [1, 0])}),
        "image": image,
        "image, channels first": image.carried_to(
            spaces.Box(0, 255, (3, 5, 5), np.uint8), {None: (2, 0, 1)}
        ),
        "affine": declare(
            spaces.Box(-1, 1, (2,)), spaces.Discrete(6), {"r": (TURN, [1, 2, 3, 4, 5, 0])}
        ),
        "lookup": declare(spaces.Discrete(4, start=2), four, {"r": ([3, 4, 5, 2], [1, 2, 3, 0])}),
        "dict": declare(exchanged, two, {"mirror": (exchange, [1, 0])}),
        "keys unsorted": declare(
            spaces.Dict([("z", spaces.MultiDiscrete([2, 2])), ("a", spaces.MultiBinary((2,)))]),
            two,
            {"mirror": ({"z": np.flip, "a": None}, [1, 0])},
        ),
        "multi-binary": declare(spaces.MultiBinary(3), two, {"mirror": (np.flip, [1, 0])}),
        "multi-discrete": declare(
            spaces.MultiDiscrete([3, 3], np.int32, start=[1, 1]), two, {"swap": ([1, 0], [1, 0])}
        ),
    }


@pytest.mark.parametrize("name", symmetries())
def test_plain_data_gives_the_same_symmetry(name: str) -> None:
    symmetry = symmetries()[name]
    again = pickle.loads(pickle.dumps(symmetry))
    assert again == symmetry
    assert from_plain(to_plain(symmetry)) == symmetry
    from_text = from_json(json.loads(json.dumps(to_json(symmetry))))
    assert from_text == symmetry
    assert str(from_text) == str(symmetry)
    observation = symmetry.observation_space.sample()
    for g in range(symmetry.group.order):
        moved, expected = (s.transform_observation(g, observation) for s in (again, symmetry))
        assert np.array_equal(
            np.asarray(list(moved.values()) if isinstance(moved, dict) else moved),
            np.asarray(list(expected.values()) if isinstance(expected, dict) else expected),
        )


def test_a_pickled_symmetry_names_one_function_of_ours_and_no_class() -> None:
    names = set()
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(pickle.dumps(symmetries()["image"])):
        if isinstance(argument, str):
            strings.append(argument)
        if opcode.name == "STACK_GLOBAL":
            names.add((strings[-2], strings[-1]))
    assert {name for name in names if name[0].startswith("equirl")} == {
        ("equirl.saved_symmetry", "from_plain")
    }


def test_a_later_format_is_refused_with_what_to_do() -> None:
    plain = {**to_plain(symmetries()["signs"]), "format": FORMAT + 1}
    with pytest.raises(SymmetryError, match="install a newer one"):
        from_plain(plain)


DTYPES = [np.int8, np.uint8, np.int32, np.int64, np.uint64, np.float16, np.float32, np.float64]
sizes = st.integers(1, 3)
shapes = st.lists(sizes, max_size=3).map(tuple)
integers = st.sampled_from([np.int8, np.int32, np.int64])


@st.composite
def boxes(draw: Any) -> spaces.Box:
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(shapes)
    low = np.array(draw(st.integers(0, 9)) + np.zeros(shape), dtype=dtype)
    if draw(st.booleans()) and np.issubdtype(dtype, np.floating):
        return spaces.Box(-np.inf, np.inf, shape, dtype)
    return spaces.Box(low, low + draw(st.integers(1, 9)), shape, dtype)


def multi_discrete(nvec: list[int], dtype: Any, start: int) -> spaces.MultiDiscrete:
    return spaces.MultiDiscrete(nvec, dtype, start=[start] * len(nvec))


parts = st.one_of(
    boxes(),
    st.builds(
        lambda n, start, dtype: spaces.Discrete(n, start=start, dtype=dtype),
        st.integers(1, 9),
        st.integers(-9, 9),
        integers,
    ),
    st.builds(spaces.MultiBinary, st.integers(1, 4) | st.lists(sizes, min_size=1, max_size=3)),
    st.builds(
        multi_discrete, st.lists(st.integers(1, 4), min_size=1), integers, st.integers(-9, 9)
    ),
)
dicts = st.lists(st.tuples(st.sampled_from("zxay"), parts), min_size=1, unique_by=lambda p: p[0])


@given(parts | dicts.map(spaces.Dict), parts)
@property_based
def test_every_space_comes_back_equal_from_its_saved_form(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> None:
    symmetry = Symmetry.trivial(observation_space, action_space)
    for saved in (
        from_json(json.loads(json.dumps(to_json(symmetry)))),
        pickle.loads(pickle.dumps(symmetry)),
    ):
        assert saved == symmetry
        for mine, theirs in (
            (saved.observation_space, observation_space),
            (saved.action_space, action_space),
        ):
            assert mine == theirs
            assert mine.dtype == theirs.dtype
            assert str(mine) == str(theirs)
            if isinstance(theirs, spaces.Dict):
                assert list(mine.spaces) == list(theirs.spaces)
