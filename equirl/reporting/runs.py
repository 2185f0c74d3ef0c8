"""Run directories as learning curves: what `equirl report` reads."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from equirl.configs.completion import from_saved, typed
from equirl.configs.keys import flattened
from equirl.errors import ConfigError
from equirl.runs.run_directory import RunDirectory

ZERO_SHOT = "zero_shot_"
"""Such evaluations are of the same agent, seen through a method without training it."""

CLOCKS = ("seconds", "cpu_seconds")
"""Time in training, evaluations left out: by the clock on the wall, and of the processor."""


@dataclass(frozen=True)
class Run:
    """One learning curve: a training, or the same training seen through a method, zero-shot.

    Args:
        path: the run directory.
        env: the environment's label.
        method: the method's label.
        seed: of the training.
        steps: ``[n]``, environment steps before each evaluation, increasing.
        returns: ``[n]``, mean undiscounted return of each evaluation's episodes.
        clocks: ``seconds`` and ``cpu_seconds``, each ``[n]``; without those not recorded.
        total_timesteps: the steps that the run was given.
        finished: whether it came to its end.
        config: the whole configuration, keys dotted.
        provenance: what ``provenance.json`` says.
        parameters: trainable ones of the online network, where ``result.json`` says.
    """

    path: Path
    env: str
    method: str
    seed: int
    steps: Any
    returns: Any
    clocks: Mapping[str, Any]
    total_timesteps: int
    finished: bool
    config: Mapping[str, Any]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None


@dataclass(frozen=True)
class LoadedRuns:
    """Runs, and a line for each run directory that was left out."""

    runs: list[Run]
    left_out: list[str]


def load_runs(paths: Iterable[str | Path], unfinished: bool = False) -> LoadedRuns:
    """Read run directories, and those in the folders below.

    Args:
        paths: run directories, or folders to be searched for them.
        unfinished: also take runs without ``result.json``, as far as they came.

    Raises:
        ConfigError: a path is not a folder, or holds no run.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            why = "is not a folder" if path.exists() else "does not exist"
            raise ConfigError(f"{path} {why}: give run directories of equirl train, or folders")
        below = _run_directories(path)
        if not below:
            raise ConfigError(
                f"no run directory in {path}: one holds {RunDirectory.CONFIG} and, once it was "
                f"evaluated, {RunDirectory.EVALUATIONS}"
            )
        found.update(dict.fromkeys(below))
    runs, left_out = [], []
    for folder in _without_repetition(found):
        reason = _reason_to_leave_out(folder, unfinished)
        if reason:
            left_out.append(f"{folder}: {reason}")
            continue
        try:
            runs += _read(folder)
        except ConfigError as damage:
            left_out.append(str(damage))
    return LoadedRuns(runs, left_out)


def _run_directories(top: Path) -> list[Path]:
    """Folders with a configuration; hidden ones are Hydra's, or runs only half begun."""
    found = []
    seen = set()
    for folder, below, files in os.walk(top, followlinks=True):
        resolved = Path(folder).resolve()
        if resolved in seen:  # a link can lead back to where it lies
            below.clear()
            continue
        seen.add(resolved)
        below[:] = sorted(name for name in below if not name.startswith("."))
        trained = {RunDirectory.EVALUATIONS, RunDirectory.PROVENANCE}
        if RunDirectory.CONFIG in files and not trained.isdisjoint(files):
            found.append(Path(folder))
            below.clear()
    return found


def _without_repetition(folders: Iterable[Path]) -> list[Path]:
    return list({folder.resolve(): folder for folder in folders}.values())


def _reason_to_leave_out(folder: Path, unfinished: bool) -> str:
    if not RunDirectory(folder).evaluations.exists():
        return "not evaluated yet"
    if not RunDirectory(folder).result.exists() and not unfinished:
        return "not finished (unfinished=true takes it as far as it came)"
    return ""


def _read(folder: Path) -> list[Run]:
    files = RunDirectory(folder)
    config = _config(files.config)
    steps, returns, clocks = _evaluations(files.evaluations)
    finished = files.result.exists()
    result = _json(files.result) if finished else {}
    run = Run(
        path=folder,
        env=str(config["env.name"] or config["env.id"]),
        method=str(config["method.name"]),
        seed=config["seed"],
        steps=steps,
        returns=returns,
        clocks=clocks,
        total_timesteps=config["total_timesteps"],
        finished=finished,
        config=config,
        provenance=_json(files.provenance) if files.provenance.exists() else {},
        parameters=result.get("parameters"),
    )
    versions = files.all_version_evaluations().items()
    methods = {v.removeprefix(ZERO_SHOT): file for v, file in versions if v.startswith(ZERO_SHOT)}
    return [run, *(_zero_shot(run, method, file) for method, file in methods.items())]


def _zero_shot(run: Run, method: str, file: Path) -> Run:
    steps, returns, clocks = _evaluations(file)
    # The training behind it is the same one, and took as long.
    same_steps = np.array_equal(steps, run.steps)
    label = f"{run.method} → {method}, zero-shot"
    return replace(
        run,
        method=label,
        steps=steps,
        returns=returns,
        clocks=run.clocks if same_steps and not clocks else clocks,
    )


def _config(file: Path) -> dict[str, Any]:
    """All keys, dotted; those that an older version did not know at their defaults."""
    try:
        saved = typed(from_saved(OmegaConf.to_container(OmegaConf.load(file))))
        config = flattened(OmegaConf.to_container(saved, resolve=True, throw_on_missing=True))
        if not config["env.id"]:
            raise ValueError("it names no environment")
    except Exception as error:  # YAML and OmegaConf have many ways of refusing
        why = " ".join(str(error).split())
        raise ConfigError(f"{file} is not the configuration of a run: {why}") from error
    return config


def _evaluations(file: Path) -> tuple[Any, Any, dict[str, Any]]:
    """Steps ``[n]``, mean returns ``[n]`` and clocks ``[n]`` of a file of evaluations."""
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as saved:
            steps, results = np.asarray(saved["timesteps"]), np.asarray(saved["results"], float)
            clocks = {name: np.asarray(saved[name], float) for name in CLOCKS if name in saved}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"{file} is damaged, or no file of evaluations: {error}") from error
    n = len(steps) if steps.ndim == 1 else 0
    for wrong, what in (
        (n == 0, "timesteps must be a list of at least one number"),
        (results.ndim != 2 or len(results) != n or results.size == 0, "results must be [n, k]"),
        (any(clock.shape != (n,) for clock in clocks.values()), "seconds must be [n]"),
        (not np.issubdtype(steps.dtype, np.integer), "timesteps must be whole numbers"),
        (n > 0 and (steps[0] < 0 or bool(np.any(np.diff(steps) <= 0))), "timesteps must increase"),
        (not np.isfinite(results).all(), "every return must be finite"),
        (not all(np.isfinite(clock).all() for clock in clocks.values()), "seconds must be finite"),
    ):
        if wrong:
            raise ConfigError(f"{file} is damaged: {what}")
    return steps, results.mean(axis=1), clocks


def _json(file: Path) -> dict[str, Any]:
    try:
        known = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} is damaged: {error}") from error
    if not isinstance(known, dict):
        raise ConfigError(f"{file} is damaged: it must hold a JSON object")
    return known
