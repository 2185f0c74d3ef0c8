"""``equirl report``: learning curves and statistics of finished runs, as pages and tables."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from math import isfinite
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from equirl.configs.fields import check_values
from equirl.configs.schema import ReportConfig
from equirl.errors import ConfigError, RunError
from equirl.runs.run_directory import RunDirectory

NEEDED = ("pandas", "rliable")
"""What the extra brings."""


def report(config: DictConfig) -> None:
    """Read the runs, compute, write the report; print where it is and what was left out."""
    settings = cast(ReportConfig, OmegaConf.to_object(_with_runs(config)))
    threshold = _threshold(settings.threshold)
    check_values(settings)
    folder = RunDirectory(settings.run_dir)
    folder.check_new()
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        raise ConfigError('equirl report needs more packages: pip install "equirl[report]"')
    # Only now: pandas and rliable take a second, and may not be there.
    from equirl.reporting import analyse, load_runs, write_report

    loaded = load_runs(settings.runs, settings.unfinished)
    analysis = analyse(
        loaded, settings.baseline, threshold, settings.reps, settings.seed, settings.progress
    )
    for line in analysis.verdicts:
        print(line)
    for line in analysis.left_out:
        print(f"left out: {line}")
    for line in analysis.notes:
        print(f"note: {line}")
    try:
        write_report(analysis, folder.path)
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}") from error
    print(f"report: {folder.report_page}, {folder.report_text}")
    print(f"tables: {folder.report_table} and others beside it, figures as SVG and PNG")


def _with_runs(config: DictConfig) -> DictConfig:
    if OmegaConf.is_missing(config, "runs") or not config.runs:
        raise ConfigError("which runs? Name run directories, or a folder: equirl report runs/")
    return config


def _threshold(given: Any) -> dict[str, float] | float | None:
    if given is None:
        return None
    values = given if isinstance(given, Mapping) else {"": given}
    for value in values.values():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not isfinite(value):
            raise ConfigError(
                f"threshold must be a number, or {{environment: number}}, got {given!r}"
            )
    if isinstance(given, Mapping):
        return {str(env): float(value) for env, value in given.items()}
    return float(given)
