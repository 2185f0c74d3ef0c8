"""How a symmetry of the model moves what an environment observes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from equirl.envs.mujoco.model_fields import named
from equirl.envs.mujoco.model_symmetries import ModelGenerator
from equirl.envs.mujoco.quaternions import Array
from equirl.envs.mujoco.state_maps import AffineMap, affine, linear
from equirl.envs.mujoco.tree_matching import BALL, FREE
from equirl.errors import SymmetryError
from equirl.shown import shown

Layout = Sequence[tuple[Any, ...]]
"""What an observation consists of, in its order: pairs of a quantity and a slice or indices of it.

Quantities are ``qpos``, ``qvel``, ``cos`` and ``sin`` of ``qpos``, and what `mujoco.MjData` calls
``cinert``, ``cvel``, ``cfrc_ext``, ``qfrc_actuator`` and ``qfrc_constraint``, flat; ``offset`` has
two names of bodies in front of the slice, and is the place of the first seen from the second.
"""


@dataclass(frozen=True)
class _Quantity:
    move: Callable[[Any, ModelGenerator], AffineMap]
    names: Callable[[Any], list[str]]


def observation_map(model: Any, generator: ModelGenerator, layout: Layout) -> AffineMap:
    """The map of observations that are laid out so.

    Raises:
        SymmetryError: an entry becomes something that is not observed.
    """
    entries = _entries(model, layout)
    place = {entry: i for i, entry in enumerate(entries)}
    maps = {quantity: _move(model, generator, quantity) for quantity, _ in entries}
    matrix, offset = np.zeros((len(entries), len(entries))), np.zeros(len(entries))
    for row, (quantity, i) in enumerate(entries):
        moved = maps[quantity]
        offset[row] = moved.offset[i]
        for j in np.flatnonzero(moved.matrix[i]):
            source = place.get((quantity, int(j)))
            if source is None:
                name = entry_names(model, layout)[row]
                raise SymmetryError(f"{name} becomes an entry that is not observed")
            matrix[row, source] = moved.matrix[i, j]
    return affine(matrix, offset)


def entry_names(model: Any, layout: Layout) -> list[str]:
    """The names of the entries, from those of joints and bodies."""
    entries = _entries(model, layout)
    by_quantity = {quantity: _names(model, quantity) for quantity, _ in entries}
    return [by_quantity[quantity][i] for quantity, i in entries]


def control_names(model: Any) -> list[str]:
    """Of the actuators; those without a name are called by what they act on."""
    kinds = {int(mujoco.mjtTrn.mjTRN_TENDON): "tendon", int(mujoco.mjtTrn.mjTRN_BODY): "body"}
    on = [kinds.get(int(kind), "jnt") for kind in model.actuator_trntype]
    targets = [
        _bare(model, kind, int(i)) for kind, i in zip(on, model.actuator_trnid[:, 0], strict=True)
    ]
    names = [model.actuator(a).name or targets[a] for a in range(model.nu)]
    return [n if names.count(n) == 1 else f"{n}_{a}" for a, n in enumerate(names)]


def _entries(model: Any, layout: Layout) -> list[tuple[tuple[str, ...], int]]:
    """Each as its quantity and its index in it."""
    entries = []
    for given in layout:
        *quantity, which = given
        key = tuple(quantity)
        if key[0] not in (*QUANTITIES, "cos", "sin", "offset"):
            known = ", ".join([*QUANTITIES, "cos", "sin", "offset"])
            raise SymmetryError(f"a layout consists of {known}, got {shown(key[0])}")
        size, first = len(_names(model, key)), 0
        if key[0] in ("cos", "sin"):
            size, first, key = model.nq, model.nq * (key[0] == "sin"), ("cos and sin",)
        entries += [(key, first + int(i)) for i in np.arange(size)[which]]
    return entries


def _move(model: Any, generator: ModelGenerator, quantity: tuple[str, ...]) -> AffineMap:
    if quantity[0] == "offset":
        bodies = [model.body(name).id for name in quantity[1:]]
        if [generator.bodies[b] for b in bodies] != bodies:
            raise SymmetryError(f"{' and '.join(quantity[1:])} become other bodies")
        return linear(generator.world)
    if quantity[0] == "cos and sin":
        return _move_cosines(generator)
    return QUANTITIES[quantity[0]].move(model, generator)


def _names(model: Any, quantity: tuple[str, ...]) -> list[str]:
    if quantity[0] == "offset":
        return [f"{quantity[1]}_from_{quantity[2]}_{x}" for x in "xyz"]
    if quantity[0] in ("cos", "sin", "cos and sin"):
        names = _position_names(model)
        return [f"{f}_{name}" for f in ("cos", "sin") for name in names]
    return QUANTITIES[quantity[0]].names(model)


def _move_cosines(generator: ModelGenerator) -> AffineMap:
    """cos(± q + c) and sin(± q + c) from cos q and sin q."""
    signs, shift = generator.qpos.matrix, generator.qpos.offset
    cos, sin = np.cos(shift)[:, None], np.sin(shift)[:, None]
    rows = [[cos * np.abs(signs), -sin * signs], [sin * np.abs(signs), cos * signs]]
    matrix: Array = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    return linear(matrix)


def _move_inertias(model: Any, generator: ModelGenerator) -> AffineMap:
    """Ten numbers a body: xx, yy, zz, xy, xz, yz of the inertia, mass · offset, mass."""
    pairs = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]
    turn, block = generator.world, np.zeros((10, 10))
    for column, (i, j) in enumerate(pairs):
        unit = np.zeros((3, 3))
        unit[i, j] = unit[j, i] = 1.0
        moved = turn @ unit @ turn.T
        block[:6, column] = [moved[k, m] for k, m in pairs]
    block[6:9, 6:9], block[9, 9] = turn, 1.0
    return _on_bodies(generator, block)


def _move_spatial(model: Any, generator: ModelGenerator) -> AffineMap:
    """Six numbers a body: angular or torque, a pseudovector; then linear or force."""
    block = np.zeros((6, 6))
    block[:3, :3] = np.linalg.det(generator.world) * generator.world
    block[3:, 3:] = generator.world
    return _on_bodies(generator, block)


def _on_bodies(generator: ModelGenerator, block: Array) -> AffineMap:
    n, exchange = len(generator.bodies), np.zeros((len(generator.bodies),) * 2)
    exchange[list(generator.bodies), np.arange(n)] = 1.0
    return linear(np.kron(exchange, block))


def _position_names(model: Any) -> list[str]:
    own = {FREE: ("x", "y", "z", "qw", "qx", "qy", "qz"), BALL: ("qw", "qx", "qy", "qz")}
    return _joint_names(model, own)


def _joint_names(model: Any, parts: dict[int, tuple[str, ...]], after: str = "") -> list[str]:
    names = []
    for j in range(model.njnt):
        name = _bare(model, "jnt", j) + after
        names += [f"{name}_{part}" for part in parts.get(int(model.jnt_type[j]), ())] or [name]
    return names


def _velocity_names(model: Any, after: str = "_velocity") -> list[str]:
    turning = ("roll", "pitch", "yaw")
    return _joint_names(model, {FREE: ("x", "y", "z", *turning), BALL: turning}, after)


def _bare(model: Any, kind: str, i: int) -> str:
    """The name alone."""
    full = named(model, kind, i)
    return (
        full.split("'")[1]
        if full.count("'") == 2 and " of " not in full
        else full.replace(" ", "_")
    )


def _body_names(*parts: str) -> Callable[[Any], list[str]]:
    return lambda model: [
        f"{_bare(model, 'body', b)}_{p}" for b in range(model.nbody) for p in parts
    ]


def _spatial_names(kind: str, first: str, second: str) -> Callable[[Any], list[str]]:
    return _body_names(*(f"{kind}_{part}_{x}" for part in (first, second) for x in "xyz"))


QUANTITIES = {
    "qpos": _Quantity(lambda model, g: g.qpos, _position_names),
    "qvel": _Quantity(lambda model, g: g.qvel, _velocity_names),
    "cinert": _Quantity(
        _move_inertias,
        _body_names(
            *(f"inertia_{x}" for x in ["xx", "yy", "zz", "xy", "xz", "yz", "mx", "my", "mz", "m"])
        ),
    ),
    "cvel": _Quantity(_move_spatial, _spatial_names("cvel", "angular", "linear")),
    "cfrc_ext": _Quantity(_move_spatial, _spatial_names("cfrc", "torque", "force")),
    "qfrc_actuator": _Quantity(
        lambda model, g: g.qvel, lambda model: _velocity_names(model, "_actuator")
    ),
    "qfrc_constraint": _Quantity(
        lambda model, g: g.qvel, lambda model: _velocity_names(model, "_constraint")
    ),
}
