"""A sweep that is killed, all of it, loses nothing but time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.resumption import KEYS, differences

STEPS = 2000
PROGRAM = """
import sys
sys.path[:] = [folder for folder in sys.path if folder]
from equirl.commands import main
main()
"""
TASK = (
    *KEYS,
    "env=cartpole",
    "checkpoint_every=250",
    f"total_timesteps={STEPS}",
    "eval.every=1000",
)


def equirl(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "train", *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob("sweep/*/checkpoints/step_*.zip"))


@pytest.mark.slow
def test_a_sweep_killed_in_the_middle_and_started_again_ends_as_one_that_was_not(
    equirl_command: Callable[..., Any], folder: Path
) -> None:
    pytest.importorskip("joblib")
    seeds = (0, 1, 2)
    for seed in seeds:
        keys = ("method=lambda", f"seed={seed}", f"run_dir=never/{seed}")
        assert equirl_command("train", *TASK, *keys).code == 0

    choice = ("method=lambda", "seed=range(0,3)", "run_dir=sweep/${seed}")
    sweep = ("-m", *TASK, *choice, "hydra.sweep.dir=sweep", "hydra/launcher=joblib")
    first = equirl(folder, *sweep, "hydra.launcher.n_jobs=2")
    while not checkpoints(folder):
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    first.kill()
    first.communicate()
    assert not list(folder.glob("sweep/*/result.json"))
    again = equirl(folder, *sweep, "hydra.launcher.n_jobs=2")
    out, err = again.communicate()
    assert (again.returncode, err) == (0, ""), out
    found = json.loads((folder / "sweep" / "sweep.json").read_text())["runs"]
    assert sorted(Path(run["run_dir"]).name for run in found) == ["0", "1", "2"]
    assert {run["status"] for run in found} == {"finished", "resumed"}
    for seed in seeds:
        run = folder / "sweep" / str(seed)
        assert differences(folder / "never" / str(seed), run) == []
        provenance = json.loads((run / "provenance.json").read_text())
        assert len(provenance["resumed"]) <= 1
