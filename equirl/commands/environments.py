"""From an environment's configuration to the environment and its symmetry."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from gymnasium.wrappers import FrameStackObservation

from equirl.configs.fields import check_values
from equirl.configs.schema import EnvConfig
from equirl.envs import Declaration, SymmetryWrapper, symmetry_of
from equirl.envs.stacked_images import frames_as_channels
from equirl.errors import ConfigError, EquirlError
from equirl.runs.run_directory import RunDirectory
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
        ConfigError: no environment is named, it cannot be made, or a value is out of its bounds.
        SymmetryError: no symmetry is known, or it does not fit.
    """
    if config.id is None:
        raise ConfigError(
            "which environment? Say env=cartpole (or acrobot, gridworld, …), or any Gymnasium id, "
            "env.id=My/Env-v0"
        )
    check_values(config, "env.")
    env_id, arguments = config.id, {**config.kwargs, **make_kwargs}
    wrappers = [imported(reference) for reference in config.wrappers]

    def make() -> Environment:
        try:
            if ":" in env_id:  # in the process at hand, which may be the environment's own
                _module(env_id.partition(":")[0], env_id)
            if config.register is not None and env_id not in gym.registry:
                imported(config.register)()
            with _warned_of_if_it_works():
                env = gym.make(env_id, **arguments)
            for wrapper in wrappers:
                env = wrapper(env)
            return env
        except (ImportError, ConfigError, gym.error.Error) as error:
            if config.install is not None and not _is_installed(config.install):
                extra = f'pip install "equirl[{config.install}]"'
                raise ConfigError(f"{env_id} needs {extra}") from error
            if isinstance(error, ImportError):
                raise ConfigError(f"{env_id} cannot be made: {error}") from error
            raise
        except Exception as error:  # whatever the environment's own constructor raises
            why = f"{type(error).__name__}: {error}"
            raise ConfigError(f"{env_id} cannot be made with {arguments}: {why}") from error

    def make_stacked() -> Environment:
        return make() if config.frame_stack == 1 else _stacked(make(), config.frame_stack)

    if config.symmetry is None and not needs_symmetry:
        make_stacked().close()
        return make_stacked, None
    with make() as env:
        # Declared for a single frame, and carried through the stack of them.
        declared = None if config.symmetry is None else _declaration(config.symmetry, env)
        single = SymmetryWrapper(env, declared)
        symmetry = symmetry_of(
            single if config.frame_stack == 1 else _stacked(single, config.frame_stack)
        )
    return lambda: SymmetryWrapper(make_stacked(), symmetry), symmetry


@contextmanager
def _warned_of_if_it_works() -> Iterator[None]:
    """Warnings are shown afterwards: where it fails, the error says it all in one line."""
    with warnings.catch_warnings(record=True) as noted:
        yield
    for warning in noted:
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _is_installed(extra: str) -> bool:
    """Whether what an extra brings is there, so that a failure has another cause."""
    packages = {"box2d": "Box2D", "atari": "ale_py", "twenty48": "gymnasium_2048"}
    try:
        return importlib.util.find_spec(packages.get(extra, extra)) is not None
    except (ImportError, ValueError):  # no name of a module, or of one in a package that is missing
        return False


def _stacked(env: Environment, frames: int) -> Environment:
    """The last frames as one observation; those of images as channels, first."""
    return frames_as_channels(FrameStackObservation(env, frames))


def check_device(device: str) -> None:
    """Refuse a device that is not there; SB3 would quietly take the CPU.

    Raises:
        ConfigError: no such device.
    """
    if device == "auto":
        return
    try:
        torch.zeros(1, device=device).item()
    # One of these, by the kind of device, is how torch says that it is not there.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        why = str(error).splitlines()[0].partition(". ")[0]
        raise ConfigError(f"device {device!r} cannot be used: {why}; say auto or cpu") from error


def _module(name: str, reference: str) -> Any:
    """A module, the current folder counting as a place for modules."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # the module runs, and may fail in any way
        raise ConfigError(f"cannot import {reference}: {_described(error)}") from error


def imported(reference: str) -> Any:
    """The object that ``module:object`` names, the current folder counting as a place for modules.

    Raises:
        ConfigError: there is no such module or object.
    """
    module_name, _, name = reference.partition(":")
    if not module_name or not name or reference.startswith("."):
        raise ConfigError(f"expected module:object, got {reference!r}")
    found = _module(module_name, reference)
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # the module says what its attributes are, and may fail in any way
        raise ConfigError(f"cannot import {reference}: {_described(error)}") from error
    return found


def check_run_dir(run_dir: Path) -> None:
    """See `RunDirectory.check_new`."""
    RunDirectory(run_dir).check_new()


def _declaration(reference: str, env: Environment) -> Symmetry | Declaration:
    """What ``module:object`` declares for this environment, called if it is a function."""
    declared = imported(reference)
    if callable(declared):
        try:
            declared = declared(env.observation_space, env.action_space)
        except EquirlError:
            raise
        except Exception as error:
            raise ConfigError(
                f"{reference}(observation_space, action_space) failed: {_described(error)}"
            ) from error
    if not isinstance(declared, Symmetry | Mapping):
        raise ConfigError(
            f"{reference} must be or return generators, such as "
            f"{{'mirror': (np.negative, [1, 0])}}, or a Symmetry, got {type(declared).__name__}"
        )
    return declared


def _described(error: BaseException) -> str:
    """What went wrong, and where in the user's own module."""
    *_, last = traceback.extract_tb(error.__traceback__)
    says_it_all = isinstance(error, ImportError | AttributeError)
    what = str(error) if says_it_all else f"{type(error).__name__}: {error}"
    ours = Path(last.filename).is_relative_to(Path(__file__).parent) or "<frozen" in last.filename
    return what if ours else f"{what} ({Path(last.filename).name}, line {last.lineno})"
