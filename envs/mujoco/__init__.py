"""Symmetries found in a MuJoCo model. Needs ``equirl[mujoco]``."""

from equirl.envs.mujoco.environment_symmetries import (
    EnvironmentSymmetries,
    environment_symmetries,
    names_of,
    symmetry_of_mujoco,
)
from equirl.envs.mujoco.model_symmetries import ModelGenerator, ModelSymmetries, model_symmetries
from equirl.envs.mujoco.stepping import deviation

__all__ = [
    "EnvironmentSymmetries",
    "ModelGenerator",
    "ModelSymmetries",
    "deviation",
    "environment_symmetries",
    "model_symmetries",
    "names_of",
    "symmetry_of_mujoco",
]
