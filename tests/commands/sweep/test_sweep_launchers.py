"""Sweeps on the launchers of clusters, as far as one machine can be one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.resumption import KEYS

PROGRAM = """
import sys
sys.path[:] = [folder for folder in sys.path if folder]
from equirl.commands import main
main()
"""


def swept(folder: Path, *arguments: str) -> list[Path]:
    """The finished runs of a sweep in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "train", "-m", *KEYS, *arguments, "hydra.sweep.dir=sweep"],
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},  # where Ray keeps a token
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs = json.loads((folder / "sweep" / "sweep.json").read_text())["runs"]
    assert {run["status"] for run in runs} == {"finished"}
    return sorted(path.parent for path in (folder / "sweep").glob("*/result.json"))


def test_ray_completes_a_sweep_over_environments_methods_and_seeds(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher")
    axes = ("env=cartpole,acrobot", "method=plain,equitune", "seed=0,1", "total_timesteps=100")
    launcher = ("hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2")
    assert len(swept(tmp_path, *axes, *launcher)) == 8


@pytest.mark.slow
def test_submitit_completes_a_sweep_without_slurm(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    axes = ("env=cartpole", "method=plain", "seed=3", "total_timesteps=100")
    (run,) = swept(tmp_path, *axes, "hydra/launcher=submitit_local")
    assert json.loads((run / "result.json").read_text())["seed"] == 3
