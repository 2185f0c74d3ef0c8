"""Symmetries found in MuJoCo models hold step by step; what is broken is named."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

mujoco = pytest.importorskip("mujoco", reason="needs equirl[mujoco]")

from equirl.envs.mujoco import deviation, model_symmetries  # noqa: E402
from equirl.errors import SymmetryError  # noqa: E402

ASSETS = Path(str(importlib.util.find_spec("gymnasium").origin)).parent / "envs/mujoco/assets"  # type: ignore[union-attr]


def asset(name: str) -> Any:
    return mujoco.MjModel.from_xml_path(str(ASSETS / f"{name}.xml"))


def suite(name: str) -> Any:
    found = importlib.util.find_spec("dm_control")
    if found is None or found.origin is None:
        pytest.skip("dm_control is not installed")
    spec = mujoco.MjSpec.from_file(str(Path(found.origin).parent / f"{name}.xml"))
    if name == "suite/quadruped":  # as the package's own task does on flat ground
        spec.delete(spec.geom("terrain"))
        spec.delete(spec.body("ball"))
    return spec.compile()


@pytest.mark.parametrize(
    ("name", "generators"),
    [
        ("ant", ["mirror_y", "turn_90"]),
        ("walker2d_v5", ["exchange_thigh_thigh_left"]),
        ("swimmer", ["mirror_y"]),
        ("reacher", ["mirror_y"]),
        ("hopper", []),
        ("half_cheetah", []),
    ],
)
def test_generators_of_gymnasiums_models_are_exact(name: str, generators: list[str]) -> None:
    model = asset(name)
    found = model_symmetries(model)
    assert list(found.generators) == generators
    for generator in found.generators.values():
        assert deviation(model, generator, steps=5) < 1e-10


@pytest.mark.parametrize("name", ["quadruped", "fish", "point_mass", "walker", "reacher"])
def test_generators_of_dm_controls_models_are_exact(name: str) -> None:
    model = suite(f"suite/{name}")
    found = model_symmetries(model)
    assert found.generators
    for generator in found.generators.values():
        assert deviation(model, generator, steps=3) < 1e-10


@pytest.mark.parametrize(
    ("name", "candidate", "part"),
    [
        ("suite/humanoid_CMU", "mirror_x", "axis of geom 'rhipjoint'"),  # by one per cent
        ("third_party/kinova/jaco_arm", "mirror_x", "place of geom 'base'"),
    ],
)
def test_models_of_dm_control_without_a_symmetry(name: str, candidate: str, part: str) -> None:
    found = model_symmetries(suite(name))
    assert not found.generators
    assert part in found.refused[candidate]


def test_ants_mirror_exchanges_legs_one_and_four() -> None:
    model = asset("ant")
    mirror = model_symmetries(model).generators["mirror_y"]
    qpos = np.arange(float(model.nq))
    hips = [model.joint(f"hip_{leg}").qposadr[0] for leg in (1, 2, 3, 4)]
    ankles = [hip + 1 for hip in hips]
    np.testing.assert_array_equal(mirror.qpos(qpos)[hips], -qpos[hips][::-1])
    np.testing.assert_array_equal(mirror.qpos(qpos)[ankles], qpos[ankles][::-1])


@pytest.mark.parametrize(
    ("name", "candidate", "names"),
    [
        ("walker2d", "exchange_thigh_thigh_left", ["friction", "foot_left_geom", "0.9", "1.9"]),
        ("humanoid", "mirror_y", ["armature", "left_hip_y", "right_hip_y"]),
        ("inverted_pendulum", "mirror_x", ["cpole", "0.0005"]),
        ("inverted_double_pendulum", "mirror_x", ["gravity", "1.00e-05"]),
    ],
)
def test_what_breaks_a_symmetry_is_named(name: str, candidate: str, names: list[str]) -> None:
    refused = model_symmetries(asset(name)).refused[candidate]
    assert [part for part in names if part not in refused] == []


TWO_ARMED = """
<mujoco><option gravity="0 0 -9.81" {option}/>
<worldbody><geom type="plane" size="5 5 .1"/>
<body name="torso" pos="0 0 {height}"><freejoint/><geom size=".2 .1 .1" type="box"/>
  {arms}
</body></worldbody>
<actuator>{motors}</actuator></mujoco>
"""

ARM = """
<body name="arm{side}" pos="{x} {y} 0" quat="1 {roll} {tilt} {yaw}">
  <joint name="hinge{side}" axis="{ax} {ay} {az}" range="{low} {high}" springref="{spring}"
    stiffness="{stiffness} {square} 2" actuatorfrcrange="{weakest} {strongest}"/>
  <geom type="capsule" size=".04" fromto="0 0 0 .2 {bend} -.1" mass="{mass}"/>
</body>"""

small = st.floats(-0.4, 0.4).map(lambda x: round(x, 3))


@st.composite
def arms(draw: st.DrawFn) -> tuple[str, str]:
    """A left and a right arm, reflected in the plane y = 0, as XML; and the two motors."""
    p = {key: draw(small) for key in ["x", "roll", "tilt", "yaw", "ax", "ay", "spring", "bend"]}
    p |= {"y": 0.1 + abs(draw(small)), "az": 1.0, "low": -30, "high": 50}
    p |= {"stiffness": abs(draw(small)), "mass": 0.1 + abs(draw(small))}
    p |= {"square": draw(small), "weakest": -0.3, "strongest": 0.5}
    q = p | {key: -p[key] for key in ("y", "roll", "yaw", "bend")}
    # The axis of a hinge is a pseudovector: (-x, y, -z) turns alike, (x, -y, z) the other way.
    same_way = draw(st.booleans())
    q |= {"ax": -p["ax"], "az": -1.0} if same_way else {"ay": -p["ay"]}
    if not same_way:
        q |= {"low": -50, "high": 30, "spring": -p["spring"], "square": -p["square"]}
        q |= {"weakest": -0.5, "strongest": 0.3}
    motors = "".join(
        f'<position joint="hinge{side}" kp="3" ctrlrange="{low} {high}" ctrllimited="true"/>'
        for side, (low, high) in {"L": (-1, 2), "R": (-1, 2) if same_way else (-2, 1)}.items()
    )
    return ARM.format(side="L", **p) + ARM.format(side="R", **q), motors


@given(arms(), st.sampled_from([0.1, 0.5]), st.sampled_from(["", 'cone="elliptic"']))
@settings(max_examples=12, deadline=None)
def test_a_robot_built_as_its_own_reflection_is_found(
    built: tuple[str, str], height: float, option: str
) -> None:
    xml = TWO_ARMED.format(arms=built[0], motors=built[1], height=height, option=option)
    model = mujoco.MjModel.from_xml_string(xml)
    mirror = model_symmetries(model).generators["mirror_y"]
    assert deviation(model, mirror, steps=3) < 1e-10
    left, right = (model.body(f"arm{side}").id for side in "LR")
    assert mirror.bodies[left] == right


@pytest.mark.parametrize(
    "field",
    [
        "geom_friction",
        "body_mass",
        "dof_armature",
        "jnt_stiffness",
        "jnt_stiffnesspoly",
        "jnt_actfrcrange",
        "actuator_biasprm",
    ],
)
def test_one_weaker_side_is_no_reflection(field: str) -> None:
    motors = "".join(f'<position joint="hinge{side}" kp="3"/>' for side in "LR")
    p = dict.fromkeys(["x", "roll", "tilt", "yaw", "ax", "ay", "spring", "bend"], 0.1) | {
        "y": 0.2, "az": 1, "low": -30, "high": 50, "stiffness": 1, "mass": 1, "square": 1,
        "weakest": -1, "strongest": 2,
    }  # fmt: skip
    q = p | {"y": -0.2, "roll": -0.1, "yaw": -0.1, "bend": -0.1, "ax": -0.1, "az": -1}
    both = ARM.format(side="L", **p) + ARM.format(side="R", **q)
    xml = TWO_ARMED.format(arms=both, motors=motors, height=0.5, option="")
    model = mujoco.MjModel.from_xml_string(xml)
    assert "mirror_y" in model_symmetries(model).generators
    values = getattr(model, field)
    values[-1] += 0.1 * np.maximum(np.abs(values[-1]), 0.1)
    found = model_symmetries(model)
    assert not found.generators
    assert any(name in found.refused["mirror_y"] for name in ("R'", "L'", "actuator"))


def test_thirds_of_a_turn_need_an_elliptic_cone_where_there_is_friction() -> None:
    legs = "".join(
        f'<body name="leg{k}" pos="{np.cos(a):.17g} {np.sin(a):.17g} 0" '
        f'euler="0 0 {120 * k}"><joint name="knee{k}" axis="0 1 0"/>'
        '<geom type="capsule" size=".05" fromto="0 0 0 .5 0 -.3"/></body>'
        for k, a in enumerate(2 * np.pi * np.arange(3) / 3)
    )
    xml = (
        '<mujoco><option cone="{cone}"/><worldbody><geom type="plane" size="9 9 .1"/>'
        '<body name="hub" pos="0 0 .4"><freejoint/><geom size=".2" contype="0" conaffinity="0"/>'
        f"{legs}</body></worldbody></mujoco>"
    )
    model = mujoco.MjModel.from_xml_string(xml.replace("{cone}", "elliptic"))
    turn = model_symmetries(model).generators["turn_120"]
    assert deviation(model, turn, steps=3) < 1e-10
    found = model_symmetries(mujoco.MjModel.from_xml_string(xml.replace("{cone}", "pyramidal")))
    assert list(found.generators) == ["mirror_y"]
    assert "pyramid" in found.refused["turn_120"]


BALL = """<mujoco><option cone="{cone}" {option}><flag override="{override}"/></option>
<worldbody><geom name="floor" type="plane" size="5 5 1"/>
<body pos="0 0 .1"><freejoint/><geom name="ball" size=".1"/></body></worldbody>
<contact><pair geom1="floor" geom2="ball" condim="{condim}" friction="{friction}"/></contact>
</mujoco>"""


@pytest.mark.parametrize("cone", ["elliptic", "pyramidal"])
@pytest.mark.parametrize(
    ("condim", "friction", "option", "turns"),
    [
        (3, "1 1 .1 .1 .1", "", True),
        (3, "1 .1 .1 .1 .1", "", False),
        (6, "1 1 .1 .1 .2", "", False),
        (3, "1 1 .1 .1 .2", "", True),  # rolling has no friction here
        (3, "1 1 .1 .1 .1", 'o_friction="1 .1 .1 .1 .1"', False),
    ],
)
def test_a_turn_needs_the_same_friction_along_both_tangents(
    cone: str, condim: int, friction: str, option: str, turns: bool
) -> None:
    override = "enable" if option else "disable"
    model = mujoco.MjModel.from_xml_string(
        BALL.format(cone=cone, condim=condim, friction=friction, option=option, override=override)
    )
    found = model_symmetries(model)
    assert ("turn_90" in found.generators) == turns
    assert turns or "along one tangent" in found.refused["turn_90"]
    assert "mirror_y" in found.generators
    for generator in found.generators.values():  # rolling and sliding on the floor
        one, other = mujoco.MjData(model), mujoco.MjData(model)
        one.qvel[:] = np.linspace(0.5, -0.4, model.nv)
        other.qpos[:], other.qvel[:] = generator.qpos(one.qpos), generator.qvel(one.qvel)
        for _ in range(20):
            mujoco.mj_step(model, one)
            mujoco.mj_step(model, other)
        np.testing.assert_allclose(generator.qvel(one.qvel), other.qvel, atol=1e-10)


CART = """<mujoco><worldbody><body>
<joint name="cart" type="slide" axis="1 0 0" {joint}/><geom size=".1"/></body></worldbody>
<tendon><fixed name="rope" {tendon}><joint joint="cart" coef="1"/></fixed></tendon>
<actuator><motor {on}/></actuator></mujoco>"""


@pytest.mark.parametrize(
    ("forces", "field"),
    [
        ('actuatorfrcrange="-2 5"', "actfrcrange"),
        ('actuatorfrcrange="-5 5"', ""),
        ('stiffness="1 2 3"', "stiffnesspoly"),
        ('stiffness="1 0 3"', ""),
    ],
)
@pytest.mark.parametrize("part", ["joint", "tendon"])
def test_what_is_stronger_one_way_than_the_other_has_no_mirror(
    part: str, forces: str, field: str
) -> None:
    spring_at_zero = 'springlength="0"' if part == "tendon" else ""
    own = {"joint": "", "tendon": "", part: f"{forces} {spring_at_zero}"}
    on = 'tendon="rope"' if part == "tendon" else 'joint="cart"'
    found = model_symmetries(mujoco.MjModel.from_xml_string(CART.format(on=on, **own)))
    assert ("mirror_x" in found.generators) == (not field)
    assert field in found.refused.get("mirror_x", "")


JOINTED = '<body name="{}" pos="{} 0 0"><joint name="j{}"/><geom size=".1"/></body>'


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ('<worldbody><body mocap="true" name="hand"/></worldbody>', "mocap"),
        ('<equality><weld body1="a" body2="b" name="glue"/></equality>', "glue"),
        (
            '<worldbody><site name="s"/></worldbody><tendon><spatial name="rope"><site site="s"/>'
            '<site site="t"/></spatial></tendon>',
            "rope",
        ),
        ('<actuator><general name="jet" site="t"/></actuator>', "jet"),
        (
            '<actuator><general name="muscles" joint="j1" dyntype="user" actdim="3"/></actuator>',
            "muscles",
        ),
        (
            '<worldbody><geom name="belt" size="1" surfacevel="1 0 0"/></worldbody>',
            "belt",
        ),
    ],
)
def test_a_model_that_is_not_understood_is_refused_by_name(extra: str, named: str) -> None:
    bodies = JOINTED.format("a", 1, 1) + JOINTED.format("b", -1, 2)
    xml = f'<mujoco><worldbody>{bodies}<site name="t" pos="0 0 1"/></worldbody>{extra}</mujoco>'
    with pytest.raises(SymmetryError, match=named):
        model_symmetries(mujoco.MjModel.from_xml_string(xml))


def test_fixed_tendons_and_joint_equalities_are_mapped() -> None:
    bodies = JOINTED.format("a", 1, 1) + JOINTED.format("b", -1, 2)
    xml = """<mujoco><worldbody>{}</worldbody>
    <tendon><fixed name="sum" stiffness="2" springlength="{}"><joint joint="j1" coef="1"/>
      <joint joint="j2" coef="{}"/></fixed></tendon>
    <equality><joint joint1="j1" joint2="j2" polycoef="0 -1 0 {} 0"/></equality>
    <actuator><motor tendon="sum"/></actuator></mujoco>"""
    model = mujoco.MjModel.from_xml_string(xml.format(bodies, 0, 1, 0))
    mirror = model_symmetries(model).generators["mirror_x"]
    assert mirror.ctrl(np.ones(1)) == -1
    assert deviation(model, mirror, steps=3) < 1e-10
    for other in ((0.3, 1, 0), (0, 2, 0), (0, 1, 0.5)):
        found = model_symmetries(mujoco.MjModel.from_xml_string(xml.format(bodies, *other)))
        assert "mirror_x" in {**found.generators, **found.refused}
        for generator in found.generators.values():
            assert deviation(found.model, generator, steps=3) < 1e-10
