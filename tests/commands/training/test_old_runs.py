"""Run directories of version 0.1 are resumed, repeated, evaluated, exported and reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from equirl.agents.saving.saved_agent import read_agent
from equirl.runs.provenance import version_differences
from equirl.runs.run_directory import RunDirectory

Command = Callable[..., Any]

OLD = Path(__file__).parents[2] / "data" / "runs" / "version0.1"


@pytest.fixture
def runs(folder: Path) -> Path:
    """Copies, in the current folder."""
    shutil.copytree(OLD, folder / "runs")
    return folder / "runs"


def config_of(run: Path) -> Any:
    return yaml.safe_load((run / "config.yaml").read_text())


@pytest.mark.parametrize("method", ["lambda", "augment"])
def test_an_old_run_is_resumed(equirl_command: Command, runs: Path, method: str) -> None:
    run = runs / f"cartpole-{method}"
    before = np.load(run / "evaluations.npz")["results"]
    outcome = equirl_command("train", f"resume={run}", "total_timesteps=1280")
    assert outcome.code == 0, outcome.err
    assert "env.dqn is called algorithm" in outcome.err
    assert "resuming" in outcome.out
    assert json.loads((run / "result.json").read_text())["steps"] == 1280
    after = np.load(run / "evaluations.npz")["results"]
    np.testing.assert_array_equal(after[: len(before)], before)
    config = config_of(run)
    assert "dqn" not in config["env"]
    assert config["algorithm"]["batch_size"] == 16
    assert set(config["method"]) == ({"name", "init"} if method == "lambda" else {"name"})


@pytest.mark.long
def test_an_old_run_is_repeated_as_it_was(equirl_command: Command, runs: Path) -> None:
    old = runs / "cartpole-augment"
    outcome = equirl_command("train", f"repeat={old}", "run_dir=again")
    assert outcome.code == 0, outcome.err
    if version_differences(RunDirectory(old)) is None:  # others may round otherwise
        for name in ("results", "timesteps"):
            ours, theirs = (np.load(run / "evaluations.npz")[name] for run in (Path("again"), old))
            np.testing.assert_array_equal(ours, theirs)
    kept = dict(config_of(old)["env"]["dqn"], net_arch=[16])
    assert {key: config_of(Path("again"))["algorithm"][key] for key in kept} == kept


def test_an_old_run_is_repeated_with_a_key_by_its_old_name(
    equirl_command: Command, runs: Path
) -> None:
    keys = ("env.dqn.gamma=0.5", "total_timesteps=64", "run_dir=again")
    outcome = equirl_command("train", f"repeat={runs / 'cartpole-lambda'}", *keys)
    assert outcome.code == 0, outcome.err
    assert "env.dqn.gamma is called algorithm.gamma now" in outcome.err
    assert config_of(Path("again"))["algorithm"]["gamma"] == 0.5


@pytest.mark.long
def test_an_old_agent_is_evaluated_in_its_environment_and_exported(
    equirl_command: Command, runs: Path
) -> None:
    agent = f"agent={runs / 'cartpole-lambda'}"
    fresh = ("seed=2000000", "episodes=2", "progress=false")
    outcome = equirl_command("evaluate", agent, *fresh)
    assert outcome.code == 0, outcome.err
    assert "9.000 ± 0.000 over 2 episodes" in outcome.out  # as its result.json says
    outcome = equirl_command("export", agent, "output=policy.pt2", "format=torch")
    assert outcome.code == 0, outcome.err
    policy = torch.export.load("policy.pt2").module()
    action, _ = policy(torch.zeros(1, 4))
    assert action.shape == (1,)


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_old_runs_are_reported(equirl_command: Command, runs: Path) -> None:
    pytest.importorskip("rliable")
    keys = ("baseline=augment", "reps=100", "run_dir=report", "progress=false")
    outcome = equirl_command("report", str(runs), *keys)
    assert outcome.code == 0, outcome.err
    table = Path("report/report.csv").read_text()
    assert "cartpole,lambda," in table
    assert "cartpole,augment," in table


@pytest.mark.long
def test_a_run_of_relaxed_keeps_its_kind_of_alpha(equirl_command: Command, folder: Path) -> None:
    keys = ("env=cartpole", "method=relaxed", "method.per_action=true", "algorithm.net_arch=[16]")
    assert equirl_command("train", *keys, "total_timesteps=640", "run_dir=run").code == 0
    file = folder / "run" / "config.yaml"
    said = file.read_text()
    assert "per_action: true" in said
    file.write_text(said.replace("per_action: true", "per_action: null"))  # which meant the same
    outcome = equirl_command("train", "resume=run", "total_timesteps=1280")
    assert outcome.code == 0, outcome.err
    agent = read_agent(folder / "run" / "final_model.zip")
    assert agent.symmetrization["per_action"] is True
