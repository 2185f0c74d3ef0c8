"""The installed program: a few runs as a user starts it, each in a process of its own."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import equirl
from shared.rarely import rarely

PROGRAM = Path(sys.executable).with_name("equirl")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False
    )


@pytest.mark.slow
def test_training_succeeds_and_says_so(tmp_path: Path) -> None:
    short = (
        "total_timesteps=64",
        "algorithm.net_arch=[8]",
        "eval.episodes=1",
        "eval.final_episodes=1",
    )
    done = run(
        PROGRAM, "train", "env=gridworld", "algorithm.learning_starts=10", *short, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("runs/gridworld-lambda-seed0-*")
    assert f"tensorboard --logdir {folder.relative_to(tmp_path)}" in done.stdout
    assert "64/64" in done.stdout + done.stderr  # the progress bar
    assert "Traceback" not in done.stderr


def test_mistake_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = run(PROGRAM, "train", "env=cartpol", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("equirl train: unknown env 'cartpol': did you mean 'cartpole'?")
    assert list(tmp_path.iterdir()) == []


def test_module_and_program_say_the_installed_version(
    equirl_command: Callable[..., Any], tmp_path: Path
) -> None:
    done = run(sys.executable, "-m", "equirl", "--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"equirl {importlib.metadata.version('equirl')}\n"
    assert equirl_command("--version").out == done.stdout == f"equirl {equirl.__version__}\n"


@pytest.mark.parametrize("command", rarely([["--help"], ["train", "--help"]], ["train", "--help"]))
def test_help_ends_in_silence_when_its_reader_does(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    # A pipe without a reader from the start: `equirl train --help | true`, but always in time.
    with subprocess.Popen(["true"], stdin=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        reader.wait()
        done = subprocess.run(
            [PROGRAM, *command],
            cwd=tmp_path,
            stdout=reader.stdin,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.stderr == ""
        assert done.returncode == 0


HEAVY = {"torch", "stable_baselines3", "gymnasium", "hydra", "numpy"}
MODULES = """
import sys
from equirl.commands import main
try:
    main(sys.argv[1:])
except SystemExit:
    print(*sys.modules)
"""


@pytest.mark.parametrize("argument", ["--help", "--version", "trian"])
def test_what_needs_no_command_is_answered_at_once(argument: str, tmp_path: Path) -> None:
    done = run(sys.executable, "-c", MODULES, argument, cwd=tmp_path)
    assert HEAVY.isdisjoint(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_lists_the_commands(
    equirl_command: Callable[..., Any], arguments: tuple[str, ...]
) -> None:
    outcome = equirl_command(*arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("usage: equirl COMMAND key=value")
    for command in ("train", "evaluate", "transfer", "check"):
        assert f"\n  {command} " in outcome.out


@pytest.mark.parametrize(
    ("command", "keys"),
    [
        ("train", ("env.id", "method.init", "seed", "run_dir", "algorithm.learning_rate")),
        ("transfer", ("agent", "stage", "methods", "weights.steps", "finetune.steps", "run_dir")),
        pytest.param(
            "evaluate",
            ("agent", "env.symmetry", "episodes", "transform", "video"),
            marks=pytest.mark.slow,
        ),
        pytest.param("check", ("transitions", "level", "discover"), marks=pytest.mark.slow),
    ],
)
def test_help_of_a_command_lists_its_keys(
    equirl_command: Callable[..., Any], command: str, keys: tuple[str, ...]
) -> None:
    outcome = equirl_command(command, "--help")
    assert (outcome.code, outcome.err) == (0, "")
    for key in keys:
        assert f"\n  {key} " in outcome.out
    assert f"equirl {command} " in outcome.out
