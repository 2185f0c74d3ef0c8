"""A stack of images as one image, which is what SB3's CNN takes."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import FrameStackObservation, ReshapeObservation

from equirl.envs.carry_through import lifted
from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry

Image = npt.NDArray[Any]


def frames_as_channels(stacked: FrameStackObservation[Any, Any, Any]) -> gym.Env[Any, Any]:
    """Frames of images as channels, first; other frames as they are."""
    from stable_baselines3.common.preprocessing import (
        is_image_space,
        is_image_space_channels_first,
    )

    frame, shape = stacked.env.observation_space, stacked.observation_space.shape or ()
    if len(shape) == 4 and shape[3] == 1:
        return ReshapeObservation(stacked, shape[:3])
    if not is_image_space(frame, check_channels=True):
        return stacked
    # An image is a Box.
    if is_image_space_channels_first(frame):  # type: ignore[arg-type]
        return ReshapeObservation(stacked, (shape[0] * shape[1], *shape[2:]))
    return FramesAsChannels(stacked)


class FramesAsChannels(gym.ObservationWrapper[Image, Any, Image], RecordConstructorArgs):
    """Frames ``[frames, height, width, channels]`` as one image ``[frames·channels, …]``.

    Args:
        env: what `gymnasium.wrappers.FrameStackObservation` makes of an environment with images.

    Raises:
        SymmetryError: the observations are not stacked images.

    Example:
        >>> from gymnasium.wrappers import FrameStackObservation
        >>> env = FrameStackObservation(gym.make("equirl/GridWorld-v0"), 4)
        >>> env.observation_space.shape, FramesAsChannels(env).observation_space.shape
        ((4, 7, 7, 3), (12, 7, 7))
    """

    def __init__(self, env: gym.Env[Image, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 4:
            raise SymmetryError(
                f"expected stacked images [frames, height, width, channels], got {space}"
            )
        self._frames = space.shape[0]
        self.observation_space = spaces.Box(
            self.observation(space.low), self.observation(space.high), dtype=space.dtype.type
        )

    def observation(self, observation: Image) -> Image:
        """The channels of the first frame, then those of the next."""
        first = np.moveaxis(observation, 3, 1)
        return first.reshape(-1, *first.shape[2:])

    def carry_symmetry(self, symmetry: Symmetry) -> Symmetry:
        """Every frame moves as it did."""

        def frames(image: Image) -> Image:
            return np.moveaxis(image.reshape(self._frames, -1, *image.shape[1:]), 1, 3)

        return lifted(
            symmetry,
            self.observation_space,
            lambda g: lambda image: self.observation(g(frames(image))),
        )
