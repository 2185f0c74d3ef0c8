"""The jobs of a sweep: their names, run directories, and what an earlier sweep left of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from equirl.commands.composition import completed
from equirl.commands.training.earlier_run import repeated_config, saved_config
from equirl.configs.keys import HOW_IT_RUNS, MAY_CHANGE, OTHERS_DEFAULTS, WHICH_RUN, flattened
from equirl.errors import ConfigError
from equirl.runs.atomic_write import written_whole
from equirl.runs.run_directory import RunDirectory, SweepDirectory

NOT_IN_NAMES = ("env", "method", "seed", "experiment", "run_dir", "resume", *HOW_IT_RUNS)
"""Keys that a name has already, or that do not bear on what is learnt."""

NO_DIFFERENCE = (*MAY_CHANGE, *WHICH_RUN, *OTHERS_DEFAULTS)
"""Keys that may differ between a job and the run it finds."""

LONGEST_NAME, LONGEST_REST = 80, 40


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Args:
        name: says what is particular to it; no other job of the sweep has it.
        run_dir: where it trains, in every sweep that has it.
        sweep: where what the sweep knows of it is kept.
        config: of `equirl.commands.train.train`.
        given: the overrides that say so.
    """

    name: str
    run_dir: Path
    sweep: SweepDirectory
    config: DictConfig
    given: tuple[str, ...]

    @property
    def log(self) -> Path:
        """What its training prints; who trains holds a lock on it."""
        return self.sweep.log(self.name)

    @property
    def file(self) -> Path:
        """Its `Outcome`."""
        return self.sweep.outcome(self.name)

    @property
    def status(self) -> str:
        """What there is of its run, while nothing trains it."""
        if not self.resumes:
            return "not begun"
        return "interrupted" if RunDirectory(self.run_dir).read_result() is None else "skipped"

    @property
    def resumes(self) -> bool:
        """Whether there is a run to go on with."""
        return RunDirectory(self.run_dir).is_begun

    def finished_return(self) -> float | None:
        """Of the run in its directory, where that is finished and has all the steps asked for."""
        result = RunDirectory(self.run_dir).read_result()
        if result is None or self.config.resume is not None:  # `train` says what is left to do
            return None
        saved = saved_config(self.run_dir)
        if result["steps"] < saved.total_timesteps:  # it reached its target return
            settled = saved.env.target_return == self.config.env.target_return
        else:
            settled = result["steps"] >= self.config.total_timesteps
        return float(result["best_mean_return"]) if settled else None

    def changes(self) -> list[str]:
        """Of the keys that may change on resumption, those that do, as overrides.

        Raises:
            ConfigError: the run in its directory is of another configuration.
        """
        if self.config.resume is not None:
            return [o for o in self.given if not o.startswith(("resume=", "progress="))]
        saved, ours = _values(saved_config(self.run_dir)), _values(self.config)
        if self.config.pretrained is not None:  # which decides about the widths
            ours["algorithm.net_arch"] = saved["algorithm.net_arch"]
        differing = [key for key in sorted({*saved, *ours}) if saved.get(key) != ours.get(key)]
        for key in differing:
            if key not in NO_DIFFERENCE:
                raise ConfigError(
                    f"{self.run_dir} is a run with {key}={_shown(saved, key)}, not "
                    f"{_shown(ours, key)}: remove it, or sweep into another folder with "
                    "hydra.sweep.dir=…"
                )
        allowed = [key for key in differing if key in MAY_CHANGE and key != "progress"]
        return [f"{key}={_shown(ours, key)}" for key in allowed]


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Args:
        name: of the job.
        run_dir: of the job.
        status: finished, resumed, skipped, failed or interrupted; or waiting, for a process that
            trains in its run directory.
        mean_return: of the best model, over fresh episodes.
        seconds: it took in this sweep.
        reason: why it failed.
    """

    name: str
    run_dir: str
    status: str
    mean_return: float | None = None
    seconds: float = 0.0
    reason: str = ""

    def write(self, file: Path) -> None:
        """As JSON."""
        with written_whole(file) as aside:
            aside.write_text(json.dumps(asdict(self)) + "\n")

    @classmethod
    def read(cls, file: Path) -> Outcome:
        """What `write` wrote."""
        return cls(**json.loads(file.read_text()))


def current_job(config: DictConfig) -> Job:
    """The job that Hydra is at.

    Args:
        config: the job's, without Hydra's own part.

    Raises:
        ConfigError: it names a run that is not there.
    """
    hydra = HydraConfig.get()
    given = tuple(hydra.overrides.task)
    keys = {override.lstrip("+~").partition("=")[0]: override for override in given}
    folder = Path(hydra.sweep.dir)
    if config.resume is not None:
        run_dir = Path(config.resume)
        saved_config(run_dir)  # or refused, before anything is begun
        name = _file_name(str(run_dir))
    else:
        repeats = config.repeat is not None
        config = repeated_config(config) if repeats else completed("train", config)
        name = _name(config, keys)
        run_dir = Path(config.run_dir) if "run_dir" in keys else folder / name
        if "run_dir" in keys:
            name = _file_name(str(run_dir))
    # Interpolations are resolved for the new folder; a bar has no terminal of its own.
    config = OmegaConf.merge(config, {"run_dir": str(run_dir), "progress": False})  # type: ignore[assignment]  # a DictConfig, as what is merged
    return Job(name, run_dir, SweepDirectory(folder), config, given)


def sweep_name(overrides: Iterable[str]) -> str:
    """A name for the sweep of these overrides, the same whenever they are the same.

    Example:
        >>> sweep_name(["env=cartpole,acrobot", "method=plain", "seed=0,1"])
        'acrobot+cartpole-plain'
        >>> sweep_name(["+experiment=paper", "seed=0"])
        'paper'
    """
    values = {}
    for override in overrides:
        key, _, value = override.partition("=")
        values[key.lstrip("+")] = "+".join(sorted(v.strip() for v in value.split(",")))
    if "experiment" in values:
        return _file_name(values["experiment"])
    keys = ("env", "env.id", "method", "resume", "repeat")
    return _file_name("-".join(values[key] for key in keys if key in values)) or "sweep"


def _name(config: DictConfig, keys: dict[str, str]) -> str:
    label = config.env.name or re.sub("[/:]", "-", str(config.env.id))
    named = (*NOT_IN_NAMES, *(() if config.env.name else ("env.id",)))
    name = f"{label}-{config.method.name}-seed{config.seed}"
    more = sorted(override.lstrip("+") for key, override in keys.items() if key not in named)
    if not more:
        return _file_name(name)
    # No = in a path: resume= would have to quote it.
    shown = "-".join(re.sub(r"^[\w.]*\.(?=\w+=)", "", o).replace("=", "_", 1) for o in more)
    if len(shown) <= LONGEST_REST and shown == _file_name(shown):
        return _file_name(f"{name}-{shown}")
    return _file_name(f"{name}-{_digest(' '.join(more))}")


def _file_name(text: str) -> str:
    """Readable where it fits into a file's name, and different for different texts."""
    name = re.sub(r"[^\w.+-]+", "-", text).strip("-.")
    if name == text and len(name) <= LONGEST_NAME:
        return name
    return f"{name[:LONGEST_NAME]}-{_digest(text)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _values(config: DictConfig) -> dict[str, Any]:
    return flattened(OmegaConf.to_container(config, resolve=True))


def _shown(values: dict[str, Any], key: str) -> str:
    value = values.get(key)
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
