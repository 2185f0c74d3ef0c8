"""Symmetries act on actions of every space, and a policy's outputs move along."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
    SquashedDiagGaussianDistribution,
)

from equirl import Symmetry
from equirl.errors import EquirlWarning, SymmetryError
from equirl.saved_symmetry import from_json, to_json
from shared.action_cases import ACTION_CASES, TURN, every_action_case
from shared.symmetry_cases import FLOATS, property_based, rotation

PLANE = spaces.Box(-9, 9, (2,), np.float32)
SIXTH = Symmetry.from_generators(PLANE, spaces.Discrete(1), {"r": (TURN, [0])})
every_element = range(6)


def sampled(space: spaces.Space[Any], count: int) -> Any:
    space.seed(0)
    return np.stack([space.sample() for _ in range(count)])


@every_action_case
def test_the_compiled_action_is_the_declared_one(case):
    for action in sampled(case.space, 20):
        moved = case.symmetry.transform_action("r", action)
        assert np.allclose(moved, case.function(action), rtol=0, atol=1e-6)
        assert moved.dtype == case.space.dtype
        assert case.space.contains(moved if case.space.shape else np.asarray(moved)[()])


@every_action_case
def test_actions_in_batches_and_tensors_move_as_one_by_one_and_back(case):
    symmetry, batch = case.symmetry, sampled(case.space, 7)
    for g in every_element:
        moved = symmetry.transform_action(g, batch)
        one_by_one = [symmetry.transform_action(g, action) for action in batch]
        assert np.array_equal(moved, np.stack(one_by_one))
        assert np.array_equal(symmetry.transform_action(g, torch.from_numpy(batch)), moved)
        back = symmetry.transform_action(symmetry.group.inverse(g), moved)
        assert np.allclose(back, batch, rtol=0, atol=1e-6)
    elements = np.arange(7) % 6
    each = symmetry.transform_action(elements, batch)
    for k, g in enumerate(elements):
        assert np.array_equal(each[k], symmetry.transform_action(int(g), batch[k]))


@every_action_case
def test_saved_forms_and_copies_move_actions_alike(case):
    symmetry = case.symmetry
    saved = from_json(json.loads(json.dumps(to_json(symmetry))))
    for other in (saved, pickle.loads(pickle.dumps(symmetry)), copy.deepcopy(symmetry)):
        assert other == symmetry
        assert hash(other) == hash(symmetry)
        assert other.action_space == case.space
        batch = sampled(case.space, 4)
        assert np.array_equal(
            other.transform_action("r", batch), symmetry.transform_action("r", batch)
        )
    assert "order" in repr(symmetry)


@every_action_case
def test_the_trivial_group_moves_no_action(case):
    trivial = Symmetry.trivial(PLANE, case.space)
    batch = sampled(case.space, 3)
    assert np.array_equal(trivial.transform_action(0, batch), batch)


def distribution(space: spaces.Space[Any], parameters: torch.Tensor) -> Any:
    if isinstance(space, spaces.Discrete):
        return CategoricalDistribution(int(space.n)).proba_distribution(parameters)
    if isinstance(space, spaces.MultiBinary):
        return BernoulliDistribution(space.n).proba_distribution(parameters)
    return MultiCategoricalDistribution(space.nvec.tolist()).proba_distribution(parameters)


@pytest.mark.parametrize(
    "case",
    [c for c in ACTION_CASES if not isinstance(c.space, spaces.Box)],
    ids=lambda case: case.name,
)
def test_a_distribution_with_moved_logits_gives_moved_actions_the_same_probability(case):
    symmetry, start = case.symmetry, getattr(case.space, "start", 0)
    logits = torch.randn(9, symmetry.action_logits.leaves[0].size, dtype=torch.float64)
    actions = sampled(case.space, 9)
    asked: Any = np.float64 if isinstance(case.space, spaces.MultiBinary) else np.int64
    for g in every_element:
        moved = symmetry.transform_action(g, actions)
        here = distribution(case.space, logits)
        there = distribution(case.space, symmetry.action_logits.transform(g, logits))
        torch.testing.assert_close(
            there.log_prob(torch.from_numpy((moved - start).astype(asked))),
            here.log_prob(torch.from_numpy((actions - start).astype(asked))),
        )
        torch.testing.assert_close(there.entropy(), here.entropy())


@pytest.mark.parametrize(
    "name", ["signs", "permutation", "matrix", "off-centre", "bounds-exchanged"]
)
@pytest.mark.parametrize("squashed", [False, True])
def test_a_gaussian_moves_with_its_mean_and_scales(name, squashed):
    (case,) = [case for case in ACTION_CASES if case.name == name]
    symmetry, n = case.symmetry, case.space.shape[0]
    mean, log_std = torch.randn(2, 5, n, dtype=torch.float64)
    actions = torch.rand(5, n, dtype=torch.float64) * 1.8 - 0.9
    action = symmetry.scaled_actions if squashed else symmetry.actions
    kind: Any = SquashedDiagGaussianDistribution if squashed else DiagGaussianDistribution
    for g in every_element:
        here = kind(n).proba_distribution(mean, log_std)
        moved_mean, moved_scale = action.transform(g, mean), symmetry.log_stds.transform(g, log_std)
        there = kind(n).proba_distribution(moved_mean, moved_scale)
        torch.testing.assert_close(
            there.log_prob(action.transform(g, actions)), here.log_prob(actions)
        )


@pytest.mark.parametrize("name", ["off-centre", "bounds-exchanged", "signs"])
def test_rescaling_to_plus_minus_one_turns_actions_into_scaled_actions(name):
    (case,) = [case for case in ACTION_CASES if case.name == name]
    low, high = case.space.low.astype(float), case.space.high.astype(float)

    def rescaled(a: Any) -> Any:
        return 2 * (a - low) / (high - low) - 1

    batch = sampled(case.space, 5).astype(np.float64)
    for g in every_element:
        np.testing.assert_allclose(
            case.symmetry.scaled_actions.transform(g, rescaled(batch)),
            rescaled(case.symmetry.transform_action(g, batch)),
            atol=1e-6,
        )


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("discrete", {"permutations", "q_values", "action_logits"}),
        ("signs", {"scaled_actions", "log_stds"}),
        ("multi-discrete", {"action_logits"}),
        ("bits", {"action_logits"}),
    ],
)
def test_a_space_has_the_outputs_of_its_policies_and_no_others(case, names):
    (case,) = [c for c in ACTION_CASES if c.name == case]
    everything = {"permutations", "q_values", "action_logits", "scaled_actions", "log_stds"}
    for name in names:
        getattr(case.symmetry, name)
    for name in everything - names:
        with pytest.raises(SymmetryError, match=name):
            getattr(case.symmetry, name)


BOX = spaces.Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    ("space", "action_map"),
    [
        pytest.param(BOX, rotation(60), id="a rotation"),
        pytest.param(BOX, lambda a: 2 * a, id="a scale"),
        pytest.param(BOX, lambda a: a + 1, id="a shift"),
        pytest.param(BOX, lambda a: a * np.array([1, -1]) + 0.5, id="off the box"),
        pytest.param(BOX, lambda a: np.tanh(a), id="bent"),
        pytest.param(BOX, [1, 1, -1], id="another length"),
        pytest.param(BOX, [2, 0], id="neither a permutation nor signs"),
        pytest.param(spaces.Box(-np.inf, np.inf, (1,)), lambda a: 1 - a, id="unbounded"),
        pytest.param(spaces.Box(0, np.inf, (1,)), [-1], id="half bounded"),
        pytest.param(spaces.Box(np.float32([-1, -2]), np.float32([1, 2])), [1, 0], id="sizes"),
        pytest.param(spaces.Box(-0.1, 0.7, (1,), np.float32), lambda a: 0.6 - a, id="inexact"),
        pytest.param(spaces.MultiDiscrete([2, 3]), [1, 0], id="unequal entries"),
        pytest.param(spaces.MultiDiscrete([3, 3]), lambda a: a + 1, id="out of range"),
        pytest.param(spaces.MultiBinary(2), [1, -1], id="signs of bits"),
        pytest.param(spaces.Discrete(3, start=1), [1, 2, 0], id="counted from 0"),
        pytest.param(spaces.Discrete(2), None, id="no permutation"),
    ],
)
def test_what_moves_actions_in_no_way_that_keeps_the_space_is_refused(space, action_map):
    with pytest.raises(SymmetryError, match="'g'") as caught:
        Symmetry.from_generators(FLOATS, space, {"g": (np.negative, action_map)})
    assert "\n" not in str(caught.value)
    assert "observation map" not in str(caught.value)


@pytest.mark.parametrize(
    ("space", "action_map"),
    [
        (spaces.Discrete(3), [1, 2, 0]),
        (spaces.Box(-1, 1, (3,)), [1, 2, 0]),
        (spaces.MultiDiscrete([3, 2]), lambda a: np.array([(a[0] + 1) % 3, a[1]])),
        (spaces.MultiBinary(3), [1, 2, 0]),
    ],
)
def test_actions_of_another_order_than_observations_are_no_homomorphism(space, action_map):
    with pytest.raises(SymmetryError, match="not a homomorphism"):
        Symmetry.from_generators(FLOATS, space, {"g": (np.negative, action_map)})
    with pytest.raises(SymmetryError, match="not a homomorphism"):
        Symmetry.from_generators(FLOATS, space, {"g": (None, action_map)})


def test_actions_may_move_less_than_observations_do():
    symmetry = Symmetry.from_generators(
        PLANE, BOX, {"r": (rotation(90), [-1, -1]), "s": ([1, -1], [1, 0])}
    )
    assert symmetry.group.order == 8
    assert np.array_equal(symmetry.transform_action("r²", np.array([1.0, 2.0])), [1, 2])


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (spaces.Discrete(3), -1),
        (spaces.Discrete(3), 3),
        (spaces.Discrete(3), 0.5),
        (spaces.Discrete(3, start=2), 0),
        (spaces.Discrete(3), [0, 1, 7]),
        (spaces.Discrete(3), torch.tensor([0, -2])),
        (spaces.Discrete(3), "1"),
        (spaces.Discrete(3), None),
        (spaces.Discrete(3), float("nan")),
        (spaces.MultiDiscrete([2, 3]), [2, 0]),
        (spaces.MultiDiscrete([2, 3]), np.array([[0, 0], [0, -1]])),
        (spaces.MultiBinary(2), [0, 2]),
        (spaces.Box(-1, 1, (2,)), [None, 0.5]),
        (spaces.Box(-1, 1, (2,)), ["0", "1"]),
        (spaces.Box(0, 255, (2,), np.uint8), [3, 300]),
    ],
)
def test_an_action_that_is_not_of_the_space_is_refused(space, action):
    symmetry = Symmetry.trivial(FLOATS, space)
    with pytest.raises(SymmetryError, match="action"):
        symmetry.transform_action(0, action)
    with pytest.raises(SymmetryError, match="observation"):
        Symmetry.trivial(space, spaces.Discrete(2)).transform_observation(0, action)


def test_a_refused_action_is_named():
    symmetry = Symmetry.trivial(FLOATS, spaces.Discrete(3))
    with pytest.raises(SymmetryError, match=r"^-1 is not a value of the action, .* 0 … 2$"):
        symmetry.transform_action(0, -1)


@given(st.lists(st.integers(-(2**40), 2**40), min_size=2, max_size=2))
@property_based
def test_whole_numbers_move_as_the_floats_they_are(numbers):
    symmetry = Symmetry.from_generators(
        PLANE, spaces.Discrete(6), {"r": (TURN, [1, 2, 3, 4, 5, 0])}
    )
    exactly = symmetry.transform_observation("r", np.array(numbers, dtype=np.float32))
    for given_as in (
        numbers,
        np.array(numbers),
        np.array(numbers, dtype=object),
        torch.tensor(numbers),
    ):
        moved = symmetry.transform_observation("r", given_as)
        assert np.array_equal(moved, exactly)
        assert str(moved.dtype).endswith("float32")
    orbit = symmetry.orbit(torch.tensor([numbers]))
    assert torch.equal(orbit, symmetry.orbit(torch.tensor([numbers], dtype=torch.float32)))


@pytest.mark.parametrize(
    "order", [["pos", "acc", "vel"], ["acc", "vel", "pos"], ["vel", "pos", "acc"]]
)
def test_a_symmetry_fits_a_dict_whose_keys_stand_in_another_order(order):
    parts = {"vel": BOX, "acc": BOX, "pos": FLOATS}
    maps = {"vel": [1, 0], "acc": [-1, 1], "pos": None}
    first = Symmetry.from_generators(
        spaces.Dict(list(parts.items())), spaces.Discrete(2), {"m": (maps, [1, 0])}
    )
    turned = spaces.Dict([(key, parts[key]) for key in order])
    carried = first.carried_to(turned)
    assert list(carried.observation_space.spaces) == order
    assert (
        carried
        == first
        == Symmetry.from_generators(turned, spaces.Discrete(2), {"m": (maps, [1, 0])})
    )
    other = {"vel": [-1, 1], "acc": [1, 0], "pos": None}
    assert first != Symmetry.from_generators(turned, spaces.Discrete(2), {"m": (other, [1, 0])})
    observation = turned.sample()
    moved = carried.transform_observation("m", observation)
    assert list(moved) == list(observation)
    for key, part in first.transform_observation("m", observation).items():
        assert np.array_equal(moved[key], part)


@pytest.mark.parametrize("radians", [1.0, 10.0, 355.0])
def test_a_rotation_by_whole_radians_does_not_close(radians):
    with pytest.raises(SymmetryError, match="finite"):
        Symmetry.from_generators(
            PLANE, spaces.Discrete(2), {"r": (rotation(np.rad2deg(radians)), [0, 1])}
        )


@pytest.mark.long
@pytest.mark.parametrize(("size", "apart"), [(1e-5, 1e-3), (1e6, 1e-5)])
def test_generators_whose_offsets_differ_a_little_are_not_one(size, apart):
    generators = {
        "a": (lambda x: size - x, [0, 1]),
        "b": (lambda x: size * (1 + apart) - x, [0, 1]),
    }
    with pytest.raises(SymmetryError, match="do not close"):
        Symmetry.from_generators(FLOATS, spaces.Discrete(2), generators)
    with pytest.raises(SymmetryError, match="do not close"):
        Symmetry.from_generators(
            PLANE,
            spaces.Discrete(2),
            {
                name: (lambda x, c=c: TURN @ (x - c) + c, [0, 1])
                for name, c in (("a", size), ("b", size * (1 + apart)))
            },
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("order", "centre"), [(3, 1e4), (12, 1e4), (60, 0)])
def test_rotations_in_either_precision_close_at_their_order(dtype, order, centre):
    matrix = rotation(360 / order).astype(dtype)
    stretched = np.diag([1000.0, 1.0]) @ matrix @ np.diag([0.001, 1.0])
    for turn in (matrix, stretched):
        symmetry = Symmetry.from_generators(
            PLANE, spaces.Discrete(1), {"r": (lambda x, t=turn: t @ (x - centre) + centre, [0])}
        )
        assert symmetry.group.order == order


def test_a_generator_of_large_order_warns_once():
    with pytest.warns(EquirlWarning, match="order 100") as caught:
        Symmetry.from_generators(PLANE, spaces.Discrete(1), {"r": (rotation(3.6), [0])})
    assert len(caught) == 1
