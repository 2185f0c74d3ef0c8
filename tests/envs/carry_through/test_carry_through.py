"""Symmetries carried through wrappers: moving what goes in moves what comes out."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import (
    DelayObservation,
    DtypeObservation,
    FlattenObservation,
    FrameStackObservation,
    MaxAndSkipObservation,
    RescaleObservation,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from equirl.envs import SymmetryWrapper, symmetry_of
from equirl.errors import SymmetryError
from shared.carried_tasks import (
    FLOAT,
    STACK,
    TASKS,
    Env,
    Layer,
    Task,
    Told,
    assert_carried,
    reversed_shape,
    to_bytes,
    to_unit_range,
    told,
)
from shared.tried import examples


@pytest.mark.parametrize("name", TASKS)
def test_a_stack_of_frames_moves_frame_by_frame(name: str) -> None:
    assert_carried(name, STACK)


@pytest.mark.parametrize(
    "name",
    ["vector", "offset", "turn", "image", "bool-image", "negative-image", "dict-of-boxes"],
)
def test_flattened_observations_move_as_they_did_in_shape(name: str) -> None:
    assert_carried(name, FlattenObservation)


@pytest.mark.parametrize("name", ["vector", "offset", "turn"])
def test_rescaled_observations_move_about_the_rescaled_centre(name: str) -> None:
    assert_carried(name, to_unit_range)


def test_entries_rescaled_by_different_factors_may_still_change_places() -> None:
    swap = Task(spaces.Box(np.zeros(2, "f"), np.full(2, 4, "f")), lambda v: v[::-1], (1, 0))
    symmetry = swap.symmetry()

    def make(observation: list[float]) -> Env:
        env = SymmetryWrapper(Told(swap, [np.array(observation, "f")]), symmetry)
        return RescaleObservation(env, np.array([-1, 2], "f"), np.array([1, 10], "f"))

    carried = symmetry_of(make([0, 0]))
    (here, _), (there, _) = make([1, 3]).reset(), make([3, 1]).reset()
    np.testing.assert_allclose(here, [-0.5, 8])
    np.testing.assert_allclose(there, [0.5, 4])
    np.testing.assert_allclose(carried.transform_observation("g", here), there, rtol=1e-6)


def test_entries_shifted_only_because_one_bound_is_infinite_may_still_change_places() -> None:
    low, high = np.array([0, 5], "f"), np.full(2, np.inf, "f")
    swap = Task(spaces.Box(low, high), lambda v: v[::-1], (1, 0))
    symmetry = swap.symmetry()

    def make(observation: list[float]) -> Env:
        env = SymmetryWrapper(Told(swap, [np.array(observation, "f")]), symmetry)
        return RescaleObservation(env, np.array([1, 1], "f"), high)

    (here, _), (there, _) = make([6, 8]).reset(), make([8, 6]).reset()
    np.testing.assert_allclose(here, [7, 4])
    carried = symmetry_of(make([6, 8]))
    np.testing.assert_allclose(carried.transform_observation("g", here), there)


@pytest.mark.covering(1)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize(
    "name", ["image", "bool-image", "negative-image", "discrete", "multi-binary"]
)
def test_casting_keeps_the_symmetry(name: str, dtype: Any) -> None:
    assert_carried(name, lambda env: DtypeObservation(env, dtype))


@pytest.mark.parametrize("name", ["vector", "offset", "turn"])
def test_floats_are_cast_to_floats(name: str) -> None:
    assert_carried(name, lambda env: DtypeObservation(env, np.float64))


def test_cutting_floats_off_keeps_changes_of_sign() -> None:
    assert_carried("signs", lambda env: DtypeObservation(env, np.int32))


def test_a_board_of_bools_becomes_an_image_that_sb3_knows() -> None:
    assert_carried("bool-image", to_bytes)
    image, _ = to_bytes(told("bool-image")).reset()
    assert image.dtype == np.uint8
    assert set(image.ravel().tolist()) == {0, 255}


@pytest.mark.parametrize("name", ["vector", "offset", "turn", "image", "bool-image"])
def test_reshaped_observations_move_as_they_did_in_shape(name: str) -> None:
    assert_carried(name, reversed_shape)


LAYERS: dict[str, Layer] = {
    "stack": partial(FrameStackObservation, stack_size=2),
    "flatten": FlattenObservation,
    "rescale": to_unit_range,
    "float": FLOAT,
    "reshape": reversed_shape,
}


@settings(max_examples=examples(15), deadline=None)
@given(
    name=st.sampled_from(["vector", "offset", "turn", "image", "bool-image", "negative-image"]),
    order=st.lists(st.sampled_from(sorted(LAYERS)), max_size=4),
)
def test_wrappers_in_any_order_carry_the_symmetry(name: str, order: list[str]) -> None:
    if order.count("stack") > 2:
        order = [layer for layer in order if layer != "stack"]

    def wrapped(env: Env) -> Env:
        env = FLOAT(env)  # integers are not rescaled well, see below
        for layer in order:
            env = LAYERS[layer](env)
        return env

    assert_carried(name, wrapped)


def test_a_flattened_turn_keeps_all_its_digits() -> None:
    symmetry = symmetry_of(FlattenObservation(told("turn")))
    maps: Any = symmetry.observations.maps[0]
    assert maps.matrix[1, 0, 0] == pytest.approx(-0.5, abs=1e-15)


@pytest.mark.parametrize("name", ["signs", "vector", "dict-of-boxes"])
def test_a_delay_keeps_symmetries_that_leave_zero_in_place(name: str) -> None:
    assert_carried(name, lambda env: DelayObservation(env, 2))


def test_a_delay_is_refused_where_zero_moves() -> None:
    with pytest.raises(SymmetryError, match="padding that g does not leave in place"):
        symmetry_of(DelayObservation(told("offset"), 1))


WITHOUT_ZERO: dict[str, tuple[spaces.Space[Any], Any, bool]] = {
    "start 1, moved": (spaces.Discrete(3, start=1), lambda o: 4 - o, False),
    "start 1, fixed": (spaces.Discrete(3, start=1), lambda o: [0, 1, 3, 2][int(o)], True),
    "start -1": (spaces.Discrete(3, start=-1), lambda o: -o, False),
    "several": (spaces.MultiDiscrete([3, 3], start=[-1, -1]), np.negative, False),
    "exchanged": (spaces.MultiDiscrete([3, 3], start=[-1, -1]), np.flip, True),
    "box, moved": (spaces.Box(np.array([1, 0], "f"), np.array([3, 3], "f")), np.flip, False),
    "box, fixed": (
        spaces.Box(np.array([1, -3], "f"), np.array([3, -1], "f")),
        lambda o: -o[::-1],
        True,
    ),
}


@pytest.mark.parametrize("name", WITHOUT_ZERO)
def test_a_delay_keeps_what_leaves_its_first_observation_in_place(name: str) -> None:
    space, move, stays = WITHOUT_ZERO[name]
    game = Told(Task(space, move, (1, 0)), [space.sample()])
    env = DelayObservation(SymmetryWrapper(game, {"g": (move, [1, 0])}), 2)
    first, _ = env.reset()
    assert bool(np.all(move(first) == first)) == stays
    if stays:
        carried = symmetry_of(env)
        np.testing.assert_array_equal(carried.transform_observation("g", first), first)
    else:
        with pytest.raises(SymmetryError, match="padding that g does not leave in place"):
            symmetry_of(env)


def test_the_largest_of_two_frames_keeps_changes_of_place_alone() -> None:
    assert symmetry_of(MaxAndSkipObservation(told("image"))).group.order == 4
    assert symmetry_of(MaxAndSkipObservation(told("bool-image"))).group.order == 2
    for name in ("signs", "negative-image", "turn", "multi-binary"):
        with pytest.raises(SymmetryError, match="MaxAndSkipObservation takes the largest"):
            symmetry_of(MaxAndSkipObservation(told(name)))
