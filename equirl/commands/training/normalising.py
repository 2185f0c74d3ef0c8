"""``normalize=true``: observations and rewards by running statistics that keep the symmetry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from equirl.agents import SymmetricVecNormalize
from equirl.configs.schema import TrainConfig
from equirl.errors import ConfigError
from equirl.symmetry import Symmetry

CHANGING = ("returns", "old_obs", "old_reward")
"""What changes in a `VecNormalize` beside its two statistics."""


def normalised(settings: TrainConfig, env: VecEnv, symmetry: Symmetry | None) -> VecEnv:
    """The environments as ``normalize`` says: plain agents get SB3's own `VecNormalize`.

    Raises:
        ConfigError: observations are not one array of numbers, or the symmetry adds constants to
            them, of which a saved agent could not tell.
        SymmetryError: see `SymmetricVecNormalize`.
    """
    if not settings.normalize:
        return env
    space = env.observation_space
    if not isinstance(space, spaces.Box) or is_image_space(space):
        raise ConfigError(
            f"normalize=true is for observations of numbers, not for {space}; images are divided "
            "by 255 anyway"
        )
    if settings.method.name == "plain":
        return VecNormalize(env, gamma=settings.algorithm.gamma)
    assert symmetry is not None
    if np.abs(symmetry.orbit(np.zeros((1, *space.shape)))).max() > 0:
        raise ConfigError(
            "normalize=true: this symmetry adds constants to the observation (0 does not stay 0): "
            "let the environment give observations about their centre"
        )
    return SymmetricVecNormalize(env, symmetry, gamma=settings.algorithm.gamma)


class NormalisationState:
    """What a checkpoint keeps of a `VecNormalize`."""

    def __init__(self, env: VecNormalize) -> None:
        self.env = env

    def state(self) -> dict[str, Any]:
        """See `equirl.agents.training.periodic_callback.PeriodicCallback`."""
        statistics = {name: _numbers(getattr(self.env, name)) for name in ("obs_rms", "ret_rms")}
        return {**statistics, **{name: np.copy(getattr(self.env, name)) for name in CHANGING}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See there."""
        for name in ("obs_rms", "ret_rms"):
            vars(getattr(self.env, name)).update(state[name])
        for name in CHANGING:
            setattr(self.env, name, state[name])


def _numbers(statistics: Any) -> dict[str, Any]:
    assert isinstance(statistics, RunningMeanStd)
    return {
        "mean": np.copy(statistics.mean),
        "var": np.copy(statistics.var),
        "count": statistics.count,
    }
