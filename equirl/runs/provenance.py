"""What a run was made with: versions, hardware, source, command line."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from hydra.core.hydra_config import HydraConfig

import equirl
from equirl.runs.atomic_write import written_whole
from equirl.runs.run_directory import RunDirectory


def write_provenance(run: RunDirectory, seeds: dict[str, Any]) -> None:
    """Write how a new run came about, as ``provenance.json``."""
    here: dict[str, Any] = {
        "command": command_line(),
        "started": _now(),
        "versions": versions(),
        "hardware": hardware(),
        "git": git_state(),
        "seeds": seeds,
        "resumed": [],
    }
    _write(run, here)


def note_resumption(run: RunDirectory, step: int, planned: int) -> None:
    """Add to ``provenance.json`` that, and with what, the run is resumed.

    Args:
        run: which.
        step: it goes on from.
        planned: its ``total_timesteps`` until now.
    """
    known = _read(run)
    known.setdefault("resumed", []).append(
        {
            "step": step,
            "planned": planned,
            "command": command_line(),
            "started": _now(),
            "versions": versions(),
        }
    )
    _write(run, known)


def version_differences(run: RunDirectory) -> str | None:
    """One line that names the versions that are others here than in a run; None if none are."""
    then, now = _read(run).get("versions", {}), versions()
    differing = [
        f"{name} {version} (there {then[name]})"
        for name, version in now.items()
        if then.get(name, version) != version
    ]
    if not differing:
        return None
    return f"not the versions of {run}, numbers may differ: {', '.join(differing)}"


def versions() -> dict[str, str]:
    """Of Python and of what the numbers depend on."""
    return {
        "python": platform.python_version(),
        "equirl": equirl.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "gymnasium": gymnasium.__version__,
        "stable-baselines3": stable_baselines3.__version__,
    }


def hardware() -> dict[str, Any]:
    """Of this machine: system, processor, number of cores, and GPUs."""
    gpus = range(torch.cuda.device_count())
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in gpus],
        "cuda": torch.version.cuda if gpus else None,
    }


def git_state() -> dict[str, Any] | None:
    """Commit of the current folder and whether tracked files differ from it; None without one."""
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def command_line() -> str:
    """As it could be typed again."""
    keys = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return shlex.join(["equirl", "train", *(key.removeprefix("++") for key in keys)])


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _read(run: RunDirectory) -> dict[str, Any]:
    try:
        known = json.loads(run.provenance.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _write(run: RunDirectory, known: dict[str, Any]) -> None:
    with written_whole(run.provenance) as aside:
        aside.write_text(json.dumps(known, indent=2) + "\n")
