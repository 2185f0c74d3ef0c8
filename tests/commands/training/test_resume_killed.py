"""A training that is killed again and again loses nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from shared.resumption import differences

STEPS = 20_000
PROGRAM = """
import os, signal, sys, time

since, files, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
ordered, order = os.pipe()
victim = os.getpid()
if os.fork() == 0:  # kills from outside, whatever the other one is about
    os.close(order)
    if os.read(ordered, 1):
        time.sleep(seconds)
        os.kill(victim, signal.SIGKILL)
    os._exit(0)

from equirl.agents.training.checkpoint_callback import CheckpointCallback
from equirl.commands import main
from equirl.commands.training.run import Training

noted = os.open("step", os.O_WRONLY | os.O_CREAT)
counted = None

def kill():
    if seconds == 0:
        os.kill(victim, signal.SIGKILL)
    os.write(order, b"!")

def begin():
    global counted
    if counted is None:
        counted = 0
        if files == 0:
            kill()

def watch(event, arguments):
    global counted
    if counted is None or event not in ("open", "os.rename", "os.remove", "os.mkdir"):
        return
    path = str(arguments[0])
    if "killed" in path and "tfevents" not in path:  # which are opened all the time
        counted += 1
        if counted == files:
            kill()

prepare, run, on_step = Training.prepare, Training.run, CheckpointCallback._on_step

def preparing(self, resumes):
    if since == "resuming":
        begin()
    prepare(self, resumes)

def running(self, interruption):
    if since.isdigit() and self.model.num_timesteps >= int(since):
        begin()
    return run(self, interruption)

def stepping(self):
    os.pwrite(noted, b"%8d" % self.num_timesteps, 0)
    if since.isdigit() and self.num_timesteps >= int(since):
        begin()
    return on_step(self)

Training.prepare, Training.run, CheckpointCallback._on_step = preparing, running, stepping
sys.addaudithook(watch)
if since == "starting":
    begin()
main(sys.argv[4:])
"""
KEYS = (
    *(
        "progress=false",
        "algorithm.net_arch=[32]",
        "algorithm.learning_starts=100",
        "checkpoint_every=100",
    ),
    *("algorithm.buffer_size=900", "algorithm.train_freq=8", "algorithm.gradient_steps=2"),
    *("eval.every=700", "eval.episodes=3", "eval.final_episodes=3", f"total_timesteps={STEPS}"),
    "env.target_return=null",
)


class Kill(NamedTuple):
    """When a process is killed.

    Args:
        since: from when on it may be: "starting", "resuming", or a step of the training.
        files: when so many files were opened, renamed or removed in the run directory since.
        seconds: after that.
    """

    since: str
    files: int = 0
    seconds: float = 0.0


NEVER = Kill("never")


def kills(chance: random.Random) -> list[Kill]:
    """Spread over the whole training, before its first step, and after its last."""
    during = []
    for i in range(40):
        step = str(int(STEPS * (i + chance.random()) / 41))
        if i % 2:
            during.append(Kill(step, seconds=chance.uniform(0, 0.1)))
        else:  # a checkpoint or two are written
            pause = chance.choice([0, chance.uniform(0, 0.005)])
            during.append(Kill(step, chance.randint(1, 32), pause))
    for _ in range(6):
        again = Kill("resuming", seconds=chance.uniform(0, 0.2))
        during.insert(chance.randint(1, len(during)), again)
    return [
        *(Kill("starting", files) for files in (1, 4, 7, 10, 14)),
        *during,
        *(Kill(str(STEPS), files) for files in (2, 12, 3, 8)),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["env=cartpole method=lambda", "env=gridworld method=equizero"])
def test_a_training_killed_fifty_times_ends_bit_for_bit_as_one_never_killed(
    tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def equirl(kill: Kill, *keys: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(program), *map(str, kill), "train", *keys]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
        )

    never = equirl(NEVER, *KEYS, *task.split(), "run_dir=never")
    assert never.returncode == 0, never.stderr
    (tmp_path / "step").write_text("0")
    steps, keys = [], (*KEYS, *task.split(), "run_dir=killed")
    for kill in kills(random.Random(0)):
        outcome = equirl(kill, *keys)
        assert outcome.returncode == -signal.SIGKILL, f"{kill} after {steps}: {outcome}"
        assert outcome.stderr == ""  # no checkpoint was ever found damaged
        steps.append(int((tmp_path / "step").read_text()))
        if (tmp_path / "killed" / "config.yaml").exists():
            keys = ("resume=killed",)
    tenths = [sum(step * 10 // (STEPS + 1) == tenth for step in steps) for tenth in range(10)]
    with capsys.disabled():
        print(f"\n{task}: {len(steps)} kills, in each tenth of the training: {tenths}")
        print(f"at steps {steps}")
    assert len(steps) >= 50
    assert min(tenths) >= 3
    last = equirl(NEVER, *keys)
    assert last.returncode == 0, last.stderr
    assert differences(tmp_path / "never", tmp_path / "killed") == []
