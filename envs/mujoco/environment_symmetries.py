"""`symmetry_of_mujoco`: from the symmetries of the model to that of the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco import MujocoEnv

from equirl.declaring import Mirror
from equirl.envs.carry_through import carried_through, is_transparent
from equirl.envs.mujoco.layouts import layout_of
from equirl.envs.mujoco.model_symmetries import ModelGenerator, ModelSymmetries, model_symmetries
from equirl.envs.mujoco.observations import Layout, control_names, entry_names, observation_map
from equirl.envs.mujoco.quaternions import Array
from equirl.envs.mujoco.state_maps import AffineMap
from equirl.envs.mujoco.stepping import converged
from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry

TOLERANCE = 1e-5
"""Between rewards and observations of steps from moved states."""

STATES = 6
"""From which the steps are compared."""


@dataclass(frozen=True, eq=False)
class EnvironmentSymmetries:
    """What was found in an environment.

    Args:
        symmetry: of the task; trivial where nothing was found.
        generators: as `Symmetry.from_generators` takes them.
        entry_names: of the observation.
        action_names: of the action.
        refused: what was tried and is not a symmetry of the task: by name the reason.
    """

    symmetry: Symmetry
    generators: Mapping[str, tuple[Any, Any]]
    entry_names: tuple[str, ...]
    action_names: tuple[str, ...]
    refused: Mapping[str, str]


def symmetry_of_mujoco(env: gym.Env[Any, Any], layout: Layout | None = None) -> Symmetry:
    """The symmetry of a MuJoCo environment, found in its model.

    See `environment_symmetries`, which also tells what was refused and why. It is found in the
    environment itself and carried through the wrappers around it, as `symmetry_of` does.

    Raises:
        SymmetryError: there is none (the line names the nearest candidates and what they lack), or
            a wrapper is not known to keep it.

    Example:
        >>> import gymnasium
        >>> symmetry_of_mujoco(gymnasium.make("Swimmer-v5")).group.names
        ('e', 'mirror_y')
    """
    found = _found(env, layout)
    if found.symmetry.group.order == 1:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(found.refused.items())[:4])
        raise SymmetryError(f"the model has no symmetry that the task shares ({reasons})")
    return _carried_out(found.symmetry, env)


def environment_symmetries(
    env: gym.Env[Any, Any], layout: Layout | None = None
) -> EnvironmentSymmetries:
    """The symmetries of a model that observations, rewards and terminations share.

    From some states of random play the environment is put into the moved state, and both are
    stepped with a converged solver: what the reward does not share, such as a turn of a robot that
    is paid for its way along x, is left out and named. The environment is reset; its random numbers
    go on from where they were.

    Args:
        env: of Gymnasium's MuJoCo environments, actions being the model's controls.
        layout: what the observation consists of; None for Gymnasium's v5 environments, of which it
            is known, ``cinert``, ``cvel`` and ``cfrc_ext`` included.

    Raises:
        SymmetryError: it is not such an environment, the layout is not known or does not fit, a
            wrapper makes of observations or actions what names and generators are not about, or
            see `model_symmetries`.
    """
    found = _found(env, layout)
    symmetry = _carried_out(found.symmetry, env)
    same = (
        symmetry.observations.same_as(found.symmetry.observations),
        symmetry.actions.same_as(found.symmetry.actions),
    )
    if found.generators and not all(same):
        raise SymmetryError(
            "what is found in a model is named and declared for the environment itself, and its "
            "wrappers change that: give env.unwrapped, or ask symmetry_of_mujoco(env)"
        )
    return replace(found, symmetry=symmetry)


def _carried_out(symmetry: Symmetry, env: gym.Env[Any, Any]) -> Symmetry:
    """The symmetry of what comes out of an environment, from that of the innermost one."""
    if not isinstance(env, gym.Wrapper):
        return symmetry
    return carried_through(_carried_out(symmetry, env.env), env)


def _found(env: gym.Env[Any, Any], layout: Layout | None) -> EnvironmentSymmetries:
    """What the environment without its wrappers has."""
    inner = env.unwrapped
    if not isinstance(inner, MujocoEnv) or not isinstance(inner.action_space, spaces.Box):
        raise SymmetryError(f"expected an environment of gymnasium.envs.mujoco, got {inner}")
    layout = layout_of(inner) if layout is None else layout
    names, controls = entry_names(inner.model, layout), control_names(inner.model)
    space = inner.observation_space
    if space.shape != (len(names),):
        raise SymmetryError(
            f"the layout has {len(names)} entries, the observation space is {space}"
        )
    found = model_symmetries(inner.model)
    refused: dict[str, str] = {}
    shared: dict[str, tuple[ModelGenerator, AffineMap]] = {}
    elements = found.elements()
    with _given_back(env):
        played = _states_of_play(inner)
        for name, generator in elements.items():
            try:
                moved = observation_map(inner.model, generator, layout)
                with converged(inner.model):
                    _require_same_steps(inner, generator, moved, played)
            except SymmetryError as error:
                if name in found.generators:
                    refused[name] = str(error)
                continue
            shared[name] = generator, moved
    generators: dict[str, tuple[Any, Any]] = {}
    closed = ModelSymmetries(inner.model, {}, {})
    for name, (generator, moved) in shared.items():
        if any(generator.acts_as(e) for e in closed.elements().values()):
            continue
        closed = ModelSymmetries(inner.model, {**closed.generators, name: generator}, {})
        word = name.replace("·", "_after_")
        generators[word] = _declared(names, moved), _declared(controls, generator.ctrl)
    symmetry = Symmetry.from_generators(space, inner.action_space, generators)
    return EnvironmentSymmetries(
        symmetry, generators, tuple(names), tuple(controls), refused | dict(found.refused)
    )


def names_of(env: gym.Env[Any, Any]) -> tuple[list[str] | None, list[str] | None]:
    """The names of the entries of observations and actions; None where they are not known.

    They are not, either, behind a wrapper that may change observations or actions.
    """
    inner = env
    while isinstance(inner, gym.Wrapper) and is_transparent(inner):
        inner = inner.env
    if not isinstance(inner, MujocoEnv):
        return None, None
    try:
        entries = entry_names(inner.model, layout_of(inner))
    except SymmetryError:
        entries = None
    return entries, control_names(inner.model)


def _declared(names: list[str], moved: AffineMap) -> Any:
    if moved.offset.any():
        return moved
    if not moved.is_signed_permutation:
        return moved.matrix
    index = np.abs(moved.matrix).argmax(axis=1)
    return Mirror(tuple(names), index, moved.matrix.sum(axis=1).astype(np.int64))


@contextmanager
def _given_back(env: gym.Env[Any, Any]) -> Iterator[None]:
    """Afterwards the environment is reset, and draws what it would have drawn."""
    generator = env.unwrapped.np_random
    try:
        yield
    finally:
        env.reset()
        env.unwrapped.np_random = generator


def _states_of_play(env: Any) -> list[tuple[Array, Array, Array]]:
    """Some ``(qpos, qvel, action)``, in contact with the floor too."""
    env.reset(seed=0)
    rng, states = np.random.default_rng(0), []
    low, high = env.action_space.low, env.action_space.high
    for step in range(STATES * 5):
        action = rng.uniform(low, high).astype(env.action_space.dtype)
        if step % 5 == 4:
            states.append((env.data.qpos.copy(), env.data.qvel.copy(), action))
        env.step(action)
    return states


def _require_same_steps(
    env: Any,
    generator: ModelGenerator,
    moved: AffineMap,
    states: list[tuple[Array, Array, Array]],
) -> None:
    """Refuse a generator under which a step does something else.

    Raises:
        SymmetryError: it says what.
    """
    for qpos, qvel, action in states:
        one = _step(env, qpos, qvel, action)
        image = generator.qpos(qpos), generator.qvel(qvel), generator.ctrl(action)
        other = _step(env, *image)
        wanted = moved(one[0])
        apart = np.abs(wanted - other[0]) / np.maximum(1, np.abs(wanted))
        if apart.max() > TOLERANCE:
            entry = int(apart.argmax())
            raise SymmetryError(
                f"entry {entry} of the observation is {other[0][entry]:.6g} and not "
                f"{wanted[entry]:.6g}, as the layout has it"
            )
        if abs(one[1] - other[1]) > TOLERANCE * max(1.0, abs(one[1])):
            raise SymmetryError(
                f"the reward does not share it: {one[1]:.4g} for s, {other[1]:.4g} for gs"
            )
        if one[2] != other[2]:
            raise SymmetryError("the end of the episode does not share it")


def _step(env: Any, qpos: Array, qvel: Array, action: Array) -> tuple[Array, float, bool]:
    env.data.qacc_warmstart[:] = 0
    env.set_state(qpos, qvel)
    observation, reward, terminated, _, _ = env.step(action)
    return observation, float(reward), bool(terminated)
