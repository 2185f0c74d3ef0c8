"""An environment seen through elements of its symmetry group."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, SupportsFloat, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from equirl.envs.orbit_space import orbit_space
from equirl.envs.registry import Declaration
from equirl.envs.symmetry_wrapper import SymmetryWrapper
from equirl.errors import SymmetryError
from equirl.symmetry import Symmetry

Observation = TypeVar("Observation")
Action = TypeVar("Action")


class TransformWrapper(
    gym.Wrapper[Observation, Action, Observation, Action], RecordConstructorArgs
):
    """The environment seen through g: observations are gs, an action a is carried out as g⁻¹a.

    Where the environment has the symmetry, the result is the same task again, and an equivariant
    agent does exactly as well in it.

    Args:
        env: the environment.
        g: the group element, by number or name.
        symmetry: as `SymmetryWrapper` takes it; None finds the environment's own.

    Raises:
        SymmetryError: no symmetry is known, or it has no element of that number.
        GroupError: it has no element of that name.

    Example:
        >>> env = TransformWrapper(gym.make("CartPole-v1"), "mirror")
        >>> seen, _ = env.reset(seed=0)
        >>> bool((seen == -gym.make("CartPole-v1").reset(seed=0)[0]).all())
        True
    """

    def __init__(
        self,
        env: gym.Env[Observation, Action],
        g: int | str,
        symmetry: Symmetry | Declaration | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(self, g=g, symmetry=symmetry)
        gym.Wrapper.__init__(self, env)
        inside = SymmetryWrapper(env, symmetry).symmetry
        seen: Any = orbit_space(inside)  # rotations take observations out of their box
        self.observation_space = seen
        self.symmetry = replace(inside, observation_space=seen)
        self.g = _element(self.symmetry, g)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Resets the environment; returns gs."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self.symmetry.transform_observation(self.g, observation), info

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Carries out g⁻¹a; returns gs'."""
        inner = self.symmetry.transform_action(self.symmetry.group.inverse(self.g), action)
        observation, reward, terminated, truncated, info = self.env.step(inner)
        seen = self.symmetry.transform_observation(self.g, observation)
        return seen, reward, terminated, truncated, info


class RandomTransformWrapper(TransformWrapper[Observation, Action]):
    """The environment seen through a fresh g in each episode, drawn uniformly from the group.

    The info of `reset` and `step` holds g under ``"symmetry_element"``. Drawing g does not disturb
    the environment's own random numbers, nor depend on them: under a given seed it starts as it
    would unwrapped.

    Args:
        env: the environment.
        symmetry: as `SymmetryWrapper` takes it; None finds the environment's own.
    """

    def __init__(
        self,
        env: gym.Env[Observation, Action],
        symmetry: Symmetry | Declaration | None = None,
    ) -> None:
        RecordConstructorArgs.__init__(self, symmetry=symmetry)
        super().__init__(env, 0, symmetry)
        self._generator = np.random.default_rng()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Draws g and resets the environment; returns gs."""
        if seed is not None:
            # A stream of its own: the environment draws its start from this seed, too.
            stream = np.random.SeedSequence(seed, spawn_key=(1,))
            self._generator = np.random.default_rng(stream)
        self.g = int(self._generator.integers(self.symmetry.group.order))
        observation, info = super().reset(seed=seed, options=options)
        return observation, {**info, "symmetry_element": self.g}

    def step(self, action: Action) -> tuple[Observation, SupportsFloat, bool, bool, dict[str, Any]]:
        """Carries out g⁻¹a; returns gs'."""
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {**info, "symmetry_element": self.g}


def _element(symmetry: Symmetry, g: Any) -> int:
    if isinstance(g, str):
        return symmetry.group.index(g)
    if not isinstance(g, (int, np.integer)) or not 0 <= g < symmetry.group.order:
        raise SymmetryError(f"elements are numbered 0 … {symmetry.group.order - 1}, got {g}")
    return int(g)
