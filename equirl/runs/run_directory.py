"""Run directories that are there already: resumed, or repeated in a new one."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from equirl.runs.atomic_write import remove_unfinished, written_whole
from equirl.configs.keys import MAY_CHANGE
from equirl.configs.schema import TrainConfig
from equirl.errors import ConfigError

GROUPS = {"env": ("env", "total_timesteps", "eval"), "method": ("method",)}
"""What a group of the configuration decides."""


def resumed_config(config: DictConfig) -> DictConfig:
    """The configuration of the run that ``resume=`` names.

    Raises:
        ConfigError: there is no such run, or a key is given that cannot change any more.
    """
    saved = saved_config(config.resume)
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
    """The configuration of the run that ``repeat=`` names, but for the keys given beside it.

    Raises:
        ConfigError: there is no such run.
    """
    saved = saved_config(config.repeat)
    given = [key for key in given_keys() if key != "repeat"]
    raw = OmegaConf.to_container(config, resolve=False)
    assert isinstance(raw, dict)
    for key in [key for group in given for key in GROUPS.get(group, ())]:
        value, kind = _plain(config, key), OmegaConf.get_type(config, key)
        typed = is_dataclass(kind)
        saved[key] = OmegaConf.merge(OmegaConf.structured(kind), value) if typed else value
    for key in [key for key in given if key not in GROUPS]:
        OmegaConf.update(saved, key, _plain(config, key), merge=False, force_add=True)
    if "run_dir" not in given:
        saved.run_dir = raw["run_dir"]  # names environment, method, seed and time
    return saved


def given_keys() -> list[str]:
    """The keys on the command line."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return [override.lstrip("+~").partition("=")[0] for override in overrides]


def result_of(run_dir: Path) -> dict[str, Any] | None:
    """What a finished run came to; None for one that is not finished."""
    try:
        result: dict[str, Any] = json.loads((run_dir / "result.json").read_text())
    except (OSError, ValueError):
        return None
    return result


def write_config(config: DictConfig, run_dir: Path) -> None:
    """Write ``config.yaml``, without interpolations."""
    with written_whole(run_dir / "config.yaml") as aside:
        OmegaConf.save(config, aside, resolve=True)


def clear(run_dir: Path) -> None:
    """Remove what training left in a run directory, for it to begin anew."""
    for name in ("best_model.zip", "final_model.zip", "result.json"):
        (run_dir / name).unlink(missing_ok=True)
    for path in run_dir.glob("evaluations*.npz"):
        path.unlink()
    for name in ("tensorboard", "checkpoints"):
        shutil.rmtree(run_dir / name, ignore_errors=True)


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Hold a run directory, so that no two processes train in it; the end of a process frees it.

    Raises:
        ConfigError: another process holds it.
    """
    descriptor = os.open(run_dir, os.O_RDONLY)
    try:
        if not locked(descriptor):
            raise ConfigError(f"another process is training in {run_dir}")
        remove_unfinished(run_dir)
        yield
    finally:
        os.close(descriptor)


def locked(descriptor: int) -> bool:
    """Lock an open file or folder unless somebody else has; false if so.

    Whoever inherits the descriptor holds the lock as well.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def _plain(config: DictConfig, key: str) -> Any:
    value = OmegaConf.select(config, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def saved_config(reference: str) -> DictConfig:
    """The configuration of a run.

    Raises:
        ConfigError: there is no such run, or its configuration cannot be read.
    """
    file = Path(reference) / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"{reference} is no run directory: there is no {file}")
    try:
        saved = OmegaConf.merge(OmegaConf.structured(TrainConfig), OmegaConf.load(file))
        OmegaConf.to_object(saved)
    except Exception as error:  # YAML and OmegaConf have many ways of refusing
        why = " ".join(str(error).split())
        raise ConfigError(f"{file} is not the configuration of a run: {why}") from error
    assert isinstance(saved, DictConfig)
    return saved


def finished_return(run_dir: Path, settings: TrainConfig) -> float | None:
    """The return of a run that is finished and is not to go on, which is printed; else None.

    Raises:
        ConfigError: it is to go on, but would stop at once.
    """
    result = result_of(run_dir)
    if result is None:
        return None
    steps, given = result["steps"], given_keys()
    reached_target = steps < saved_config(str(run_dir)).total_timesteps
    if reached_target and "env.target_return" in given:
        return None
    if reached_target and "total_timesteps" in given:
        raise ConfigError(
            f"{run_dir} ended after {steps} steps because it reached its target return: to go on, "
            "say env.target_return=null, or a higher one"
        )
    if not reached_target and settings.total_timesteps > steps:
        return None
    if "total_timesteps" in given:
        raise ConfigError(
            f"{run_dir} is finished: to train longer, total_timesteps must be more than its "
            f"{steps} steps, got {settings.total_timesteps}"
        )
    print(f"{run_dir} is finished: {steps} steps, mean return {result['best_mean_return']}")
    longer = "env.target_return=null" if reached_target else "total_timesteps=…"
    print(f"to train longer: equirl train resume={run_dir} {longer}")
    return float(result["best_mean_return"])
