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

from equirl.commands import main


class Outcome(NamedTuple):
    """What a command printed, and its exit code."""

    code: int | str | None
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """As the commands do: with small networks more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
