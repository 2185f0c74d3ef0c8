"""Symmetries carried through wrappers: moving what goes in moves what comes out."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import (
    DtypeObservation,
    FlattenObservation,
    FrameStackObservation,
    RescaleObservation,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from equirl.envs import SymmetryWrapper, symmetry_of
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
