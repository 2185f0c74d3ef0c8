"""`symmetry_of_mujoco`: from the symmetries of the model to that of the task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco import MujocoEnv

from equirl.declaring import Mirror
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

    See `environment_symmetries`, which also tells what was refused and why.

    Raises:
        SymmetryError: there is none; the line names the nearest candidates and what they lack.

    Example:
        >>> import gymnasium
        >>> symmetry_of_mujoco(gymnasium.make("Swimmer-v5")).group.names
        ('e', 'mirror_y')
    """
    found = environment_symmetries(env, layout)
    if found.symmetry.group.order == 1:
        reasons = "; ".join(f"{name}: {why}" for name, why in list(found.refused.items())[:4])
        raise SymmetryError(f"the model has no symmetry that the task shares ({reasons})")
    return found.symmetry


def environment_symmetries(
    env: gym.Env[Any, Any], layout: Layout | None = None
) -> EnvironmentSymmetries:
    """The symmetries of a model that observations, rewards and terminations share.

    From some states of random play the environment is put into the moved state, and both are
    stepped with a converged solver: what the reward does not share, such as a turn of a robot that
    is paid for its way along x, is left out and named. The environment is reset.

    Args:
        env: of Gymnasium's MuJoCo environments, actions being the model's controls.
        layout: what the observation consists of; None for Gymnasium's v5 environments, of which it
            is known, ``cinert``, ``cvel`` and ``cfrc_ext`` included.

    Raises:
        SymmetryError: it is not such an environment, the layout is not known or does not fit, or
            see `model_symmetries`.
    """
    inner = env.unwrapped
    if not isinstance(inner, MujocoEnv) or not isinstance(env.action_space, spaces.Box):
        raise SymmetryError(f"expected an environment of gymnasium.envs.mujoco, got {inner}")
    layout = layout_of(inner) if layout is None else layout
    names, controls = entry_names(inner.model, layout), control_names(inner.model)
    if env.observation_space.shape != (len(names),):
        raise SymmetryError(
            f"the layout has {len(names)} entries, the observation space is {env.observation_space}"
        )
    found = model_symmetries(inner.model)
    refused: dict[str, str] = {}
    shared: dict[str, tuple[ModelGenerator, AffineMap]] = {}
    played = _states_of_play(inner)
    elements = found.elements()
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
    symmetry = Symmetry.from_generators(env.observation_space, env.action_space, generators)
    return EnvironmentSymmetries(
        symmetry, generators, tuple(names), tuple(controls), refused | dict(found.refused)
    )


def names_of(env: gym.Env[Any, Any]) -> tuple[list[str] | None, list[str] | None]:
    """The names of the entries of observations and actions; None where they are not known."""
    inner = env.unwrapped
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
