"""How far a model's steps are from those of the moved state: the test of what was found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np

from equirl.envs.mujoco.quaternions import Array
from equirl.envs.mujoco.tree_matching import BALL, FREE


def random_state(model: Any, rng: np.random.Generator, spread: float = 0.3) -> tuple[Array, ...]:
    """A ``(qpos, qvel, act, ctrl)`` around the model's reference pose, within the limits."""
    qpos = np.array(model.qpos0)
    for j in range(model.njnt):
        at = int(model.jnt_qposadr[j])
        if model.jnt_type[j] in (FREE, BALL):
            first = at + 3 if model.jnt_type[j] == FREE else at
            qpos[first : first + 4] += spread * rng.standard_normal(4)
            qpos[first : first + 4] /= np.linalg.norm(qpos[first : first + 4])
        else:
            qpos[at] += spread * rng.standard_normal()
            if model.jnt_limited[j]:
                qpos[at] = np.clip(qpos[at], *model.jnt_range[j])
    ctrl = rng.uniform(-1, 1, model.nu)
    low, high = model.actuator_ctrlrange.T
    ctrl = np.where(
        model.actuator_ctrllimited.astype(bool), low + (ctrl + 1) / 2 * (high - low), ctrl
    )
    act = rng.uniform(0, 1, model.na)
    return qpos, spread * rng.standard_normal(model.nv), act, ctrl


@contextmanager
def converged(model: Any) -> Iterator[None]:
    """Within it the solver converges, so that the order of the constraints is of no account.

    Some models, such as Gymnasium's Humanoid, stop the projected Gauss-Seidel solver early.
    """
    names = ("solver", "iterations", "tolerance", "noslip_iterations")
    before = {name: getattr(model.opt, name) for name in names}
    model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    model.opt.iterations, model.opt.tolerance, model.opt.noslip_iterations = 200, 0.0, 0
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(model.opt, name, value)


def deviation(model: Any, generator: Any, steps: int = 5, states: int = 4, seed: int = 0) -> float:
    """The largest difference between the image of a step and the step of the image.

    From random states s it compares g(step(s, u)) with step(gs, gu) over a few steps, the solver's
    warm start moved too. Differences are relative where values exceed 1.

    Args:
        model: a `mujoco.MjModel`.
        generator: a `ModelGenerator` of it.
        steps: simulated from each state.
        states: to begin from.
        seed: of the states.
    """
    rng, worst = np.random.default_rng(seed), 0.0
    for _ in range(states):
        qpos, qvel, act, ctrl = random_state(model, rng)
        one, other = mujoco.MjData(model), mujoco.MjData(model)
        one.qpos[:], one.qvel[:], one.act[:], one.ctrl[:] = qpos, qvel, act, ctrl
        other.qpos[:], other.qvel[:] = generator.qpos(qpos), generator.qvel(qvel)
        other.act[:], other.ctrl[:] = generator.act(act), generator.ctrl(ctrl)
        mujoco.mj_forward(model, one)
        one.qacc_warmstart[:] = one.qacc
        other.qacc_warmstart[:] = generator.qvel(one.qacc)
        for _ in range(steps):
            mujoco.mj_step(model, one)
            mujoco.mj_step(model, other)
            pairs = (
                (generator.qpos(one.qpos), other.qpos),
                (generator.qvel(one.qvel), other.qvel),
                (generator.act(one.act), other.act),
            )
            for wanted, got in pairs:
                scale = np.maximum(1.0, np.abs(wanted))
                apart = np.abs(wanted - got) / scale
                worst = float(np.max(apart, initial=worst))  # not a number stays so
    return worst
