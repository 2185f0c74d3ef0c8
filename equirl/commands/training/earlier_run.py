"""Runs that are there already: resumed, or repeated in a new directory."""

from __future__ import annotations

import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from equirl.commands.composition import completed, given_keys
from equirl.configs.completion import from_saved, typed
from equirl.configs.keys import MAY_CHANGE
from equirl.configs.old_keys import MOVED, is_old
from equirl.configs.schema import TrainConfig
from equirl.errors import ConfigError
from equirl.runs.run_directory import RunDirectory

GROUPS = {
    "env": ("env", "algorithm", "total_timesteps", "eval"),
    "algorithm": ("algorithm", "total_timesteps"),
    "method": ("method",),
}
"""What a group of the configuration decides."""


def saved_config(reference: str | Path) -> DictConfig:
    """The configuration of a run.

    Raises:
        ConfigError: there is no such run, or its configuration cannot be read.
    """
    return typed(_saved_config(reference))


def resumed_config(config: DictConfig) -> DictConfig:
    """The configuration of the run that ``resume=`` names.

    Raises:
        ConfigError: there is no such run, or a key is given that cannot change any more.
    """
    saved = saved_config(config.resume)
    _note_old_keys(config.resume)
    for key in given_keys():
        if key in MAY_CHANGE:
            OmegaConf.update(saved, key, OmegaConf.select(config, key))
        elif key != "resume":
            raise ConfigError(
                f"{key} cannot change when a run is resumed, only {', '.join(MAY_CHANGE)}; "
                f"for a new run: equirl train repeat={config.resume} {key}=…"
            )
    saved.run_dir = config.resume
    return saved


def repeated_config(config: DictConfig) -> DictConfig:
    """The configuration of the run that ``repeat=`` names, with the keys given beside it.

    Raises:
        ConfigError: there is no such run, or a key is given that its method does not have.
    """
    saved = _saved_config(config.repeat)
    _note_old_keys(config.repeat)
    given = [key for key in given_keys() if key != "repeat"]
    run_dir = OmegaConf.to_container(config, resolve=False)["run_dir"]  # type: ignore[index, call-overload]  # a dict
    if not {"env", "algorithm"}.isdisjoint(given):
        config = completed("train", config, saved.algorithm.name, groups=("algorithm",))
    for key in [key for group in given for key in GROUPS.get(group, ())]:
        value, kind = _plain(config, key), OmegaConf.get_type(config, key)
        saved[key] = (
            OmegaConf.merge(OmegaConf.structured(kind), value) if is_dataclass(kind) else value
        )
    for key in [key for key in given if key not in GROUPS]:
        OmegaConf.update(saved, key, _plain(config, key), merge=False, force_add=True)
    if "run_dir" not in given:
        saved.run_dir = run_dir  # names environment, method, seed and time
    return typed(saved)


def finished_return(run: RunDirectory, settings: TrainConfig) -> float | None:
    """The return of a run that is finished and is not to go on, which is printed; else None.

    Raises:
        ConfigError: it is to go on, but would stop at once.
    """
    result = run.read_result()
    if result is None:
        return None
    steps, given = result["steps"], given_keys()
    saved = saved_config(run.path)
    ended_early = steps < saved.total_timesteps
    reached_target = ended_early and saved.env.target_return is not None
    if ended_early and not reached_target and "total_timesteps" in given:
        raise ConfigError(
            f"{run} was ended after {steps} steps by a callback of its own: to train longer, train "
            "anew without it"
        )
    if reached_target and "env.target_return" in given:
        return None
    if reached_target and "total_timesteps" in given:
        raise ConfigError(
            f"{run} ended after {steps} steps because it reached its target return: to go on, "
            "say env.target_return=null, or a higher one"
        )
    if not reached_target and settings.total_timesteps > steps:
        return None
    if "total_timesteps" in given:
        raise ConfigError(
            f"{run} is finished: to train longer, total_timesteps must be more than its "
            f"{steps} steps, got {settings.total_timesteps}"
        )
    print(f"{run} is finished: {steps} steps, mean return {result['best_mean_return']}")
    longer = "env.target_return=null" if reached_target else "total_timesteps=…"
    print(f"to train longer: equirl train resume={run} {longer}")
    return float(result["best_mean_return"])


def _saved_config(reference: str | Path) -> DictConfig:
    file = RunDirectory(reference).config
    if not file.is_file():
        raise ConfigError(f"{reference} is not a run directory: there is no {file}")
    try:
        saved = from_saved(OmegaConf.to_container(OmegaConf.load(file)))
        OmegaConf.to_object(typed(saved.copy()))
    except Exception as error:  # YAML and OmegaConf have many ways of refusing
        why = " ".join(str(error).split())
        raise ConfigError(f"{file} is not the configuration of a run: {why}") from error
    return saved


def _note_old_keys(reference: str) -> None:
    file = RunDirectory(reference).config
    if is_old(OmegaConf.to_container(OmegaConf.load(file))):
        names = ", ".join(f"{old} is called {new}" for old, new in MOVED.items())
        print(f"equirl train: {file} is of version 0.1; now {names}", file=sys.stderr)


def _plain(config: DictConfig, key: str) -> Any:
    value = OmegaConf.select(config, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
