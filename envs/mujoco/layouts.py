"""What the MuJoCo environments of Gymnasium observe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv
from gymnasium.envs.mujoco.humanoidstandup_v5 import HumanoidStandupEnv
from gymnasium.envs.mujoco.inverted_double_pendulum_v5 import InvertedDoublePendulumEnv
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv
from gymnasium.envs.mujoco.swimmer_v5 import SwimmerEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv

from equirl.envs.mujoco.observations import Layout
from equirl.errors import SymmetryError

ALL = slice(None)


def layout_of(env: Any) -> Layout:
    """The layout of an environment's observations.

    Args:
        env: not wrapped.

    Raises:
        SymmetryError: it is not one of Gymnasium's v5 environments.
    """
    for kinds, layout in LAYOUTS.items():
        if isinstance(env, kinds):
            return layout(env)
    raise SymmetryError(
        f"what {type(env).__name__} observes is not known here: give the layout, such as "
        '[("qpos", slice(2, None)), ("qvel", slice(None))]'
    )


def _without_place(hidden: int) -> Callable[[Any], Layout]:
    def layout(env: Any) -> Layout:
        first = hidden if env._exclude_current_positions_from_observation else 0
        return [("qpos", slice(first, None)), ("qvel", ALL)]

    return layout


def _ant(env: Any) -> Layout:
    forces = [("cfrc_ext", slice(6, None))] * env._include_cfrc_ext_in_observation
    return [*_without_place(2)(env), *forces]


def _humanoid(env: Any) -> Layout:
    included = (
        (env._include_cinert_in_observation, ("cinert", slice(10, None))),
        (env._include_cvel_in_observation, ("cvel", slice(6, None))),
        (env._include_qfrc_actuator_in_observation, ("qfrc_actuator", slice(6, None))),
        (env._include_cfrc_ext_in_observation, ("cfrc_ext", slice(6, None))),
    )
    return [*_without_place(2)(env), *(block for wanted, block in included if wanted)]


def _reacher(env: Any) -> Layout:
    arm = slice(2)
    offset = ("offset", "fingertip", "target", slice(2))
    return [("cos", arm), ("sin", arm), ("qpos", slice(2, None)), ("qvel", arm), offset]


def _double_pendulum(env: Any) -> Layout:
    cart, poles = slice(1), slice(1, None)
    velocities = [("qvel", ALL), ("qfrc_constraint", cart)]
    return [("qpos", cart), ("sin", poles), ("cos", poles), *velocities]


LAYOUTS: dict[tuple[type, ...], Callable[[Any], Layout]] = {
    (AntEnv,): _ant,
    (HumanoidEnv, HumanoidStandupEnv): _humanoid,
    (SwimmerEnv,): _without_place(2),
    (Walker2dEnv, HopperEnv, HalfCheetahEnv): _without_place(1),
    (ReacherEnv,): _reacher,
    (InvertedPendulumEnv,): lambda env: [("qpos", ALL), ("qvel", ALL)],
    (InvertedDoublePendulumEnv,): _double_pendulum,
}
