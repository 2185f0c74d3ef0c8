"""`equirl train -m`: what a sweep finds is kept, what it lacks is trained, and one mistake is not
all."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.refusals import Refused
from shared.resumption import CARTPOLE, KEYS, differences, killed_at

Command = Callable[..., Any]

BASIC = ("-m", "hydra/launcher=basic", "hydra.sweep.dir=sweep")


@pytest.fixture(autouse=True)
def installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes meet the installed package, not the folder of its name in the checkout."""
    path = [folder for folder in sys.path if Path(folder).absolute() != Path.cwd()]
    monkeypatch.setattr(sys, "path", path)


def statuses(folder: Path) -> dict[str, str]:
    """Of every run directory of a sweep, by its name."""
    runs = json.loads((folder / "sweep.json").read_text())["runs"]
    return {Path(run["run_dir"]).name: run["status"] for run in runs}


@pytest.mark.slow
def test_a_sweep_skips_what_is_finished_resumes_what_is_not_and_touches_no_other_run(
    equirl_command: Command, folder: Path
) -> None:
    keys = (*KEYS, *CARTPOLE)
    for seed in (0, 1):
        reference = (f"seed={seed}", f"run_dir=reference/seed{seed}")
        assert equirl_command("train", *keys, *reference).code == 0
    shutil.copytree("reference/seed0", "runs/seed0")
    with killed_at(190):
        equirl_command("train", *keys, "seed=1", "run_dir=runs/seed1")
    shutil.copytree("reference/seed0", "runs/seed2")
    before = {path: path.read_bytes() for path in folder.glob("runs/seed[02]/*.*")}

    sweep = (*keys, *BASIC, "run_dir=runs/seed${seed}")
    outcome = equirl_command("train", *sweep, "seed=range(0,3)")
    assert outcome.code == 1
    assert outcome.err == "equirl train: 1 of 3 runs failed\n"
    assert "runs/seed2 is a run with seed=0, not 2: remove it" in outcome.out
    assert statuses(folder / "sweep") == {
        "seed0": "skipped",
        "seed1": "resumed",
        "seed2": "failed",
    }
    assert {path: path.read_bytes() for path in folder.glob("runs/seed[02]/*.*")} == before
    assert differences(folder / "reference/seed1", folder / "runs/seed1") == []

    again = equirl_command("train", *sweep, "seed=0,1")
    assert (again.code, again.err) == (0, "")
    assert set(statuses(folder / "sweep").values()) == {"skipped"}


DIES = "import faulthandler, os, sys; faulthandler.enable(); sys.stdin.readline(); os.abort()"


@pytest.mark.long
def test_a_run_whose_process_dies_does_not_take_the_sweep_with_it(
    equirl_command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equirl.commands.sweep.worker.PROGRAM", DIES)
    outcome = equirl_command("train", *KEYS, *CARTPOLE, *BASIC, "seed=0,1")
    assert outcome.code == 1
    assert outcome.err == "equirl train: 2 of 2 runs failed\n"
    assert "its process was ended by SIGABRT" in outcome.out
    logs = [path.read_text() for path in (folder / "sweep" / "jobs").glob("*.log")]
    assert sum("Aborted" in log for log in logs) == 2


FAULTY = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Faulty(CartPoleEnv):
    def step(self, action):
        raise RuntimeError("no more steps")

def register():
    gym.register("Stopping-v0", Faulty)
"""


@pytest.mark.long
def test_a_run_that_fails_says_why(equirl_command: Command, folder: Path) -> None:
    (folder / "faulty.py").write_text(FAULTY)
    env = ("env.id=Stopping-v0", "env.register=faulty:register", "method=plain")
    outcome = equirl_command("train", *KEYS, *env, *BASIC)
    assert (outcome.code, outcome.err) == (1, "equirl train: 1 of 1 runs failed\n")
    assert "no more steps" in outcome.out


@pytest.mark.slow
def test_ctrl_c_saves_a_checkpoint_and_the_same_command_goes_on(
    equirl_command: Command, folder: Path
) -> None:
    keys = (*KEYS, *CARTPOLE, "total_timesteps=100000", "seed=0,1", "run_dir=runs/${seed}")
    over = threading.Event()

    def interrupt() -> None:
        while not list(folder.rglob("step_*.zip")):
            if over.wait(0.05):
                return
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    outcome = equirl_command("train", *keys, *BASIC)
    over.set()
    thread.join()
    assert outcome.code == 130
    assert outcome.err == (
        "equirl train: interrupted; the same command again goes on where it stopped\n"
    )
    assert statuses(folder / "sweep") == {"0": "interrupted", "1": "not begun"}
    logs = [path.read_text() for path in (folder / "sweep" / "jobs").glob("*.log")]
    (said,) = [log for log in logs if log]
    assert "goes on from step" in said.splitlines()[-1]
    assert not (folder / "sweep" / "jobs" / "stop").exists()


@pytest.mark.long
def test_a_run_that_another_process_trains_is_waited_for_and_not_trained_twice(
    equirl_command: Command, folder: Path
) -> None:
    run = ("seed=0", "run_dir=runs/run")
    assert equirl_command("train", *KEYS, *CARTPOLE, *run).code == 0
    finished = (folder / "runs" / "run").rename(folder / "finished elsewhere")
    sweep = (*KEYS, *CARTPOLE, *run, *BASIC)
    jobs = folder / "sweep" / "jobs"
    jobs.mkdir(parents=True)
    log = jobs / f"{job_name(run[1])}.log"
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    over = threading.Event()

    def finish() -> None:
        while not log.with_suffix(".json").exists():
            if over.wait(0.05):
                return
        finished.rename(folder / "runs" / "run")
        os.close(descriptor)

    thread = threading.Thread(target=finish)
    thread.start()
    outcome = equirl_command("train", *sweep)
    over.set()
    thread.join()
    assert outcome.code == 0, outcome
    assert statuses(folder / "sweep") == {"run": "skipped"}


def job_name(run_dir: str) -> str:
    from equirl.commands.sweep.jobs import _file_name

    return _file_name(run_dir.removeprefix("run_dir="))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("env=cartpole", "seed=0,-1"), "seed must be between 0 and 4294967295, got -1"),
        (("env=cartpole,cartpool",), "did you mean 'cartpole'?"),
        (("env=cartpole", "method=plain,equitun"), "did you mean 'equitune'?"),
        (("env.id=CartPole-v1,No-v0",), "No"),
        (("env=cartpole", "seed=0,1", "run_dir=runs/run"), "would share runs/run"),
        (("env=cartpole", "algorithm.learning_rat=1,2"), "did you mean"),
        (("env=cartpole", "hydra/launcher=submitit_slurm"), "needs Slurm's sbatch"),
        (("env=cartpole", "hydra.sweep.dir=file/sweep"), "file"),
        (("env=cartpole", "seed=range(0)"), "the sweep has no runs: something that it sweeps"),
        (("resume=nowhere,no",), "nowhere is not a run directory"),
        (("env=cartpole", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0"), "n_jobs must be at"),
    ],
)
def test_a_mistake_in_any_run_ends_the_sweep_before_anything_is_written(
    refused: Refused, folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    if "hydra/launcher=submitit_slurm" in arguments:
        pytest.importorskip("submitit")
    (folder / "file").write_text("a regular file")
    launcher = () if "hydra/launcher" in " ".join(arguments) else ("hydra/launcher=basic",)
    assert said in refused("train", "-m", *arguments, *launcher)


def test_two_processes_are_not_at_the_same_sweep(refused: Refused, folder: Path) -> None:
    (folder / "sweep" / "jobs").mkdir(parents=True)
    descriptor = os.open(folder / "sweep", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert refused("train", *KEYS, *CARTPOLE, *BASIC) == "another process runs the sweep in sweep"
    os.close(descriptor)


EXPERIMENT = """
# @package _global_
defaults:
  - override /env: cartpole
seed: 7
hydra:
  sweeper:
    params: {method: "plain,lambda", seed: "range(0,3)"}
"""


@pytest.fixture
def own_experiment(folder: Path) -> tuple[str, ...]:
    """Arguments with which experiment=mine is known."""
    (folder / "own" / "experiment").mkdir(parents=True)
    (folder / "own" / "experiment" / "mine.yaml").write_text(EXPERIMENT)
    return "hydra/launcher=basic", f"hydra.searchpath=[file://{folder}/own]"


@pytest.mark.long
def test_an_experiment_says_what_is_swept_and_the_command_line_has_the_last_word(
    equirl_command: Command, folder: Path, own_experiment: tuple[str, ...]
) -> None:
    for method in ("plain", "lambda"):
        keys = ("env=cartpole", f"method={method}", "seed=5", f"run_dir=runs/{method}5")
        assert equirl_command("train", *KEYS, *keys).code == 0
    sweep = (*own_experiment, "+experiment=mine", "run_dir=runs/${method.name}${seed}")
    outcome = equirl_command("train", "-m", *KEYS, *sweep, "seed=5")
    assert outcome.code == 0, outcome
    found = statuses(folder / "runs" / "sweeps" / "mine")
    assert found == {"plain5": "skipped", "lambda5": "skipped"}


def test_an_experiment_that_is_not_known_is_refused(
    refused: Refused, own_experiment: tuple[str, ...]
) -> None:
    assert "did you mean 'mine'" in refused("train", "-m", *own_experiment, "+experiment=min")


@pytest.fixture
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of Hydra's plugins is installed."""
    known = [name for name in sys.modules if name.startswith("hydra_plugins.")]
    for name in ("hydra_plugins", *known):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.long
@pytest.mark.usefixtures("no_plugins")
def test_without_the_extra_runs_are_trained_one_by_one_and_a_line_says_so(
    equirl_command: Command, folder: Path
) -> None:
    run = ("seed=0", "run_dir=runs/run", *KEYS, *CARTPOLE)
    assert equirl_command("train", *run).code == 0
    outcome = equirl_command("train", "-m", *run)
    assert (outcome.code, outcome.err.count("\n")) == (0, 1)
    assert 'several side by side need pip install "equirl[sweep]"' in outcome.err
    assert statuses(folder / "runs" / "sweeps" / "cartpole-lambda") == {"run": "skipped"}


@pytest.mark.parametrize("launcher", ["ray", "joblib", "submitit_slurm"])
@pytest.mark.usefixtures("no_plugins")
def test_a_launcher_that_is_not_installed_names_its_extra(refused: Refused, launcher: str) -> None:
    extra = "ray" if launcher == "ray" else "sweep"
    said = refused("train", "-m", "env=cartpole", f"hydra/launcher={launcher}")
    assert said == f'hydra/launcher={launcher} needs pip install "equirl[{extra}]"'


@pytest.mark.slow
def test_a_sweep_of_runs_to_go_on_with_trains_them_longer(
    equirl_command: Command, folder: Path
) -> None:
    keys = (*KEYS, "env=cartpole", "method=plain", "run_dir=run", "total_timesteps=100")
    assert equirl_command("train", *keys).code == 0
    outcome = equirl_command("train", *BASIC, "resume=run", "total_timesteps=200")
    assert outcome.code == 0, outcome.out
    assert json.loads((folder / "run" / "result.json").read_text())["steps"] == 200
