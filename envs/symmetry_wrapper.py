"""`SymmetryWrapper` exposes a symmetry on an environment; `symmetry_of` finds it again."""

from __future__ import annotations

from typing import TypeVar

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from equirl.envs.registry import Declaration
from equirl.envs.symmetry_search import check_spaces, symmetry_of
from equirl.symmetry import Symmetry

Observation = TypeVar("Observation")
Action = TypeVar("Action")


class SymmetryWrapper(gym.Wrapper[Observation, Action, Observation, Action], RecordConstructorArgs):
    """Exposes the symmetry of an environment as ``env.symmetry``; changes nothing else.

    Args:
        env: the environment. Put this wrapper outermost, behind every wrapper that changes
            observations or actions: the symmetry is that of what comes out.
        symmetry: a `Symmetry`, or generators, or a function of the two spaces returning either.
            None looks the environment up among the known ones.

    Raises:
        SymmetryError: the symmetry does not fit the spaces, or none is known.

    Example:
        >>> import numpy as np
        >>> env = SymmetryWrapper(gym.make("CartPole-v1"))
        >>> env.symmetry.group.names
        ('e', 'mirror')
        >>> env = SymmetryWrapper(gym.make("MountainCar-v0"), {"mirror": (np.negative, [2, 1, 0])})
        >>> env.symmetry.group.order
        2
    """

    def __init__(
        self,
        env: gym.Env[Observation, Action],
        symmetry: Symmetry | Declaration | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(self, symmetry=symmetry)
        gym.Wrapper.__init__(self, env)
        self.symmetry = symmetry_of(env, symmetry)
        check_spaces(self.symmetry, env)
