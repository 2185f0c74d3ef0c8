"""Environments that say what went wrong in them, in one line."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import gymnasium as gym

from equirl.envs.running.brought_to_space import (
    NotOfSpaceError,
    flag_from,
    info_from,
    observation_in,
    reward_from,
)
from equirl.errors import RunError
from equirl.symmetry import Symmetry

FAULT = "equirl_fault"
"""Under this name in ``info`` a worker process sends what went wrong."""


class GuardedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Brings what the environment hands out to its spaces, and refuses what is not of them.

    One NaN in the replay buffer makes every Q-value NaN some thousand steps later, when no one can
    tell any more where it came from.

    Raises:
        RunError: an observation is not of its space (`observation_in`) or not finite, the reward
            is not a finite number, or the environment raises anything; with exit code 1.

    Example:
        >>> env = GuardedEnv(gym.make("CartPole-v1"))
        >>> observation, info = env.reset(seed=0)
    """

    def carry_symmetry(self, symmetry: Symmetry) -> Symmetry:
        """Observations and actions are handed on as they are."""
        return symmetry

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """See `gymnasium.Env`."""
        try:
            result: Any = self.env.reset(**arguments)
        except Exception as error:
            raise RunError(f"{self._name} failed in reset(): {_described(error)}") from error
        try:
            _check_count(result, ("observation", "info"))
            observation, info = result
            return observation_in(self.observation_space, observation), info_from(info)
        except NotOfSpaceError as error:
            raise RunError(f"{self._name} gave {error} in reset()") from error

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env`."""
        try:
            result: Any = self.env.step(action)
        except Exception as error:
            raise RunError(f"{self._name} failed in step({action}): {_described(error)}") from error
        try:
            _check_count(result, ("observation", "reward", "terminated", "truncated", "info"))
            observation, reward, terminated, truncated, info = result
            return (
                observation_in(self.observation_space, observation),
                reward_from(reward),
                flag_from("terminated", terminated),
                flag_from("truncated", truncated),
                info_from(info),
            )
        except NotOfSpaceError as error:
            raise RunError(f"{self._name} gave {error} in step({action})") from error

    @property
    def _name(self) -> str:
        return self.spec.id if self.spec is not None else type(self.unwrapped).__name__


class ReportingEnv(gym.Wrapper[Any, Any, Any, Any]):
    """In a worker process: sends a `RunError` to the parent, in ``info``, and lives on."""

    def carry_symmetry(self, symmetry: Symmetry) -> Symmetry:
        """Observations and actions are handed on as they are."""
        return symmetry

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """See `gymnasium.Env`."""
        try:
            return self.env.reset(**arguments)
        except RunError as error:
            return self.observation_space.sample(), {FAULT: str(error)}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env`."""
        try:
            return self.env.step(action)
        except RunError as error:
            return self.observation_space.sample(), 0.0, False, False, {FAULT: str(error)}


def _check_count(result: Any, names: tuple[str, ...]) -> None:
    if not isinstance(result, tuple) or len(result) != len(names):
        came = f"{len(result)} values" if isinstance(result, tuple) else type(result).__name__
        raise NotOfSpaceError(f"{came}, where ({', '.join(names)}) is expected,")


def _described(error: BaseException) -> str:
    *_, last = traceback.extract_tb(error.__traceback__)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{what} ({Path(last.filename).name}, line {last.lineno})"
