"""Environments in processes of their own leave no process behind."""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from equirl.agents.training.worker_processes import WorkerProcesses
from equirl.errors import RunError


@pytest.fixture(autouse=True)
def installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes meet the installed package, not the folder of its name in the checkout."""
    path = [folder for folder in sys.path if Path(folder).absolute() != Path.cwd()]
    monkeypatch.setattr(sys, "path", path)


@pytest.mark.long
def test_where_a_process_dies_at_the_start_none_is_left() -> None:
    def dies() -> Any:
        os._exit(9)

    # The error, which is kept here, keeps what was made of the object.
    with pytest.raises(RunError, match=r"the process of environment 0 died \(exit code 9\)"):
        WorkerProcesses([dies, lambda: gym.make("CartPole-v1")])
    assert multiprocessing.active_children() == []


@pytest.mark.long
def test_processes_that_are_busy_end_when_they_are_closed() -> None:
    envs = WorkerProcesses([lambda: gym.make("CartPole-v1")] * 2)
    envs.reset()
    envs.step_async(np.zeros(2, dtype=np.int64))
    assert len(multiprocessing.active_children()) == 2
    envs.close()
    assert multiprocessing.active_children() == []
