"""Symmetries found in a MuJoCo model. Needs ``equirl[mujoco]``."""

from equirl.envs.mujoco.model_symmetries import ModelGenerator, ModelSymmetries, model_symmetries
from equirl.envs.mujoco.stepping import deviation

__all__ = ["ModelGenerator", "ModelSymmetries", "deviation", "model_symmetries"]
