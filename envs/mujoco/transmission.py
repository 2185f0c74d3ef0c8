"""Tendons, actuators and equality constraints under a map of the joints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mujoco
import numpy as np

from equirl.envs.mujoco.model_fields import (
    MismatchError,
    alike,
    named,
    require,
    require_same_fields,
    require_same_forces,
)
from equirl.envs.mujoco.state_maps import AffineMap, linear, position_map
from equirl.envs.mujoco.tree_matching import BALL, FREE, Matching, assign

ON_JOINT, ON_JOINT_IN_PARENT, ON_TENDON, ON_BODY = (
    int(getattr(mujoco.mjtTrn, f"mjTRN_{kind}"))
    for kind in ("JOINT", "JOINTINPARENT", "TENDON", "BODY")
)
OF_JOINTS, OF_TENDONS = int(mujoco.mjtEq.mjEQ_JOINT), int(mujoco.mjtEq.mjEQ_TENDON)
FIXED_GAIN, AFFINE_GAIN = int(mujoco.mjtGain.mjGAIN_FIXED), int(mujoco.mjtGain.mjGAIN_AFFINE)
NO_BIAS, AFFINE_BIAS = int(mujoco.mjtBias.mjBIAS_NONE), int(mujoco.mjtBias.mjBIAS_AFFINE)
LINEAR_DYNAMICS = tuple(
    int(getattr(mujoco.mjtDyn, f"mjDYN_{kind}"))
    for kind in ("NONE", "INTEGRATOR", "FILTER", "FILTEREXACT")
)
DEPTH = 1000.0
"""Reached after all bodies."""

Length = tuple[int, int, float]
"""Of joint or tendon: which it becomes, and its length L as sign · L + shift."""


@dataclass
class Transmission:
    """What becomes of the tendons and actuators once the joints are matched."""

    found: Matching
    tendons: dict[int, Length] = field(default_factory=dict)
    actuators: dict[int, int] = field(default_factory=dict)
    signs: dict[int, int] = field(default_factory=dict)

    def search(self) -> None:
        """Match tendons, then what acts on joints and tendons.

        Raises:
            MismatchError: one has no image.
        """
        model = self.found.model
        self.offset = position_map(self.found).offset
        for count, match in (
            (model.ntendon, self._match_tendon),
            (model.nu, self._match_actuator),
            (model.neq, self._match_equality),
        ):
            self._assign(range(count), match)

    def control_map(self) -> AffineMap:
        """The map of ``ctrl``."""
        return self._signed({a: a for a in self.actuators})

    def activation_map(self) -> AffineMap:
        """The map of ``act``."""
        adr = self.found.model.actuator_actadr
        return self._signed({a: int(adr[a]) for a in self.actuators if adr[a] >= 0})

    def _signed(self, place: dict[int, int]) -> AffineMap:
        matrix = np.zeros((len(place), len(place)))
        for a, at in place.items():
            matrix[place[self.actuators[a]], at] = self.signs[a]
        return linear(matrix)

    @staticmethod
    def _assign(entries: range, match: Callable[[int, int], None]) -> None:
        assign(entries, entries, match)

    def _joint(self, j: int) -> Length:
        k = self.found.joints[j]
        return k, self.found.signs[j], float(self.offset[self.found.model.jnt_qposadr[k]])

    def _match_tendon(self, t: int, to: int) -> None:
        """A fixed tendon's length is Σ c_j q_j."""
        model = self.found.model
        own, theirs = tendon_joints(model, t), tendon_joints(model, to)
        moved, shift = {}, 0.0
        for j, coefficient in own.items():
            k, sign, offset = self._joint(j)
            moved[k] = sign * coefficient
            shift += theirs.get(k, 0.0) * offset
        what = "the joints"
        require("tendon", model, t, to, what, sorted(moved), sorted(theirs), depth=DEPTH)
        images = [moved[k] for k in theirs]
        sign = 1 if np.dot(images, list(theirs.values())) > 0 else -1
        wanted = [sign * c for c in images]
        what = "coefficients"
        require("tendon", model, t, to, what, wanted, list(theirs.values()), depth=DEPTH)
        require_same_fields(model, "tendon", t, to, DEPTH + 0.1)
        require_same_forces(model, "tendon", t, to, sign, DEPTH + 0.1)
        has_spring = model.tendon_stiffness[t] or model.tendon_stiffnesspoly[t].any()
        for name, used in (("range", model.tendon_limited[t]), ("lengthspring", has_spring)):
            values = getattr(model, f"tendon_{name}")
            if used:
                ends = np.sort(sign * values[t] + shift)
                require("tendon", model, t, to, name, ends, values[to], depth=DEPTH + 0.1)
        self.tendons[t] = to, sign, shift

    def _match_actuator(self, a: int, to: int) -> None:
        model, depth = self.found.model, DEPTH + 1
        require_same_fields(model, "actuator", a, to, depth)
        target, sign, shift = self._target(a)
        if target != model.actuator_trnid[to, 0]:
            raise MismatchError(
                f"{named(model, 'actuator', to)} does not act where {named(model, 'actuator', a)} "
                "would",
                depth,
            )
        ratio = model.actuator_gear[to, 0] / model.actuator_gear[a, 0]
        require("actuator", model, a, to, "gear", abs(ratio), 1.0, depth=depth + 0.1)
        sign, shift = sign * int(np.sign(ratio)), shift * model.actuator_gear[to, 0]
        self.actuators[a] = to
        self.signs[a] = self._sign_of_control(a, to, sign, shift, depth + 0.1)
        for name, by, limited in (
            ("ctrlrange", self.signs[a], model.actuator_ctrllimited[a]),
            ("actrange", self.signs[a], model.actuator_actlimited[a]),
            ("forcerange", sign, model.actuator_forcelimited[a]),
        ):
            if limited:
                values = getattr(model, f"actuator_{name}")
                moved = np.sort(by * values[a])
                require("actuator", model, a, to, name, moved, values[to], depth=depth + 0.2)

    def _target(self, a: int) -> Length:
        """Which joint, tendon or body the image acts on, and what becomes of the length."""
        model = self.found.model
        kind, i = model.actuator_trntype[a], int(model.actuator_trnid[a, 0])
        if kind == ON_TENDON:
            return self.tendons[i]
        if kind == ON_BODY:  # adhesion, a scalar
            return self.found.bodies[i], 1, 0.0
        return self._joint(i)

    def _sign_of_control(self, a: int, to: int, sign: int, shift: float, depth: float) -> int:
        """By which ctrl moves so that the force does by ``sign``.

        The force is gain(L, L̇) · act + bias(L, L̇), both affine; lengths become sign · L + shift.
        """
        model = self.found.model
        gain, bias = model.actuator_gainprm, model.actuator_biasprm
        is_linear = (
            model.actuator_dyntype[a] in LINEAR_DYNAMICS
            and model.actuator_gaintype[a] in (FIXED_GAIN, AFFINE_GAIN)
            and model.actuator_biastype[a] in (NO_BIAS, AFFINE_BIAS)
        )
        if not is_linear:
            if sign != 1 or shift:
                raise MismatchError(
                    f"{named(model, 'actuator', to)} acts in one direction, that of "
                    f"{named(model, 'actuator', a)} would be turned round",
                    depth,
                )
            for name, prm in (("gainprm", gain), ("biasprm", bias)):
                require("actuator", model, a, to, name, prm[a], prm[to], depth=depth)
            ranges = model.actuator_lengthrange
            require("actuator", model, a, to, "lengthrange", ranges[a], ranges[to], depth=depth)
            return 1
        if model.actuator_biastype[a] == AFFINE_BIAS:
            constant = sign * bias[a, 0] - bias[to, 1] * shift
            wanted = np.array([constant, *bias[a, 1:3]])
            require("actuator", model, a, to, "biasprm", wanted, bias[to, :3], depth=depth)
        terms = 1 if model.actuator_gaintype[a] == FIXED_GAIN else 3
        for by in (1, -1):
            wanted = np.array([sign * gain[a, 0], gain[a, 1], gain[a, 2]]) * by
            wanted[0] -= gain[to, 1] * shift if terms == 3 else 0.0
            if alike(wanted[:terms], gain[to, :terms]):
                return by
        require("actuator", model, a, to, "gainprm", gain[a, :terms], gain[to, :terms], depth=depth)
        raise MismatchError(f"the gain of {named(model, 'actuator', to)} is of another sign", depth)

    def _match_equality(self, e: int, to: int) -> None:
        """y - y₀ = Σ aₖ (x - x₀)ᵏ of two joints or tendons, y - y₀ = a₀ of one."""
        model, depth = self.found.model, DEPTH + 2
        require_same_fields(model, "eq", e, to, depth)
        of_joints = model.eq_type[e] == OF_JOINTS
        length = self._joint if of_joints else self.tendons.__getitem__
        images, signs, shifts = zip(
            *(
                length(int(which[e])) if which[e] >= 0 else (-1, 1, 0.0)
                for which in (model.eq_obj1id, model.eq_obj2id)
            ),
            strict=True,
        )
        held = model.eq_obj1id[to], model.eq_obj2id[to]
        one_to_one = np.array_equal(np.abs(model.eq_data[e, :5]), [0, 1, 0, 0, 0])
        same = images == held or (one_to_one and images == held[::-1])  # x = ± y is y = ± x
        if not same or any(shifts):
            raise MismatchError(
                f"{named(model, 'eq', to)} does not hold what {named(model, 'eq', e)} would", depth
            )
        terms = 5 if model.eq_obj2id[e] >= 0 else 1
        wanted = [signs[0] * signs[1] ** k * model.eq_data[e, k] for k in range(terms)]
        given = model.eq_data[to, :terms]
        require("eq", model, e, to, "polycoef", wanted, given, depth=depth + 0.1)


def tendon_joints(model: Any, t: int) -> dict[int, float]:
    """The coefficient by joint of a fixed tendon."""
    first = int(model.tendon_adr[t])
    places = range(first, first + int(model.tendon_num[t]))
    return {int(model.wrap_objid[w]): float(model.wrap_prm[w]) for w in places}


def unknown_transmission(model: Any) -> str | None:
    """The first tendon, actuator or equality constraint that is not understood."""
    for w in range(model.nwrap):
        if model.wrap_type[w] != int(mujoco.mjtWrap.mjWRAP_JOINT):
            ends = model.tendon_adr + model.tendon_num
            return f"{named(model, 'tendon', int(np.searchsorted(ends, w, 'right')))} is spatial"
    for e in range(model.neq):
        if model.eq_type[e] not in (OF_JOINTS, OF_TENDONS):
            kind = mujoco.mjtEq(int(model.eq_type[e])).name.removeprefix("mjEQ_").lower()
            return f"{named(model, 'eq', e)} is of the kind {kind}"
    for a in range(model.nu):
        if model.actuator_actnum[a] > 1:
            return f"{named(model, 'actuator', a)} has {model.actuator_actnum[a]} activations"
        if not _acts_on_one_length(model, a):
            return f"{named(model, 'actuator', a)} acts on neither a hinge, slide nor fixed tendon"
    return None


def _acts_on_one_length(model: Any, a: int) -> bool:
    kind, i = model.actuator_trntype[a], int(model.actuator_trnid[a, 0])
    if model.actuator_ctrlnum[a] != 1 or model.actuator_outnum[a] != 1:
        return False
    if kind in (ON_JOINT, ON_JOINT_IN_PARENT):
        return model.jnt_type[i] not in (FREE, BALL)
    return kind in (ON_TENDON, ON_BODY)
