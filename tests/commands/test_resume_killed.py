"""A training that is killed again and again loses nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from resumption import differences

KILLS = 50
PROGRAM = """
import os, signal, sys, threading
from equirl.commands import main

seconds, during = float(sys.argv[1]), sys.argv[2]

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def begin():
    threading.Timer(seconds, kill).start()

if during == "save":
    import equirl.atomic_write as atomic_write

    flush, calls = atomic_write._flush, 0

    def killed(path):
        global calls
        calls += 1
        if calls == int(seconds):
            kill()
        flush(path)

    atomic_write._flush = killed
elif during == "training":
    from equirl.commands import training

    run = training.Training.run

    def timed(self, interruption):
        begin()
        return run(self, interruption)

    training.Training.run = timed
main(sys.argv[3:])
"""
KEYS = (
    *("progress=false", "env.net_arch=[32]", "env.dqn.learning_starts=100", "checkpoint_every=100"),
    *("env.dqn.buffer_size=900", "env.dqn.train_freq=8", "env.dqn.gradient_steps=2"),
    *("eval.every=700", "eval.episodes=3", "eval.final_episodes=3", "total_timesteps=20000"),
    "env.target_return=null",
)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["env=cartpole method=lambda", "env=gridworld method=equizero"])
def test_a_training_killed_fifty_times_ends_bit_for_bit_as_one_never_killed(
    tmp_path: Path, task: str
) -> None:
    random_moment = random.Random(0)
    program = tmp_path / "killed.py"
    program.write_text(PROGRAM)

    def equirl(seconds: float, during: str, *keys: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(program), str(seconds), during, "train", *keys]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
        )

    never = equirl(0, "never", *KEYS, *task.split(), "run_dir=never")
    assert never.returncode == 0, never.stderr
    kills, keys = 0, (*KEYS, *task.split(), "run_dir=killed")
    while kills < KILLS:
        during = random_moment.choice(["save", "training"])
        # The n-th time a file is flushed to disk, or so many seconds after the training began.
        moment = random_moment.randint(1, 9) if during == "save" else random_moment.uniform(0, 0.4)
        outcome = equirl(moment, during, *keys)
        assert outcome.returncode == -signal.SIGKILL, f"after {kills} kills: {outcome}"
        assert outcome.stderr == ""  # no checkpoint was ever found damaged
        kills += 1
        if (tmp_path / "killed" / "config.yaml").exists():
            keys = ("resume=killed",)
    last = equirl(0, "never", *keys)
    assert last.returncode == 0, last.stderr
    assert differences(tmp_path / "never", tmp_path / "killed") == []
