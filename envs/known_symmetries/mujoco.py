"""Gymnasium's MuJoCo robots: gymnasium/envs/mujoco/ (`pip install "equirl[mujoco]"`).

Names of bodies and joints mislead ("front_left_leg" stands left, "back_leg" right); what counts is
that moved states go on as they should, which `equirl check` compares to rounding. By this three
models are not symmetric: Walker2d-v4, whose feet differ in friction; InvertedPendulum, whose pole
leans by 1.7 mrad; and Humanoid, whose right hip has less armature than the left one (0.008 and
0.01) and whose left knee alone has a spring. The last two are registered all the same, as little is
missing: `straight_pole` and `even_legs` make them symmetric, as ``env=inverted_pendulum`` and
``env=humanoid`` do. All maps here are mirrors, their own inverses.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from equirl.envs.registry import Declaration, register_symmetry
from equirl.errors import SymmetryError
from equirl.symmetry import Generators

Vector = npt.NDArray[Any]


@dataclass(frozen=True)
class Mirror:
    """A signed permutation: entry i of the image is ``signs[i]`` times entry ``order[i]``.

    Args:
        order: which entry comes where.
        signs: 1 or -1.
    """

    order: tuple[int, ...]
    signs: tuple[int, ...]

    def __call__(self, vector: Vector) -> Vector:
        """The image of one vector."""
        moved: Vector = np.array(self.signs) * vector[list(self.order)]
        return moved

    @property
    def size(self) -> int:
        """Entries of the vectors it takes."""
        return len(self.order)


def signs(*given: int) -> Mirror:
    """Entries that stay where they are."""
    return Mirror(tuple(range(len(given))), given)


def beside(*parts: Mirror) -> Mirror:
    """Vectors one after the other, each moved by its own mirror."""
    starts = np.cumsum([0, *(part.size for part in parts)])
    return Mirror(
        tuple(int(s) + i for s, part in zip(starts, parts, strict=False) for i in part.order),
        tuple(sign for part in parts for sign in part.signs),
    )


def for_each(order: Sequence[int], part: Mirror) -> Mirror:
    """Equal vectors one after the other, exchanged by ``order`` and each moved by ``part``."""
    return Mirror(
        tuple(part.size * k + i for k in order for i in part.order), part.signs * len(order)
    )


def without_first(mirror: Mirror, count: int) -> Mirror:
    """Of what is left when the first entries, which stay in their places, are taken away."""
    return Mirror(tuple(i - count for i in mirror.order[count:]), mirror.signs[count:])


def declaration(name: str, observation: Mirror, action: Mirror) -> Declaration:
    """One generator, for the observations that an environment has by default."""

    def declared(
        observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> Generators:
        shapes = (observation_space.shape, action_space.shape)
        if shapes != ((observation.size,), (action.size,)):
            raise SymmetryError(
                f"the symmetry is known for observations of {observation.size} numbers and "
                f"{action.size} actions, as the environment has by default, got "
                f"{observation_space} and {action_space}: declare it for these"
            )
        return {name: (observation, action)}

    return declared


def state_map(position: Mirror, velocity: Mirror) -> Callable[[Any], None]:
    """Moves joints, their velocities, and the solver's starting point, which steers rounding."""

    def move(env: Any) -> None:
        data = env.data
        data.qpos[:] = position(data.qpos)
        data.qvel[:] = velocity(data.qvel)
        data.qacc_warmstart[:] = velocity(data.qacc_warmstart)

    return move


def straight_pole(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """An InvertedPendulum whose pole stands straight; its end is 1 mm aside otherwise."""
    model = _model(env)
    model.geom("cpole").pos, model.geom("cpole").quat = (0, 0, 0.3), (1, 0, 0, 0)
    pole = model.body("pole").id
    model.body_ipos[pole], model.body_iquat[pole] = (0, 0, 0.3), (1, 0, 0, 0)
    return _derived_anew(env)


def even_legs(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """A Humanoid whose left leg is as its right one."""
    model = _model(env)
    for joint in ("hip_y", "knee"):
        left, right = model.joint(f"left_{joint}"), model.joint(f"right_{joint}")
        left.armature, left.stiffness = right.armature, right.stiffness
    return _derived_anew(env)


def _model(env: gym.Env[Any, Any]) -> Any:
    unwrapped: Any = env.unwrapped
    return unwrapped.model


def _derived_anew(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
    """What MuJoCo derives from the numbers of a model."""
    unwrapped: Any = env.unwrapped
    importlib.import_module("mujoco").mj_setConst(unwrapped.model, unwrapped.data)
    return env


OF_THE_MODEL = ("xml_file",)
"""What every robot is made with that may make another one of it."""

# inverted_pendulum.xml: slider, hinge; behind `straight_pole`.
register_symmetry(
    "InvertedPendulum-v5",
    declaration("mirror", signs(-1, -1, -1, -1), signs(-1)),
    state_maps={"mirror": state_map(signs(-1, -1), signs(-1, -1))},
    not_with=OF_THE_MODEL,
)

# inverted_double_pendulum.xml: x, sin θ, cos θ of both hinges, velocities, the force of the rail's
# end. Gravity leans by 1e-6.
register_symmetry(
    "InvertedDoublePendulum-v5",
    declaration("mirror", signs(-1, -1, -1, 1, 1, -1, -1, -1, -1), signs(-1)),
    state_maps={"mirror": state_map(signs(-1, -1, -1), signs(-1, -1, -1))},
    not_with=OF_THE_MODEL,
)

# reacher.xml: cos, sin of both joints, target x, y, joint velocities, fingertip - target x, y;
# mirrored about the x axis.
register_symmetry(
    "Reacher-v5",
    declaration("mirror", signs(1, 1, -1, -1, 1, -1, -1, -1, 1, -1), signs(-1, -1)),
    state_maps={"mirror": state_map(signs(-1, -1, 1, -1), signs(-1, -1, 1, -1))},
    not_with=OF_THE_MODEL,
)

# swimmer.xml: (x, y,) heading and two joints, then their velocities; forward is along x.
_SWIMMER = signs(1, -1, -1, -1, -1)
register_symmetry(
    "Swimmer-v5",
    declaration("mirror", beside(without_first(_SWIMMER, 2), _SWIMMER), signs(-1, -1)),
    state_maps={"mirror": state_map(_SWIMMER, _SWIMMER)},
    not_with=OF_THE_MODEL,
)

# walker2d_v5.xml: (x,) z, angle, then thigh, leg, foot of both legs; then the velocities.
_LEGS = for_each((1, 0), signs(1, 1, 1))
_WALKER = beside(signs(1, 1, 1), _LEGS)
register_symmetry(
    "Walker2d-v5",
    declaration("legs", beside(without_first(_WALKER, 1), _WALKER), _LEGS),
    state_maps={"legs": state_map(_WALKER, _WALKER)},
    not_with=OF_THE_MODEL,
)

# A free joint seen in a mirror across the plane y = 0: place, orientation as a quaternion w, x, y,
# z; velocity, angular velocity. Torques and angular velocities are axial vectors.
_POLAR, _AXIAL = signs(1, -1, 1), signs(-1, 1, -1)
_PLACE = beside(_POLAR, signs(1, -1, 1, -1))
_MOTION = beside(_POLAR, _AXIAL)
_SPATIAL = beside(_AXIAL, _POLAR)
"""MuJoCo's spatial vectors: the rotational part first."""

# ant.xml: legs 1 to 4 stand at (+, +), (-, +), (-, -), (+, -), each a hip about z and an ankle,
# whose axes are mirror images of each other. Motors are of legs 4, 1, 2, 3.
_HIP_ANKLE = signs(-1, 1)
_ANT_JOINTS = for_each((3, 2, 1, 0), _HIP_ANKLE)
_ANT_PLACE, _ANT_MOTION = beside(_PLACE, _ANT_JOINTS), beside(_MOTION, _ANT_JOINTS)
_ANT_FORCES = for_each((0, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3), _SPATIAL)
register_symmetry(
    "Ant-v5",
    declaration(
        "mirror",
        beside(without_first(_ANT_PLACE, 2), _ANT_MOTION, _ANT_FORCES),
        for_each((1, 0, 3, 2), _HIP_ANKLE),
    ),
    state_maps={"mirror": state_map(_ANT_PLACE, _ANT_MOTION)},
    # The way of a leg is not that of the torso; forces may be cut off on one side alone.
    not_with=(*OF_THE_MODEL, "main_body", "contact_force_range"),
)

# humanoid.xml, behind `even_legs`: abdomen z, y, x; right and left hip x, z, y and knee; right and
# left shoulder 1, 2 and elbow. Bodies: torso, lower waist, pelvis, then thigh, shin and foot, upper
# and lower arm.
_LIMBS = beside(for_each((1, 0), signs(1, 1, 1, 1)), for_each((1, 0), signs(-1, -1, 1)))
_BODY_JOINTS = beside(signs(-1, 1, -1), _LIMBS)
_HUMANOID_PLACE, _HUMANOID_MOTION = beside(_PLACE, _BODY_JOINTS), beside(_MOTION, _BODY_JOINTS)
_BODIES = (0, 1, 2, 6, 7, 8, 3, 4, 5, 11, 12, 9, 10)
# Ixx, Iyy, Izz, Ixy, Ixz, Iyz, the mass times the centre, the mass.
_INERTIA = signs(1, 1, 1, -1, 1, -1, 1, -1, 1, 1)
register_symmetry(
    "Humanoid-v5",
    declaration(
        "mirror",
        beside(
            without_first(_HUMANOID_PLACE, 2),
            _HUMANOID_MOTION,
            for_each(_BODIES, _INERTIA),
            for_each(_BODIES, _SPATIAL),
            _BODY_JOINTS,
            for_each(_BODIES, _SPATIAL),
        ),
        beside(signs(1, -1, -1), _LIMBS),
    ),
    state_maps={"mirror": state_map(_HUMANOID_PLACE, _HUMANOID_MOTION)},
    not_with=OF_THE_MODEL,
)
