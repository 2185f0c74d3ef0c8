"""Atari reflections, all of them APPROXIMATE: none is registered, each is asked for by name.

`pip install "equirl[atari]"`, then ``env.symmetry=equirl.envs.known_symmetries.atari:pong``.

No Atari game that we measured has an exact reflection. A screen that looks symmetric hides
two-pixel offsets, and the rules differ by more (ale-py 0.12, raw frames of 210 × 160 pixels):

- Pong, up-down. The field is rows 34 … 193 and mirrors about row 113.5; a ball in flight keeps
  to the mirror. But it turns about a pixel apart at the two walls, the paddle sinks two rows
  further into the bottom than into the top (4 of its pixels still show there, 6 at the top) and
  rests 11 rows off the middle, and the computer's paddle does not play by the mirror: ball, speed
  and opponent put in the mirrored place by RAM, the opponent is off by 4 pixels after 4 frames and
  8 after 16. The rewards of the next 64 frames then differ in 16 % of 220 trials (in part because
  the player's potentiometer is in no RAM byte, so that its paddle stays off the mirrored place).
- Breakout, left-right. Walls and bricks mirror about column 79.5 and the ball moves in columns
  8 … 151, but the paddle reaches from column 8 to column 159: 8 pixels into the right wall and
  none into the left one. The feet of the two walls differ in colour.

Whether Boxing, Tennis or Ice Hockey come nearer is not known: their fields mirror, their
opponents were not measured, so nothing is declared for them.

What stands around the field, such as the score, does not mirror at all and must be cropped
(`Crop`) before the frame is scaled down. Scaling first will not do: in 84 rows the middle of Pong's
field is 45.1, between two pixels, and no permutation of pixels mirrors about it.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from equirl.errors import SymmetryError
from equirl.symmetry import Generators

Frame = npt.NDArray[Any]

FRAME_ROWS = 210


class Crop(gym.ObservationWrapper[Frame, Any, Any], RecordConstructorArgs):
    """Keeps some of the rows of a frame.

    Args:
        env: an environment with images ``[rows, columns, channels]``.
        top: the first row kept.
        bottom: the row after the last one kept.

    Raises:
        ValueError: the observations are not images, or have no such rows.
    """

    def __init__(self, env: gym.Env[Frame, Any], top: int, bottom: int) -> None:
        RecordConstructorArgs.__init__(self, top=top, bottom=bottom)
        gym.ObservationWrapper.__init__(self, env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 3:
            raise ValueError(f"expected images [rows, columns, channels], got {space}")
        if not 0 <= top < bottom <= space.shape[0]:
            raise ValueError(f"no rows {top} … {bottom - 1} in an image of {space.shape[0]} rows")
        self.rows = slice(top, bottom)
        self.observation_space = spaces.Box(
            space.low[self.rows], space.high[self.rows], dtype=space.dtype.type
        )

    def observation(self, observation: Frame) -> Frame:
        """The rows kept."""
        return observation[self.rows]


def crop_pong(env: gym.Env[Frame, Any]) -> gym.Env[Frame, Any]:
    """Pong's field between the two walls, 160 × 160; use before SB3's `AtariWrapper`."""
    return Crop(env, 34, 194)


def crop_breakout(env: gym.Env[Frame, Any]) -> gym.Env[Frame, Any]:
    """Breakout below the score, from the top wall to the feet of the walls, 180 × 160."""
    return Crop(env, 17, 197)


def pong(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> Generators:
    """Approximate: Pong upside down, for frames cropped by `crop_pong`, ``[rows, columns, *]``.

    Raises:
        SymmetryError: the frames are whole ones, or the actions are not Pong's six: none, fire, up,
            down, up and fire, down and fire.
    """
    _check(observation_space, action_space, 6)
    return {"flip": (np.flipud, [0, 1, 3, 2, 5, 4])}


def breakout(observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> Generators:
    """Approximate: Breakout in a mirror, for frames cropped by `crop_breakout`.

    Raises:
        SymmetryError: the frames are whole ones, or the actions are not Breakout's four: none,
            fire, right, left.
    """
    _check(observation_space, action_space, 4)
    return {"mirror": (np.fliplr, [0, 1, 3, 2])}


def _check(
    observation_space: spaces.Space[Any], action_space: spaces.Space[Any], actions: int
) -> None:
    if len(observation_space.shape or ()) != 3 or action_space != spaces.Discrete(actions):
        raise SymmetryError(
            f"expected images [rows, columns, channels] and the game's own {actions} actions "
            f"(full_action_space=False), got {observation_space} and {action_space}"
        )
    if observation_space.shape and observation_space.shape[0] == FRAME_ROWS:
        raise SymmetryError(
            "the whole Atari screen has no reflection, the field in it nearly has one: crop it "
            "first, with crop_pong or crop_breakout of equirl.envs.known_symmetries.atari"
        )
