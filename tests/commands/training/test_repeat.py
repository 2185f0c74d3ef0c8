"""`equirl train repeat=`: what a run was made with is known, and it can be made again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from shared.rarely import rarely
from shared.resumption import CARTPOLE, KEYS, differences, parameters

Command = Callable[..., Any]
SHORT = (*KEYS, "total_timesteps=96")


@pytest.fixture(scope="module")
def run(equirl_command: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "first run"
    outcome = equirl_command("train", *SHORT, *CARTPOLE, "seed=7", f"run_dir='{folder}'")
    assert outcome.code == 0, outcome.err
    return folder


def provenance(run: Path) -> dict[str, Any]:
    known: dict[str, Any] = json.loads((run / "provenance.json").read_text())
    return known


def test_a_run_records_what_it_was_made_with(run: Path) -> None:
    known = provenance(run)
    names = {"python", "equirl", "torch", "numpy", "gymnasium", "stable-baselines3"}
    assert known["versions"].keys() == names
    assert known["versions"]["torch"] == torch.__version__
    assert known["seeds"]["training"] == 7
    assert known["hardware"]["cores"] > 0
    assert known["command"].startswith("equirl train progress=false ")
    assert "method=lambda seed=7" in known["command"]
    assert known["started"].endswith("+00:00")
    assert known["resumed"] == []


@pytest.mark.parametrize("dirty", rarely([False, True], False))
def test_the_commit_of_the_current_folder_is_recorded(
    equirl_command: Command, folder: Path, dirty: bool
) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        done = subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    (folder / "task.py").write_text("")
    git("add", ".")
    git("commit", "-qm", "first")
    if dirty:
        (folder / "task.py").write_text("changed = True\n")
    assert equirl_command("train", *SHORT, *CARTPOLE, "run_dir=run").code == 0
    expected = {"commit": git("rev-parse", "HEAD"), "dirty": dirty}
    assert provenance(folder / "run")["git"] == expected


def test_outside_a_repository_there_is_no_commit(
    equirl_command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent))
    assert equirl_command("train", *SHORT, *CARTPOLE, "run_dir=run").code == 0
    assert provenance(folder / "run")["git"] is None


def test_a_repetition_is_the_same_bit_for_bit(
    equirl_command: Command, run: Path, folder: Path
) -> None:
    outcome = equirl_command("train", f"repeat='{run}'")
    assert (outcome.code, outcome.err) == (0, "")
    (again,) = folder.glob("runs/cartpole-lambda-seed7-*")
    assert differences(run, again) == []
    configs = [yaml.safe_load((place / "config.yaml").read_text()) for place in (run, again)]
    assert {key for key in configs[0] if configs[0][key] != configs[1][key]} == {"run_dir"}
    assert provenance(again)["command"] == f"equirl train 'repeat='\"'\"'{run}'\"'\"''"


def test_keys_given_beside_it_count_before_those_of_the_run(
    equirl_command: Command, run: Path, tmp_path: Path
) -> None:
    other = ("seed=8", "method=equizero", "algorithm.gamma=0.5", f"run_dir={tmp_path / 'other'}")
    assert equirl_command("train", f"repeat='{run}'", *other).code == 0
    config = yaml.safe_load((tmp_path / "other" / "config.yaml").read_text())
    assert (config["seed"], config["method"]["name"]) == (8, "equizero")
    assert config["algorithm"]["gamma"] == 0.5
    assert config["algorithm"]["buffer_size"] == 150  # of the run
    assert config["total_timesteps"] == 96


@pytest.mark.long
def test_another_environment_brings_its_own_lengths(
    equirl_command: Command, run: Path, tmp_path: Path
) -> None:
    other = ("env=acrobot", "env.kwargs.max_episode_steps=20", "total_timesteps=64")
    more = ("progress=false", "eval.episodes=2", f"run_dir={tmp_path / 'other'}")
    outcome = equirl_command("train", f"repeat='{run}'", *other, *more)
    assert outcome.code == 0, outcome.err
    config = yaml.safe_load((tmp_path / "other" / "config.yaml").read_text())
    assert config["env"]["id"] == "Acrobot-v1"
    assert config["eval"]["every"] == 500  # CartPole's is 1000
    assert config["seed"] == 7


@pytest.mark.long
@pytest.mark.parametrize("key", rarely(["repeat", "resume"], "repeat"))
def test_other_versions_are_named_in_one_line(
    equirl_command: Command, tmp_path: Path, key: str
) -> None:
    run = tmp_path / "run"
    assert equirl_command("train", *SHORT, *CARTPOLE, f"run_dir={run}").code == 0
    known = provenance(run)
    known["versions"]["numpy"] = "1.0"
    (run / "provenance.json").write_text(json.dumps(known))
    more = (f"run_dir={tmp_path / 'again'}",) if key == "repeat" else ("total_timesteps=104",)
    outcome = equirl_command("train", f"{key}={run}", *more)
    assert outcome.code == 0
    (line,) = [line for line in outcome.err.splitlines() if "falls anew" not in line]
    assert "warning: not the versions of" in line
    assert "(there 1.0)" in line
    assert "torch" not in line
    if key == "resume":
        (resumed,) = provenance(run)["resumed"]
        assert (resumed["step"], resumed["planned"]) == (96, 96)
        assert resumed["versions"]["numpy"] != "1.0"


def test_a_repetition_never_touches_the_run(
    equirl_command: Command, run: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    refused = equirl_command("train", f"repeat='{run}'", f"run_dir='{run}'")
    assert refused.code == 2
    assert "exists already" in refused.err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert parameters(run / "final_model.zip")
