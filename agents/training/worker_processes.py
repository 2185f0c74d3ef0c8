"""Environments in processes of their own, and what happens when one of these dies."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv

from equirl.envs.running.guarded import FAULT, ReportingEnv
from equirl.errors import RunError


class WorkerProcesses(SubprocVecEnv):
    """SB3's `SubprocVecEnv` that says which process died, and of what.

    Args:
        make_envs: each makes one environment, in its own process.

    Raises:
        RunError: a process died, or its environment failed.
    """

    def __init__(self, make_envs: list[Callable[[], gym.Env[Any, Any]]]) -> None:
        self.processes: list[Any] = []
        self.remotes: Any = ()
        try:
            with self._alive():
                super().__init__([partial(_in_worker, make_env) for make_env in make_envs])
        except BaseException:
            self.close()  # or Python would wait for those that live, at its end and for ever
            raise

    def reset(self) -> Any:
        """See `VecEnv`."""
        with self._alive():
            observations = super().reset()
        self._check(self.reset_infos)
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """See `VecEnv`."""
        with self._alive():
            super().step_async(actions)

    def step_wait(self) -> Any:
        """See `VecEnv`."""
        with self._alive():
            result = super().step_wait()
        self._check(result[3])
        self._check(self.reset_infos)
        return result

    def env_method(self, method_name: str, *args: Any, **kwargs: Any) -> list[Any]:
        """See `VecEnv`."""
        with self._alive():
            return super().env_method(method_name, *args, **kwargs)

    def close(self) -> None:
        """End the processes, whatever state they are in."""
        for process in self.processes:
            process.kill()
            process.join()
        for remote in self.remotes:
            remote.close()
        self.closed = True

    @contextmanager
    def _alive(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, ConnectionError) as error:
            for process in self.processes:
                process.join(timeout=1)
            dead = [i for i, process in enumerate(self.processes) if process.exitcode is not None]
            codes = ", ".join(_how(self.processes[i].exitcode) for i in dead)
            which = ", ".join(map(str, dead))
            raise RunError(
                f"the process of environment {which or '?'} died ({codes or 'no exit code'})"
            ) from error

    def _check(self, infos: Any) -> None:
        for info in infos:
            if FAULT in info:
                raise RunError(info[FAULT])


def _in_worker(make_env: Callable[[], gym.Env[Any, Any]]) -> gym.Env[Any, Any]:
    # Ctrl-C reaches every process of the terminal: the parent alone decides when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return ReportingEnv(make_env())


def _how(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
