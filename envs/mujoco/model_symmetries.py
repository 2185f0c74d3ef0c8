"""`model_symmetries`: the symmetries of a MuJoCo model, found in the model itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from equirl.envs.mujoco.contacts import require_same_contacts, require_same_impedances
from equirl.envs.mujoco.model_fields import MismatchError, alike, named
from equirl.envs.mujoco.quaternions import Array
from equirl.envs.mujoco.state_maps import AffineMap, position_map, velocity_map
from equirl.envs.mujoco.stepping import converged, deviation
from equirl.envs.mujoco.transmission import Transmission, unknown_transmission
from equirl.envs.mujoco.tree_matching import FREE, Matching
from equirl.errors import SymmetryError

LARGEST_GROUP = 128
"""Elements among which what is generated already is looked up."""

LARGEST_DEVIATION = 1e-6
"""Of a step with a converged solver; what is found lies around 1e-13."""


@dataclass(frozen=True, eq=False)
class ModelGenerator:
    """One symmetry of a model, as maps of what MuJoCo holds.

    Args:
        world: the orthogonal map of the world, ``[3, 3]``.
        bodies: the body that each body becomes, ``[nbody]``.
        qpos: map of positions; signed permutations but where quaternions turn by other than
            quarter turns.
        qvel: map of velocities, accelerations and forces on the degrees of freedom.
        act: map of the actuators' activations.
        ctrl: map of controls, a signed permutation.
    """

    world: Array
    bodies: tuple[int, ...]
    qpos: AffineMap
    qvel: AffineMap
    act: AffineMap
    ctrl: AffineMap

    def after(self, first: ModelGenerator) -> ModelGenerator:
        """The product: ``first``, then this."""
        maps = {
            name: AffineMap(a.matrix @ b.matrix + 0.0, a.matrix @ b.offset + a.offset + 0.0)
            for name in ("qpos", "qvel", "act", "ctrl")
            for a, b in [(getattr(self, name), getattr(first, name))]
        }
        bodies = tuple(self.bodies[b] for b in first.bodies)
        return ModelGenerator(self.world @ first.world, bodies, **maps)

    def acts_as(self, other: ModelGenerator) -> bool:
        """Whether both move states and controls alike; they may differ in what they do to looks."""
        return all(
            alike(one.matrix, two.matrix) and alike(one.offset, two.offset)
            for one, two in zip(self._maps, other._maps, strict=True)
        )

    @property
    def moves_nothing(self) -> bool:
        """Whether it leaves states and controls as they are, as the mirror of a planar robot."""
        return all(
            alike(m.matrix, np.eye(len(m.matrix))) and not m.offset.any() for m in self._maps
        )

    @property
    def _maps(self) -> tuple[AffineMap, ...]:
        return self.qpos, self.qvel, self.act, self.ctrl


@dataclass(frozen=True, eq=False)
class ModelSymmetries:
    """What `model_symmetries` found.

    Args:
        model: the model.
        generators: by name, of the group of all that was found.
        refused: what was tried and is not a symmetry: by name the first difference, or rather the
            one that was reached last.
    """

    model: Any
    generators: Mapping[str, ModelGenerator]
    refused: Mapping[str, str]

    def elements(self) -> dict[str, ModelGenerator]:
        """The group but for the identity, by words in the generators, short ones first.

        Raises:
            SymmetryError: there are too many, such as of angles that grow with every turn.
        """
        found = dict(self.generators)
        for word in (waiting := list(found)):
            for name, generator in self.generators.items():
                product = found[word].after(generator)
                if product.moves_nothing or any(product.acts_as(e) for e in found.values()):
                    continue
                if len(found) >= LARGEST_GROUP:
                    raise SymmetryError(
                        f"the generators {', '.join(self.generators)} make a group of more than "
                        f"{LARGEST_GROUP} elements"
                    )
                found[f"{word}·{name}"] = product
                waiting.append(f"{word}·{name}")
        return found


def model_symmetries(model: Any) -> ModelSymmetries:
    """The reflections and turns of the world under which a model is the same robot.

    Tried are reflections in planes and turns about the axes through the world's origin, those that
    gravity and wind leave alone, and the exchange of equal bodies at one place, such as the two
    legs of a planar walker. Under each, bodies, joints, colliding geoms, inertias, limits, springs,
    tendons, actuators, equality constraints and contact parameters are matched; looks, cameras,
    sites and sensors are not. Free bodies turn with the world; where no mirror is
    found so, their own planes of symmetry are tried too. What is found is then stepped with a
    converged solver beside its image, so that nothing rests on the comparison alone.

    Args:
        model: a `mujoco.MjModel`.

    Raises:
        SymmetryError: the model has something that is not understood (mocap bodies, spatial
            tendons, equality constraints of bodies, conveyor belts, flexes, plugins …).

    Example:
        >>> import mujoco
        >>> xml = '''
        ... <mujoco><worldbody><body>
        ...   <joint name="cart" type="slide" axis="1 0 0"/><geom size=".1"/>
        ...   <body><joint name="pole" axis="0 1 0"/><geom size=".05" pos="0 0 .5"/></body>
        ... </body></worldbody><actuator><motor joint="cart"/></actuator></mujoco>'''
        >>> found = model_symmetries(mujoco.MjModel.from_xml_string(xml))
        >>> list(found.generators)
        ['mirror_x']
        >>> found.generators["mirror_x"].qpos(np.array([0.1, 0.2]))
        array([-0.1, -0.2])
    """
    _check_is_understood(model)
    found: dict[str, ModelGenerator] = {}
    refused: dict[str, str] = {}
    for name, candidate in _candidates(model):
        if candidate.askew and any(np.linalg.det(g.world) < 0 for g in found.values()):
            continue
        try:
            generator = _generator(candidate)
        except MismatchError as error:
            bodies = list(candidate.exchanged)
            if not bodies or error.depth >= 1 + _depth_of(model, bodies[0]):
                refused.setdefault(name, str(error))
            continue
        refused.pop(name, None)
        group = ModelSymmetries(model, found, {}).elements().values()
        if not generator.moves_nothing and not any(generator.acts_as(e) for e in group):
            found[name] = generator
    return ModelSymmetries(model, found, refused)


def _generator(found: Matching) -> ModelGenerator:
    model, world = found.model, found.world
    for name, vector in (("gravity", _gravity(model)), ("wind", model.opt.wind)):
        if not alike(world @ vector, vector):
            raise MismatchError(f"{name} {vector} would become {world @ vector + 0.0}")
    found.search()
    transmission = Transmission(found)
    transmission.search()
    require_same_contacts(found)
    require_same_impedances(found)
    generator = ModelGenerator(
        world,
        tuple(found.bodies.get(b, b) for b in range(model.nbody)),
        position_map(found),
        velocity_map(found),
        transmission.activation_map(),
        transmission.control_map(),
    )
    with converged(model):
        apart = deviation(model, generator, steps=1)
    if not apart < LARGEST_DEVIATION:
        raise MismatchError(f"steps of moved states differ by {apart:.2g}", 3000.0)
    return generator


def _candidates(model: Any) -> Iterator[tuple[str, Matching]]:
    """Generators first from which the others follow."""
    mirrors = {name: np.diag([1.0 - 2 * (name == axis) for axis in "xyz"]) for name in "xyz"}
    worlds = {"mirror_y": mirrors["y"], "turn_90": _turn(np.pi / 2), "mirror_x": mirrors["x"]}
    worlds |= {f"turn_{degrees}": _turn(np.radians(degrees)) for degrees in (60, 120, 180)}
    for degrees in (45, 30, 60):  # of the plane with the x axis
        worlds[f"mirror_{degrees}"] = _turn(np.radians(2 * degrees)) @ mirrors["y"]
    if not _gravity(model).any():
        worlds["mirror_z"] = mirrors["z"]
        for axis, order in {"x": [1, 2, 0], "y": [2, 0, 1]}.items():
            cycle = np.eye(3)[order]
            worlds[f"turn_90_about_{axis}"] = cycle.T @ _turn(np.pi / 2) @ cycle
    for name, world in worlds.items():
        yield name, Matching(model, world)
    if FREE in model.jnt_type:
        for name in ("mirror_y", "mirror_x"):
            yield name, Matching(model, worlds[name], askew=True)
    for c, d in _bodies_at_one_place(model):
        one, other = (model.body(b).name or str(b) for b in (c, d))
        yield f"exchange_{one}_{other}", Matching(model, np.eye(3), {c: d, d: c})


def _bodies_at_one_place(model: Any) -> Iterator[tuple[int, int]]:
    poses = np.concatenate([model.body_pos, model.body_quat], axis=1)
    for c in range(1, model.nbody):
        for d in range(c + 1, model.nbody):
            siblings = model.body_parentid[c] == model.body_parentid[d]
            if siblings and model.body_jntnum[c] and alike(poses[c], poses[d]):
                yield c, d


def _turn(angle: float) -> Array:
    cos, sin = np.cos(angle), np.sin(angle)
    turn: Array = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    rounded = np.rint(turn)
    return np.where(np.abs(turn - rounded) < 1e-12, rounded, turn)


def _gravity(model: Any) -> Array:
    off = model.opt.disableflags & int(mujoco.mjtDisableBit.mjDSBL_GRAVITY)
    gravity: Array = np.zeros(3) if off else np.array(model.opt.gravity)
    return gravity


def _depth_of(model: Any, body: int) -> int:
    depth = 0
    while body:
        body, depth = int(model.body_parentid[body]), depth + 1
    return depth


def _check_is_understood(model: Any) -> None:
    if not isinstance(model, mujoco.MjModel):
        raise SymmetryError(f"expected a mujoco.MjModel, got {type(model).__name__}")
    counts = {"mocap body": model.nmocap, "flex": model.nflex, "plugin": model.nplugin}
    counts["plastic joint or tendon"] = getattr(model, "nplastic", 0)
    unknown = next((f"a {what}" for what, count in counts.items() if count), None)
    if unknown is None and model.geom_surfacevel.any():
        moving = int(np.flatnonzero(model.geom_surfacevel.any(axis=1))[0])
        unknown = f"the moving surface of {named(model, 'geom', moving)} (surfacevel)"
    unknown = unknown or unknown_transmission(model)
    if unknown:
        raise SymmetryError(
            f"the symmetries of this model are not searched for: {unknown}, and what becomes of "
            "that under a map of the world is not known here; declare them, for instance by "
            "mirror_by_names"
        )
