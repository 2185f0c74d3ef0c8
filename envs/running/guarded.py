"""Environments that say what went wrong in them, in one line."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from equirl.errors import RunError

FAULT = "equirl_fault"
"""Under this name in ``info`` a worker process sends what went wrong."""


class GuardedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Refuses NaN and infinity, and turns what the environment raises into a `RunError`.

    One NaN in the replay buffer makes every Q-value NaN some thousand steps later, when nobody can
    tell any more where it came from.

    Raises:
        RunError: see above; with exit code 1.
    """

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """See `gymnasium.Env`."""
        try:
            observation, info = self.env.reset(**arguments)
        except Exception as error:
            raise RunError(f"{self._name} failed in reset(): {_described(error)}") from error
        self._check("reset()", observation)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env`."""
        try:
            observation, reward, terminated, truncated, info = self.env.step(action)
        except Exception as error:
            raise RunError(f"{self._name} failed in step({action}): {_described(error)}") from error
        where = f"step({action})"
        if not np.isfinite(float(reward)):
            raise RunError(f"{self._name} gave the reward {float(reward)} in {where}")
        self._check(where, observation)
        return observation, reward, terminated, truncated, info

    def _check(self, where: str, observation: Any) -> None:
        parts = observation.items() if isinstance(observation, dict) else [("", observation)]
        for key, part in parts:
            array = np.asarray(part)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
                raise RunError(
                    f"{self._name} gave an observation whose entry {key}{list(index)} is "
                    f"{array[index]} in {where}"
                )

    @property
    def _name(self) -> str:
        return self.spec.id if self.spec is not None else type(self.unwrapped).__name__


class ReportingEnv(gym.Wrapper[Any, Any, Any, Any]):
    """In a worker process: sends a `RunError` to the parent, in ``info``, and lives on."""

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


def _described(error: BaseException) -> str:
    *_, last = traceback.extract_tb(error.__traceback__)
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{what} ({Path(last.filename).name}, line {last.lineno})"
