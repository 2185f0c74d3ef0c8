"""Mirrors from the names of entries: every name is matched once, or the mistake is named."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

import equirl
from equirl import Symmetry, mirror_by_names
from equirl.declaring import describe_action
from equirl.errors import SymmetryError
from shared.symmetry_cases import property_based, rotation, vector

SIDES = ("left", "right")
words = st.text("abcxyz", min_size=1, max_size=4)


@given(
    st.lists(words, min_size=1, max_size=5, unique=True),
    st.lists(words, max_size=3, unique=True),
    st.sampled_from(["{0}_{1}", "{1}.{0}", "{1}/{0}_x", "{1} {0}", "{0}1{1}"]),
    st.sampled_from([("left", "right"), ("FL", "FR"), ("l", "r"), ("1", "2"), ("a_l", "a_r")]),
    st.data(),
)
@property_based
def test_partners_change_places_and_the_mirror_twice_is_the_identity(
    parts, others, form, sides, data
):
    if form == "{0}1{1}" and sides[0] == "1":
        form = "{0}_{1}"
    pairs = [tuple(form.format(side, part + "q") for side in sides) for part in parts]
    names = data.draw(st.permutations([*(n for p in pairs for n in p), *(o + "q" for o in others)]))
    negated = data.draw(st.sets(st.sampled_from(pairs)))
    mirror = mirror_by_names(names, [sides], [name for pair in negated for name in pair])
    partner = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    x = np.arange(1.0, len(names) + 1)
    moved = mirror(x)
    for i, name in enumerate(names):
        sign = -1 if any(name in pair for pair in negated) else 1
        assert moved[i] == sign * x[names.index(partner.get(name, name))]
    assert (mirror(moved) == x).all()


@pytest.mark.parametrize(
    ("side", "other", "name", "partner"),
    [
        ("left", "right", "left_leg", "right_leg"),
        ("left", "right", "frontLeftHip2", "frontRightHip2"),
        ("left", "right", "LEFT-ankle", "RIGHT-ankle"),
        ("left", "right", "upleft_leg", None),
        ("left", "right", "leftover", None),
        ("left", "right", "left_leg_left_joint", "right_leg_right_joint"),
        ("FL", "FR", "FL_hip_joint", "FR_hip_joint"),
        ("FL", "FR", "FLHip", "FRHip"),
        ("FL", "FR", "FLAT_hip", None),
        ("L", "R", "x.L", "x.R"),
        ("L", "R", "LHip", "RHip"),
        ("1", "4", "hip_1", "hip_4"),
        ("1", "4", "hip1", "hip4"),
        ("1", "4", "hip_14", None),
        ("front_left", "back_right", "front_left/knee", "back_right/knee"),
        ("*_l", "*_r", "hip_l", "hip_r"),
        ("*_l", "*_r", "l_hip", None),
        ("joint[0]", "joint[1]", "joint[0]", "joint[1]"),
    ],
)
def test_a_side_is_matched_as_whole_words(side, other, name, partner):
    present = [f"{side}_there".replace("*", "x"), f"{other}_there".replace("*", "x")]
    if "*" in side:
        present = [side.replace("*", "x"), other.replace("*", "x")]
    names = [*present, name, *([partner] if partner else [])]
    mirror = mirror_by_names(names, [(side, other)])
    assert names[mirror.index[2]] == (partner or name)


NAMES = ["left_hip", "right_hip", "torso_roll", "height"]


@pytest.mark.parametrize(
    ("names", "swap", "negate", "said"),
    [
        (["left_hip", "right_arm"], [SIDES], [], "'left_hip' has no partner: .* 'right_hip'"),
        (["right_hip", "x"], [SIDES], [], "'right_hip' has no partner: .* 'left_hip'"),
        (NAMES, [("front", "back")], [], "swap='front' matches none"),
        (NAMES, [SIDES], ["*_yaw"], r"negate='\*_yaw' matches none"),
        (NAMES, [SIDES], ["roll"], "negate='roll' matches none"),
        (NAMES, [SIDES], ["left_*"], "'left_hip' changes its sign and its partner 'right_hip' do"),
        (["left_right_gap", *NAMES], [SIDES], [], "'left_right_gap' has both sides"),
        (
            [*NAMES, "centre_hip"],
            [SIDES, ("left", "centre")],
            [],
            "'left_hip' would be exchanged with 'right_hip' .* and with 'centre_hip'",
        ),
        (["a", "b", "a"], [], [], r"\['a'\] occur twice"),
        ([], [], [], "at least one"),
        ("left", [SIDES], [], "names must be a list of texts, got 'left'"),
        (["a", 1], [], [], "names must be a list of texts"),
        (NAMES, SIDES, [], "swap must be a list of pairs of texts"),
        (NAMES, 3, [], "swap must be a list of pairs of texts"),
        (NAMES, [("left", "left")], [], "exchanges a side with itself"),
        (NAMES, [("*_l", "_r")], [], r"need the same \* and \?"),
        (NAMES, [("_", "-")], [], "no letter or digit"),
        (NAMES, [SIDES], "*_roll", r"negate must be a list of texts, got '\*_roll'"),
    ],
)
def test_names_that_do_not_make_a_mirror_are_refused(names, swap, negate, said):
    with pytest.raises(SymmetryError, match=said):
        mirror_by_names(names, swap, negate)


def test_a_mirror_is_the_map_of_observations_and_of_actions():
    seen = mirror_by_names(NAMES, [SIDES], ["*_roll"])
    done = mirror_by_names(["turn", "go"], negate=["turn"])
    symmetry = Symmetry.from_generators(
        vector(-1, 1, 4, np.float32), vector(-1, 1, 2, np.float32), {"mirror": (seen, done)}
    )
    x, a = np.array([0.1, 0.2, 0.3, 0.4], np.float32), np.array([0.5, 0.6], np.float32)
    assert (symmetry.transform_observation("mirror", x) == seen(x)).all()
    assert (symmetry.transform_action("mirror", a) == done(a)).all()


def test_a_mirror_of_discrete_actions_is_their_permutation():
    actions = mirror_by_names(["push left", "wait", "push right"], [SIDES])
    symmetry = Symmetry.from_generators(
        vector(-1, 1, 1, np.float32), spaces.Discrete(3), {"mirror": ([-1], actions)}
    )
    assert [int(symmetry.transform_action("mirror", a)) for a in range(3)] == [2, 1, 0]


def test_a_mirror_of_another_size_is_refused():
    mirror = mirror_by_names(NAMES, [SIDES])
    with pytest.raises(SymmetryError, match="4 entries have names, given are 3"):
        Symmetry.from_generators(
            vector(-1, 1, 3, np.float32), spaces.Discrete(2), {"m": (mirror, [1, 0])}
        )


def test_the_mirror_is_printed_as_the_symmetry_that_it_makes_is_described():
    mirror = mirror_by_names(NAMES, [SIDES], ["*_roll"])
    symmetry = Symmetry.from_generators(
        vector(-1, 1, 4, np.float32), spaces.Discrete(2), {"m": (mirror, [1, 0])}
    )
    assert describe_action(symmetry.observations, "m", NAMES) == str(mirror)
    assert equirl.mirror_by_names is mirror_by_names


@pytest.mark.parametrize(
    ("space", "function", "rows"),
    [
        (vector(-1, 1, 2, np.float32), rotation(90), ["[0]    [1]      -", "[1]    [0]      +"]),
        (vector(0, 1, 2, np.float32), lambda x: 1 - x, ["[0]    1 - [0]", "[1]    1 - [1]"]),
        (vector(-1, 1, 2, np.float32), rotation(60), ["[0]    0.5·[0] - 0.866025·[1]"]),
        (spaces.MultiDiscrete([3, 2]), lambda x: [(x[0] + 1) % 3, x[1]], ["0→1, 1→2, 2→0"]),
        (spaces.Box(0, 2, (2,), np.uint8), np.array([0, 2, 1]).__getitem__, ["[0] (1→2, 2→1)"]),
        (
            spaces.Dict(a=vector(-1, 1, 1, np.float32), b=vector(-1, 1, 1, np.float32)),
            lambda o: {"a": -o["b"], "b": -o["a"]},
            ["'a'[0]  'b'[0]   -", "'b'[0]  'a'[0]   -"],
        ),
        (
            spaces.Box(0, 255, (30, 30), np.uint8),
            np.flipud,
            ["[0, 0]", "(700 more entries change)"],
        ),
        (vector(-1, 1, 300, np.float32), [-1] + [1] * 299, ["(299 more entries stay as they are)"]),
    ],
)
def test_any_element_is_described_entry_by_entry(space, function, rows):
    symmetry = Symmetry.from_generators(space, spaces.Discrete(1), {"g": (function, [0])})
    described = describe_action(symmetry.observations, "g")
    for row in rows:
        assert row in described


def test_names_of_another_number_of_entries_are_refused():
    symmetry = Symmetry.trivial(vector(-1, 1, 3, np.float32), spaces.Discrete(2))
    with pytest.raises(SymmetryError, match="3 entries need as many names, got 2"):
        describe_action(symmetry.observations, 0, ["a", "b"])
