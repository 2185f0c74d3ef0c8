"""Every fault in training ends with one line, an exit code, and the last checkpoint intact."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from torch.distributions import Distribution

from equirl.agents import EquivariantDQN
from shared.resumption import CARTPOLE, KEYS, at_step, differences, parameters

Command = Callable[..., Any]

TASK = """
import os
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Faulty(CartPoleEnv):
    def __init__(self, fault, at=150):
        super().__init__()
        self.fault, self.at, self.count = fault, at, 0

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        self.count += 1
        if self.count >= self.at:
            if self.fault == "raise":
                raise ValueError("the motor\\nis gone")
            if self.fault == "die":
                os._exit(9)
            if self.fault == "not_a_number":
                observation[2] = float("nan")
            if self.fault == "infinite":
                reward = float("inf")
        return observation, reward, terminated, truncated, info

def register():
    gym.register("Faulty-v0", Faulty, max_episode_steps=30)

mirror = {"mirror": (lambda observation: -observation, [1, 0])}
"""
FAULTY = (
    *("env.id=Faulty-v0", "env.register=faulty_task:register", "env.symmetry=faulty_task:mirror"),
    "method=equitune",
    "check=off",  # it would say in a line of its own that nobody checked the mirror
)


@pytest.fixture
def faulty_task(folder: Path) -> Iterator[Path]:
    (folder / "faulty_task.py").write_text(TASK)
    yield folder
    gym.registry.pop("Faulty-v0", None)
    sys.modules.pop("faulty_task", None)


def ends(outcome: Any, code: int, *words: str, step: int | None = 128) -> None:
    assert outcome.code == code, outcome
    assert outcome.err.count("\n") == 1, outcome.err
    assert outcome.err.startswith("equirl train: ")
    assert "Traceback" not in outcome.err
    for word in (*words, *([] if step is None else [f"goes on from step {step}"])):
        assert word in outcome.err, outcome.err


def assert_intact(run: Path, step: int = 128) -> None:
    """The checkpoint is whole, and nothing is half-written."""
    assert not list(run.rglob("*.writing*"))
    assert not (run / "result.json").exists()
    newest = max((run / "checkpoints").glob("*.zip"), key=lambda path: int(path.stem[5:]))
    assert newest.name == f"step_{step}.zip"
    with np.load(run / "evaluations.npz") as evaluations:
        assert len(evaluations["timesteps"]) > 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise", ("Faulty-v0 failed in step(", "ValueError: the motor is gone (faulty_task.py")),
        ("not_a_number", ("Faulty-v0 gave an observation whose entry [2] is nan in step(",)),
        ("infinite", ("Faulty-v0 gave the reward inf in step(",)),
    ],
)
def test_a_failing_environment_is_named(
    equirl_command: Command, faulty_task: Path, fault: str, words: tuple[str, ...]
) -> None:
    outcome = equirl_command("train", *KEYS, *FAULTY, f"env.kwargs.fault={fault}", "run_dir=run")
    ends(outcome, 1, *words)
    assert_intact(faulty_task / "run")


def test_an_environment_that_fails_in_reset_is_named(
    equirl_command: Command, faulty_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError("level 7")

    monkeypatch.setattr("gymnasium.envs.classic_control.CartPoleEnv.reset", broken)
    keys = (*KEYS, *FAULTY, "env.kwargs.fault=none", "run_dir=run")
    ends(equirl_command("train", *keys), 1, "failed in reset(): KeyError: 'level 7'", step=None)


@pytest.mark.long
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param(
            "raise", ("Faulty-v0 failed in step(", "the motor is gone"), marks=pytest.mark.slow
        ),
        ("die", ("the process of environment 0", "died (exit code 9")),
    ],
)
def test_a_worker_process_that_dies_is_named(
    equirl_command: Command, faulty_task: Path, capfd: Any, fault: str, words: tuple[str, ...]
) -> None:
    workers = ("algorithm.subprocess=true", "algorithm.n_envs=2", f"env.kwargs.fault={fault}")
    keys = (*KEYS, *FAULTY, *workers, "run_dir=run", "env.kwargs.at=90")
    # Evaluation happens in this process, whose end would be that of the tests.
    outcome = equirl_command("train", *keys, "eval.every=1000")
    ends(outcome, 1, *words, step=128)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.long
def test_several_processes_give_what_one_process_gives(
    equirl_command: Command, tmp_path: Path
) -> None:
    keys = (*KEYS, *CARTPOLE, "algorithm.n_envs=2")
    for name, subprocess in (("one", "false"), ("several", "true")):
        run = f"run_dir={tmp_path / name}"
        outcome = equirl_command("train", *keys, f"algorithm.subprocess={subprocess}", run)
        assert outcome.code == 0, outcome.err
    assert differences(tmp_path / "one", tmp_path / "several") == []


def disk_full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.long
@pytest.mark.parametrize("broken", ["os.fsync", "zipfile.ZipFile.writestr", "numpy.savez"])
def test_a_full_disk_leaves_the_last_checkpoint(
    equirl_command: Command, tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with at_step({150: lambda: monkeypatch.setattr(broken, disk_full)}):
        outcome = equirl_command("train", *KEYS, *CARTPOLE, f"run_dir={run}")
    monkeypatch.undo()
    ends(outcome, 1, "the disk is full (No space left on device)")
    assert_intact(run)


def test_a_file_that_may_not_grow_leaves_the_last_checkpoint(
    equirl_command: Command, tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        limit = (4000, before[1])  # less than any agent
        with at_step({150: lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)}):
            outcome = equirl_command("train", *KEYS, *CARTPOLE, f"run_dir={tmp_path / 'run'}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    ends(outcome, 1, "a file cannot be written or read (File too large)")
    assert_intact(tmp_path / "run")


def test_a_directory_that_cannot_be_written_to_is_refused(equirl_command: Command) -> None:
    ends(equirl_command("train", *KEYS, *CARTPOLE, "run_dir=/proc/run"), 2, step=None)


def test_a_directory_that_may_not_be_written_to_any_more_is_named(
    equirl_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    with at_step({150: lambda: monkeypatch.setattr(Path, "replace", refuse)}):
        outcome = equirl_command("train", *KEYS, *CARTPOLE, f"run_dir={tmp_path / 'run'}")
    ends(outcome, 1, "a file cannot be written or read (Permission denied: ")
    assert_intact(tmp_path / "run")


@pytest.mark.parametrize("checked", [True, False])
def test_a_policy_that_diverges_in_the_middle_of_an_update_ends_the_training(
    equirl_command: Command, tmp_path: Path, checked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Distribution, "_validate_args", checked)
    train = PPO.train

    def diverging(model: PPO) -> None:
        with torch.no_grad():
            model.policy.action_net.weight.fill_(torch.nan)
        train(model)

    monkeypatch.setattr(PPO, "train", diverging)
    run, keys = tmp_path / "run", [key for key in KEYS if not key.startswith("algorithm.")]
    short = ("algorithm.n_steps=32", "algorithm.batch_size=32", "algorithm.n_epochs=1")
    ppo = ("algorithm=ppo", "algorithm.n_envs=1", *short)
    outcome = equirl_command("train", *keys, *ppo, "env=cartpole", f"run_dir={run}")
    said = ("training diverged: ", " is not finite after 32 steps (a lower learning_rate may help")
    ends(outcome, 2, *said, step=None)


@pytest.mark.parametrize("method", ["plain", "equitune"])
def test_q_values_that_diverge_end_the_training(
    equirl_command: Command, tmp_path: Path, method: str
) -> None:
    run, keys = tmp_path / "run", ("env=cartpole", f"method={method}")
    # Weights of 1e9 in six layers: Q-values beyond what a float32 holds.
    diverging = ("algorithm.learning_rate=1e9", "algorithm.net_arch=[8,8,8,8,8]")
    outcome = equirl_command("train", *KEYS, *keys, *diverging, f"run_dir={run}")
    ends(outcome, 2, "training diverged", "a lower learning_rate may help", step=None)
    for path in (run / "checkpoints").glob("*.zip"):
        assert all(bool(value.isfinite().all()) for value in parameters(path).values())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 90 GiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 90 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["Python", "GPU", "CPU"],
)
def test_too_little_memory_names_what_needs_less(
    equirl_command: Command, tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise error

    with at_step({150: lambda: monkeypatch.setattr(EquivariantDQN, "train", exhausted)}):
        outcome = equirl_command("train", *KEYS, *CARTPOLE, f"run_dir={tmp_path / 'run'}")
    ends(outcome, 2, "out of memory", "a smaller algorithm.buffer_size")
    assert_intact(tmp_path / "run")


def test_a_replay_buffer_beyond_all_memory_is_refused(
    equirl_command: Command, tmp_path: Path
) -> None:
    keys = (*KEYS, *CARTPOLE, "algorithm.buffer_size=1000000000000000")
    ends(equirl_command("train", *keys, f"run_dir={tmp_path / 'run'}"), 2, step=None)
    assert not (tmp_path / "run").exists()


def test_a_bug_keeps_its_traceback(equirl_command: Command, tmp_path: Path) -> None:
    def bug() -> None:
        raise AttributeError("no such thing")

    with at_step({150: bug}), pytest.raises(AttributeError, match="no such thing"):
        equirl_command("train", *KEYS, *CARTPOLE, f"run_dir={tmp_path / 'run'}")


def test_where_a_fault_came_from_is_shown_when_asked_for(
    equirl_command: Command, faulty_task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EQUIRL_DEBUG", "1")
    before = signal.getsignal(signal.SIGINT)
    keys = (*KEYS, *FAULTY, "env.kwargs.fault=raise", "run_dir=run")
    outcome = equirl_command("train", *keys)
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert 'faulty_task.py", line' in outcome.err
    assert signal.getsignal(signal.SIGINT) is before
