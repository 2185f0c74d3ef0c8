"""From an environment's configuration to the environment and its symmetry."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch

from equirl.configs.schema import EnvConfig
from equirl.envs import SymmetryWrapper, symmetry_of
from equirl.errors import ConfigError
from equirl.symmetry import Symmetry

Environment = gym.Env[Any, Any]


def environment_maker(
    config: EnvConfig, needs_symmetry: bool = True, **make_kwargs: Any
) -> tuple[Callable[[], Environment], Symmetry | None]:
    """How to make the environment, and its symmetry.

    Args:
        config: the environment's configuration.
        needs_symmetry: when false, an environment without a known symmetry is taken as it is.
        make_kwargs: passed to `gymnasium.make`, such as ``render_mode``.

    Raises:
        ConfigError: no environment is named, or it cannot be made.
        SymmetryError: no symmetry is known, or it does not fit.
    """
    if config.id is None:
        raise ConfigError(
            "which environment? Say env=cartpole (or acrobot, gridworld, …), or any Gymnasium id, "
            "env.id=My/Env-v0"
        )
    env_id, arguments = config.id, {**config.kwargs, **make_kwargs}

    def make() -> Environment:
        try:
            return gym.make(env_id, **arguments)
        except gym.error.Error:
            raise
        except Exception as error:  # whatever the environment's own constructor raises
            why = f"{type(error).__name__}: {error}"
            raise ConfigError(f"{env_id} cannot be made with {arguments}: {why}") from error

    with make() as env:
        if config.symmetry is None and not needs_symmetry:
            return make, None
        if config.symmetry is None:
            symmetry = symmetry_of(env)
        else:
            symmetry = SymmetryWrapper(env, imported(config.symmetry)).symmetry
    return lambda: SymmetryWrapper(make(), symmetry), symmetry


def check_device(device: str) -> None:
    """Refuse a device that is not there; SB3 would quietly take the CPU.

    Raises:
        ConfigError: no such device.
    """
    if device == "auto":
        return
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0]
        raise ConfigError(f"device {device!r} cannot be used: {why}; say auto or cpu") from error


def imported(reference: str) -> Any:
    """The object that ``module:object`` names, the current folder counting as a place for modules.

    Raises:
        ConfigError: there is no such module or object.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name:
        raise ConfigError(f"expected module:object, got {reference!r}")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"cannot import {reference}: {error}") from error
    return found
