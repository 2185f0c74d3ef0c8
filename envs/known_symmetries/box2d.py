"""Gymnasium's Box2D: gymnasium/envs/box2d/ (`pip install "equirl[box2d]"`)."""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from equirl.envs.carry_through import is_transparent
from equirl.envs.carry_through.recognition import loaded_classes
from equirl.envs.registry import register_symmetry
from equirl.errors import SymmetryError
from equirl.symmetry import Generators, Symmetry

Vector = npt.NDArray[Any]


def mirror_lunar_lander_observation(observation: Vector) -> Vector:
    """x, y, dx/dt, dy/dt, angle, angular velocity, and the contact of each leg with the ground."""
    x, y, dx, dy, angle, spin, one_leg, other_leg = observation
    return np.array([-x, y, -dx, dy, -angle, -spin, other_leg, one_leg])


class MirroredDraws:
    """The random numbers of a lander seen in a mirror, from the same generator.

    Every draw is uniform on an interval around 0, or gives the heights of the terrain, so that the
    mirror leaves their distribution as it is.

    Args:
        generator: ``env.np_random``, or another `MirroredDraws`.
    """

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        self._pending = 0

    def uniform(self, low: float, high: float, size: Any = None) -> Any:
        """One number, or the terrain's 12 heights: 11 from left to right and one beside both."""
        drawn = self.generator.uniform(low, high, size)
        if size is not None:
            return np.append(drawn[10::-1], drawn[11:])
        # Numbers come in pairs: the initial push (across, along), then at every step the
        # dispersion of the engines (along, across). What points across changes sign.
        first, self._pending = self._pending == 0, 1 - self._pending
        initial_push = high > 1
        return -drawn if first == initial_push else drawn

    def integers(self, low: int, high: int) -> Any:
        """The number of an episode's first gust, which says nothing of left or right."""
        return self.generator.integers(low, high)


OPPOSITE_GUSTS = 5_181_900
"""As many numbers on, gusts blow the other way, to 5e-5.

A gust is tanh(sin 0.02 k + sin 0.01 πk) of its number k. Both sines change their sign if 0.02 K and
0.01 πK are odd multiples of π; of these K is one, and the other up to 5e-5.
"""


def mirror_lunar_lander(env: Any) -> None:
    """Mirror bodies, terrain and random draws about the middle of the landing pad.

    Box2D solves the joint of one leg before that of the other, starts from the forces of the step
    before, which it does not show, and hides for how long a body has rested. So what follows agrees
    to about 2e-5 in flight (1e-4 just after a reset) and 2e-3 with a leg on the ground, and the
    episode may end by coming to rest up to half a second later. Wind goes on with opposite gusts.
    """
    width = env.helipad_x1 + env.helipad_x2
    height = env.sky_polys[0][2][1]

    def mirrored(point: Any) -> tuple[float, float]:
        return width - point[0], point[1]

    bodies = [env.lander, env.legs[1], env.legs[0]]
    poses = [(mirrored(b.position), -b.angle) for b in bodies]
    motions = [((-b.linearVelocity[0], b.linearVelocity[1]), -b.angularVelocity) for b in bodies]
    contacts = [leg.ground_contact for leg in reversed(env.legs)]

    env.world.DestroyBody(env.moon)
    colors = env.moon.color1, env.moon.color2
    env.moon = env.world.CreateStaticBody()
    env.moon.color1, env.moon.color2 = colors
    env.moon.CreateEdgeFixture(vertices=[(0, 0), (width, 0)], density=0, friction=0.2)
    terrain = [(mirrored(p2), mirrored(p1)) for p1, p2, *_ in reversed(env.sky_polys)]
    for edge in terrain:
        env.moon.CreateEdgeFixture(vertices=edge, density=0, friction=0.1)
    env.sky_polys = [[p1, p2, (p2[0], height), (p1[0], height)] for p1, p2 in terrain]

    for body, pose, (velocity, spin) in zip([env.lander, *env.legs], poses, motions, strict=True):
        body.transform = pose
        body.linearVelocity, body.angularVelocity = velocity, spin
    for leg, contact in zip(env.legs, contacts, strict=True):
        leg.ground_contact = contact
    env.np_random = MirroredDraws(env.np_random)
    if env.enable_wind:
        env.wind_idx = _opposite(env.wind_idx)
        env.torque_idx = _opposite(env.torque_idx)


def _opposite(gust: int) -> int:
    is_moved = gust > OPPOSITE_GUSTS // 2
    return gust - OPPOSITE_GUSTS if is_moved else gust + OPPOSITE_GUSTS


def lunar_lander(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> Generators:
    """Discrete: do nothing, fire left engine, main engine, right engine. Box: main, side engine."""
    action = [0, 3, 2, 1] if isinstance(action_space, spaces.Discrete) else [1, -1]
    return {"mirror": (mirror_lunar_lander_observation, action)}


WALKER = "gymnasium.envs.box2d.bipedal_walker:BipedalWalker"
"""Imported with Box2D alone."""


class EvenHips(gym.Wrapper[Vector, Vector, Vector, Vector], RecordConstructorArgs):
    """A BipedalWalker whose hips are alike: each angle counts from where the leg is upright.

    As it comes, a hip's angle and its limits count from where the leg stood when it was made, 0.05
    rad forward for one and backward for the other, so that equal angles are unequal legs.

    Args:
        env: a BipedalWalker, with no wrapper around it that may change observations or actions.

    Raises:
        SymmetryError: it is not one, or has one.
    """

    def __init__(self, env: gym.Env[Vector, Vector]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        layer: Any = env
        while isinstance(layer, gym.Wrapper) and is_transparent(layer):
            layer = layer.env
        if not isinstance(layer, tuple(loaded_classes([WALKER]))):
            raise SymmetryError(
                "EvenHips writes angles into what a BipedalWalker observes, and "
                f"{type(layer).__name__} is not one: put EvenHips innermost"
            )

    def carry_symmetry(self, symmetry: Symmetry) -> Symmetry:
        """Observations and actions mean the same."""
        return symmetry

    def reset(self, **arguments: Any) -> tuple[Vector, dict[str, Any]]:
        """See `gymnasium.Env`."""
        observation, info = self.env.reset(**arguments)
        walker: Any = self.unwrapped
        for leg, entry in ((0, 4), (2, 9)):
            walker.joints[leg] = _even_hip(walker, leg)
            observation[entry] = walker.joints[leg].angle
        return observation, info


def _even_hip(walker: Any, leg: int) -> Any:
    """The hip of a leg made anew, with angles that count from the upright leg."""
    old, made = walker.joints[leg], importlib.import_module("gymnasium.envs.box2d.bipedal_walker")
    definition = made.revoluteJointDef(
        bodyA=walker.hull,
        bodyB=walker.legs[leg],
        localAnchorA=(0, made.LEG_DOWN),
        localAnchorB=(0, made.LEG_H / 2),
        enableMotor=True,
        enableLimit=True,
        maxMotorTorque=made.MOTORS_TORQUE,
        motorSpeed=old.motorSpeed,
        lowerAngle=-0.8,
        upperAngle=1.1,
    )
    definition.referenceAngle = 0.0
    walker.world.DestroyJoint(old)
    return walker.world.CreateJoint(definition)


def exchange_legs(env: Any) -> None:
    """Let each leg of a BipedalWalker be the other: bodies, joints, impulses, contacts and all.

    Legs that are alike change places in the lists by which the walker knows them. That keeps what
    Box2D does not show (the impulses of the step before, the points of contact), so that what
    follows agrees to the last bit. The order in which Box2D solves the legs goes with them: it is
    part of this state, though play never reaches the other order. It matters, for the solver stops
    before it has converged: of two walkers with the same past, one with its right leg made first,
    joints differ by 0.12 after one step (the median of 60).

    Legs that are not alike keep their places and take over each other's position and motion.
    """
    one, other = env.legs[:2], env.legs[2:]
    if _make_of_leg(env, 0) == _make_of_leg(env, 2):
        for left, right in zip(one, other, strict=True):
            left.color1, right.color1 = right.color1, left.color1
            left.color2, right.color2 = right.color2, left.color2
        env.legs, env.joints = other + one, env.joints[2:] + env.joints[:2]
        env.drawlist = [*env.terrain, *env.legs, env.hull]
        return
    states = [
        ((tuple(b.position), b.angle), tuple(b.linearVelocity), b.angularVelocity)
        for b in other + one
    ]
    for body, (pose, velocity, spin) in zip(one + other, states, strict=True):
        body.transform, body.linearVelocity, body.angularVelocity = pose, velocity, spin
    one[1].ground_contact, other[1].ground_contact = other[1].ground_contact, one[1].ground_contact


def _make_of_leg(env: Any, first: int) -> list[Any]:
    """All that a leg's motion depends on but its state; each step sets the motors anew."""
    made: list[Any] = []
    for joint, body in zip(env.joints[first:][:2], env.legs[first:][:2], strict=True):
        made += [tuple(joint.GetLocalAnchorA()), tuple(joint.GetLocalAnchorB())]
        made += [joint.GetReferenceAngle(), joint.lowerLimit, joint.upperLimit]
        made += [joint.limitEnabled, joint.motorEnabled, joint.collideConnected]
        made += [body.mass, body.inertia, tuple(body.localCenter), body.gravityScale]
        made += [body.linearDamping, body.angularDamping, body.fixedRotation, body.bullet]
        for part in body.fixtures:
            bits = part.filterData
            made += [type(part.shape), part.shape.radius, part.shape.vertices]
            made += [part.friction, part.restitution, part.density, part.sensor]
            made += [bits.categoryBits, bits.maskBits, bits.groupIndex]
    return made


# The terrain is hidden from the observation, but drawn symmetrically about the pad.
for lander in ("LunarLander-v3", "LunarLanderContinuous-v3"):
    register_symmetry(
        lander, lunar_lander, state_maps={"mirror": mirror_lunar_lander}, tolerance=5e-3
    )

# bipedal_walker.py, behind `EvenHips`: the hull's angle, spin, velocity; of each leg hip, its
# speed, knee, its speed, contact with the ground; the lidar. Actions: hip and knee of each leg.
# The tolerance asks for the statistics as well: they see the order that goes with exchanged legs.
_WALKER = [0, 1, 2, 3, 9, 10, 11, 12, 13, 4, 5, 6, 7, 8, *range(14, 24)]
register_symmetry(
    "BipedalWalker-v3",
    {"legs": (lambda observation: observation[_WALKER], lambda action: action[[2, 3, 0, 1]])},
    state_maps={"legs": exchange_legs},
    tolerance=2e-4,
    remark="legs: exact with the order in which Box2D solves them exchanged as well, which play "
    "never does; that order alone moves an observation by 0.12 in a step (docs/checking.md)",
)
