"""The command line in this process: starting Python anew for every case would take seconds."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from stable_baselines3 import DQN

from equirl.commands import COMMANDS, main
from fuzz.composed_once import files_composed_once
from shared.refusals import Refused


class Outcome(NamedTuple):
    """What a command printed, and its exit code."""

    code: int | str | None
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture(scope="session", autouse=True)
def composed_once() -> Iterator[None]:
    """Composing the same files for every case would take longer than most of the cases."""
    with files_composed_once():
        yield


@pytest.fixture(scope="session")
def equirl_command() -> Command:
    """Runs `equirl` with these arguments and leaves this process as it was."""

    def run(*arguments: str) -> Outcome:
        out, err = io.StringIO(), io.StringIO()
        code: int | str | None = 0
        modules = set(sys.modules)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["equirl"])
            patch.setattr(sys, "path", [*sys.path])
            patch.setattr(sys, "dont_write_bytecode", True)
            patch.setenv("HYDRA_FULL_ERROR", "0")
            try:
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                    main(arguments)
            except SystemExit as stop:
                code = stop.code
        GlobalHydra.instance().clear()
        torch.set_num_threads(1)
        for name in set(sys.modules) - modules:  # a declaration in the current folder
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and Path(file).parent == Path.cwd():
                del sys.modules[name]
        return Outcome(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="session")
def plain_agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain SB3 agent for CartPole-v1, untrained, in a folder that is no run directory."""
    path = tmp_path_factory.mktemp("agents") / "dqn_cartpole.zip"
    arguments = {"policy_kwargs": {"net_arch": [8]}, "buffer_size": 1, "seed": 0, "device": "cpu"}
    DQN("MlpPolicy", "CartPole-v1", **arguments).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty."""
    path = tmp_path / "work"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report without what takes most of its time, and other tests look at."""
    monkeypatch.setattr("equirl.reporting.write.draw_figures", lambda _: {})


@pytest.fixture
def refused(equirl_command: Command, folder: Path) -> Refused:
    """The one line with which the command refuses."""

    def line(*arguments: str) -> str:
        before = _files_below(folder)
        outcome = equirl_command(*arguments)
        assert outcome.code == 2, outcome
        assert outcome.out == ""
        assert outcome.err.count("\n") == 1, outcome.err
        assert "Traceback" not in outcome.err
        assert _files_below(folder) == before
        command = arguments[0] if arguments[0] in COMMANDS else ""
        name = f"equirl {command}".strip()
        assert outcome.err.startswith(f"{name}: ")
        return str(outcome.err).strip().removeprefix(f"{name}: ")

    return line


def _files_below(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
