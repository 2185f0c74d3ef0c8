"""`equirl train resume=`: a run that was cut off ends as one that was not."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from stable_baselines3.common.logger import configure

from equirl.agents.training import checkpoints
from equirl.agents.training.checkpoints import LOGGED, Checkpoint
from equirl.errors import ConfigError
from equirl.runs.run_directory import RunDirectory
from shared.rarely import rarely
from shared.resumption import (
    CARTPOLE,
    KEYS,
    Killed,
    at_step,
    curves,
    differences,
    killed_at,
    parameters,
)

Command = Callable[..., Any]

TASKS = {
    "lambda": CARTPOLE,
    "a room": ("env=gridworld", "method=equizero", "env.kwargs.size=5", "eval.episodes=4"),
    "plain": ("env=cartpole", "method=plain", "eval.zero_shot=[equizero]"),
    "mirror loss": (
        *("env=cartpole", "method=mirror_loss"),
        *("algorithm.double_q=true", "algorithm.learning_rate_final=1e-5"),
    ),
    "native": ("env=gridworld", "method=native", "env.kwargs.size=5", "eval.episodes=4"),
    "two environments": ("env=cartpole", "method=augment", "algorithm.n_envs=2"),
    "no pickling": ("env=lunarlander", "method=equitune"),
    # The only task that draws from torch's own generator.
    "drawn elements": ("env=cartpole", "method=equitune", "method.orbit_samples=1"),
    "drawn in two": (
        *("env=cartpole", "method=equitune", "method.orbit_samples=1"),
        "algorithm.n_envs=2",
    ),
}
QUICK = "drawn in two"
"""What is different about the others it has too, or the tests of CartPole below."""


@pytest.fixture(scope="module")
def uninterrupted(
    equirl_command: Command, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """The run directory of an uninterrupted training with these keys."""
    known: dict[tuple[str, ...], Path] = {}

    def run(keys: tuple[str, ...]) -> Path:
        if keys not in known:
            known[keys] = tmp_path_factory.mktemp("runs") / "uninterrupted"
            outcome = equirl_command("train", *KEYS, *keys, f"run_dir={known[keys]}")
            assert outcome.code == 0, outcome.err
        return known[keys]

    return run


def cut_off(command: Command, run: Path, *keys: str, at: int = 190) -> None:
    """Makes the run directory of a training that was cut off at this step."""
    keys = keys or CARTPOLE
    made = CUT_OFF.get((keys, at))
    if made is not None:
        shutil.copytree(made, run)
        return
    with killed_at(at):
        command("train", *KEYS, *keys, f"run_dir={run}")
    assert not (run / "result.json").exists()
    CUT_OFF[keys, at] = shutil.copytree(run, run.with_name("cut off"))


CUT_OFF: dict[tuple[tuple[str, ...], int], Path] = {}


@pytest.mark.parametrize("task", rarely(TASKS, *(task for task in TASKS if task != QUICK)))
def test_a_run_that_was_cut_off_ends_bit_for_bit_as_one_that_was_not(
    equirl_command: Command, uninterrupted: Callable[..., Path], tmp_path: Path, task: str
) -> None:
    if task == "no pickling":
        pytest.importorskip("Box2D")
    reference, run = uninterrupted(TASKS[task]), tmp_path / "run"
    cut_off(equirl_command, run, *TASKS[task])
    assert list((run / "checkpoints").glob("*.zip"))
    outcome = equirl_command("train", f"resume={run}")
    assert outcome.code == 0, outcome.err
    assert "resuming" in outcome.out
    assert outcome.err == ""
    assert differences(reference, run) == []


def forget(part: str, checkpoint: Checkpoint) -> None:
    """Something of a checkpoint is not restored."""
    attributes = checkpoint.state["attributes"]
    if part == "optimiser":
        checkpoint.parameters["policy.optimizer"]["state"] = {}
    elif part == "schedule":
        checkpoint.state["more"]["callbacks"][1]["next"] += 40
    elif part == "statistics":
        attributes["ep_info_buffer"].clear()
    elif part == "logged":
        checkpoint.state["logged"].update({name: {} for name in LOGGED})
    elif part == "episodes":
        checkpoint.state["episodes"] = None
    else:
        other = np.random.RandomState(1).get_state()
        checkpoint.state["random"]["numpy"] = other


PARTS = ["optimiser", "schedule", "statistics", "logged", "episodes", "random"]


@pytest.mark.long
@pytest.mark.parametrize("part", rarely([*PARTS, "curves"], *PARTS[1:], "curves"))
def test_the_comparison_notices_every_part_that_is_not_restored(
    equirl_command: Command,
    uninterrupted: Callable[..., Path],
    tmp_path: Path,
    part: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut_off(equirl_command, tmp_path / "run")

    def read(*arguments: Any) -> Checkpoint:
        checkpoint = checkpoints.read_checkpoint(*arguments)
        if part in PARTS:
            forget(part, checkpoint)
        return checkpoint

    monkeypatch.setattr("equirl.agents.training.checkpoint_callback.read_checkpoint", read)
    if part == "curves":
        monkeypatch.setattr(
            "equirl.commands.training.run.resumed_logger",
            lambda folder, step: configure(str(folder), ["tensorboard"]),
        )
    outcome = equirl_command("train", f"resume={tmp_path / 'run'}")
    assert outcome.code == 0, outcome.err
    assert differences(uninterrupted(CARTPOLE), tmp_path / "run")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def lose_its_rows(path: Path) -> None:
    rows = (path.parent / "replay").glob("rows_*.npz")
    max(rows, key=lambda row: int(row.stem.split("_")[2])).unlink()


@pytest.mark.long
@pytest.mark.parametrize(
    "damage", rarely([truncate, flip_a_bit, lose_its_rows, empty], flip_a_bit, empty)
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    equirl_command: Command,
    uninterrupted: Callable[..., Path],
    tmp_path: Path,
    damage: Callable[[Path], None],
) -> None:
    run = tmp_path / "run"
    cut_off(equirl_command, run)
    older, newest = sorted((run / "checkpoints").glob("*.zip"), key=lambda p: int(p.stem[5:]))
    damage(newest)
    outcome = equirl_command("train", f"resume={run}")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("\n") == 1
    assert f"warning: {newest} is damaged" in outcome.err
    assert f"from step {older.stem[5:]}\n" in outcome.out
    assert differences(uninterrupted(CARTPOLE), run) == []


def test_a_run_whose_checkpoints_are_all_damaged_is_left_as_it_is(
    equirl_command: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    cut_off(equirl_command, run)
    for path in (run / "checkpoints").glob("*.zip"):
        truncate(path)
    outcome = equirl_command("train", f"resume={run}")
    assert outcome.code == 2
    assert "is damaged" in outcome.err.splitlines()[-1]
    assert (run / "best_model.zip").exists()


@pytest.mark.long
def test_a_run_without_a_checkpoint_starts_over_and_says_so(
    equirl_command: Command, uninterrupted: Callable[..., Path], tmp_path: Path
) -> None:
    cut_off(equirl_command, tmp_path / "run", at=30)
    (tmp_path / "run" / ".best_model.writing.zip").touch()
    outcome = equirl_command("train", f"resume={tmp_path / 'run'}")
    assert outcome.code == 0, outcome.err
    assert "no checkpoint in" in outcome.out
    assert "starting over" in outcome.out
    assert differences(uninterrupted(CARTPOLE), tmp_path / "run") == []
    assert not list((tmp_path / "run").rglob("*.writing*"))


@pytest.mark.long
@pytest.mark.parametrize(
    "at",
    [
        pytest.param("equirl.runs.run_directory.RunDirectory.write_config", marks=pytest.mark.slow),
        "equirl.commands.train.write_provenance",  # behind it
    ],
)
def test_a_run_killed_before_it_has_a_configuration_is_begun_again_by_the_same_command(
    equirl_command: Command, tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = (*KEYS, *CARTPOLE, f"run_dir={tmp_path / 'runs' / 'run'}")

    def kill(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(at, kill)
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # no process tidies up once killed
        with pytest.raises(Killed):
            equirl_command("train", *keys)
    GlobalHydra.instance().clear()
    left = [path.name for path in (tmp_path / "runs").iterdir()]
    assert left == [".run.beginning"]
    outcome = equirl_command("train", *keys)
    assert outcome.code == 0, outcome.err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["run"]


def test_of_two_that_begin_the_same_run_the_second_is_refused(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with run.begun() as first:
        first.write_config("seed: 0")
        with pytest.raises(ConfigError, match="another process is beginning"), run.begun():
            pass
    assert run.config.read_text() == "seed: 0"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.long
def test_a_run_directory_may_be_moved(
    equirl_command: Command, uninterrupted: Callable[..., Path], tmp_path: Path
) -> None:
    cut_off(equirl_command, tmp_path / "run")
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert equirl_command("train", f"resume={moved}").code == 0
    assert differences(uninterrupted(CARTPOLE), moved) == []
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_finished_run_says_so_and_can_be_trained_longer(
    equirl_command: Command, uninterrupted: Callable[..., Path], tmp_path: Path
) -> None:
    run = shutil.copytree(uninterrupted(CARTPOLE), tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = equirl_command("train", f"resume={run}")
    assert (outcome.code, outcome.err) == (0, "")
    assert f"{run} is finished: 304 steps" in outcome.out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    outcome = equirl_command("train", f"resume={run}", "total_timesteps=200")
    assert outcome.code == 2
    assert "total_timesteps must be more than its 304 steps, got 200" in outcome.err

    assert equirl_command("train", f"resume={run}", "total_timesteps=400").code == 0
    assert parameters(run / "final_model.zip").keys()
    assert "total_timesteps: 400" in (run / "config.yaml").read_text()
    steps = [step for step, _ in curves(run)["eval/mean_reward"]]
    assert steps == sorted(set(steps))
    assert steps[-1] == 400


@pytest.mark.long
def test_a_run_that_reached_its_target_asks_for_another_target(
    equirl_command: Command, tmp_path: Path
) -> None:
    run, keys = tmp_path / "run", (*KEYS, *CARTPOLE, "eval.every=100")
    assert equirl_command("train", *keys, "env.target_return=1", f"run_dir={run}").code == 0
    assert "is finished: 100 steps" in equirl_command("train", f"resume={run}").out
    refused = equirl_command("train", f"resume={run}", "total_timesteps=400")
    assert refused.code == 2
    assert "env.target_return=null" in refused.err
    assert equirl_command("train", f"resume={run}", "env.target_return=null").code == 0
    assert "is finished: 304 steps" in equirl_command("train", f"resume={run}").out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("seed=1",), "seed cannot change when a run is resumed"),
        (("algorithm.learning_rate=1",), "algorithm.learning_rate cannot change"),
        (("method=plain",), "method cannot change"),
        (("repeat=run",), "say one of them"),
    ],
)
def test_what_would_change_the_run_is_refused(
    equirl_command: Command, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    cut_off(equirl_command, tmp_path / "run", at=120)
    outcome = equirl_command("train", f"resume={tmp_path / 'run'}", *arguments)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.err.count("\n") == 1


def test_what_is_no_run_is_refused(equirl_command: Command, folder: Path) -> None:
    (folder / "run").mkdir()
    assert "there is no run/config.yaml" in equirl_command("train", "resume=run").err
    (folder / "run" / "config.yaml").write_text("seed: [")
    outcome = equirl_command("train", "resume=run")
    assert outcome.code == 2
    assert "is not the configuration of a run" in outcome.err


def test_two_processes_do_not_train_in_one_run_directory(
    equirl_command: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    cut_off(equirl_command, run)
    descriptor = os.open(run, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    outcome = equirl_command("train", f"resume={run}")
    os.close(descriptor)
    assert outcome.code == 2
    assert f"another process is training in {run}" in outcome.err


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "code"), rarely([(signal.SIGINT, 130), (signal.SIGTERM, 143)], (signal.SIGINT, 130))
)
def test_a_signal_saves_and_says_how_to_go_on(
    equirl_command: Command,
    uninterrupted: Callable[..., Path],
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    run, before = tmp_path / "run", signal.getsignal(signal.SIGINT)
    with at_step({180: partial(os.kill, os.getpid(), number)}):
        outcome = equirl_command("train", *KEYS, *CARTPOLE, f"run_dir={run}")
    assert outcome.code == code
    assert outcome.err.count("\n") == 1
    assert f"equirl train resume={run} goes on from step " in outcome.err
    step = int(outcome.err.rstrip().rpartition(" ")[2])
    assert step >= 180  # saved after the signal, and not one from before
    assert (run / "checkpoints" / f"step_{step}.zip").exists()
    assert signal.getsignal(signal.SIGINT) is before
    assert equirl_command("train", f"resume={run}").code == 0
    assert differences(uninterrupted(CARTPOLE), run) == []


@pytest.mark.long
def test_a_second_signal_stops_at_once(
    equirl_command: Command,
    uninterrupted: Callable[..., Path],
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    interrupt = partial(os.kill, os.getpid(), signal.SIGINT)
    with at_step({180: interrupt, 181: interrupt}):
        outcome = equirl_command("train", *KEYS, *CARTPOLE, f"run_dir={run}")
    assert outcome.code == 130
    assert equirl_command("train", f"resume={run}").code == 0
    assert differences(uninterrupted(CARTPOLE), run) == []


def test_only_the_files_that_the_kept_checkpoints_need_are_kept(
    uninterrupted: Callable[..., Path],
) -> None:
    run = uninterrupted(CARTPOLE)
    zips = list((run / "checkpoints").glob("*.zip"))
    assert len(zips) == 2
    needed = {name for path in zips for name in checkpoints.replay_files(path)}
    assert {path.name for path in (run / "checkpoints" / "replay").iterdir()} == needed
