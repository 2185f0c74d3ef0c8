"""``equirl check``: verdicts, counter-examples, exit codes, and the report beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equirl.commands import main

DECLARATIONS = """
import numpy as np
from equirl.envs.grid_world import mirror_left_right, rotate_90
not_swapped = {"mirror": (np.negative, [0, 1])}
car = {"mirror": (np.negative, [2, 1, 0])}
wrong_turn = {"r": (rotate_90, [1, 2, 3, 0]), "s": (mirror_left_right, [0, 3, 2, 1])}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "declared_for_check.py").write_text(DECLARATIONS)
    return tmp_path


def check(*arguments: str) -> int:
    """The exit code of ``equirl check``."""
    try:
        main(["check", "progress=false", "run_dir=out", *arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize("env", ["cartpole", "gridworld", "snake"])
def test_a_true_symmetry_exits_with_zero_and_a_report(
    env: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(f"env={env}", "transitions=3000", "level=0.001") == 0
    assert "the symmetry holds" in capsys.readouterr().out
    report = json.loads((folder / "out" / "report.json").read_text())
    assert report["holds"] is True
    assert {v["quantity"] for v in report["verdicts"]} >= {"dynamics", "reward", "termination"}


def test_a_wrong_symmetry_exits_with_one_and_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = check("env=cartpole", "env.symmetry=declared_for_check:not_swapped", "transitions=3000")
    assert code == 1
    out = capsys.readouterr().out
    assert "NOT a symmetry" in out
    assert "next observation should be" in out
    report = json.loads((folder / "out" / "report.json").read_text())
    broken = [v for v in report["verdicts"] if not v["holds"] and v["quantity"] == "dynamics"]
    assert len(broken[0]["counter_example"]["expected"]) == 4


def test_a_wrong_symmetry_of_images_leaves_a_picture(folder: Path) -> None:
    code = check("env=gridworld", "env.symmetry=declared_for_check:wrong_turn", "transitions=3000")
    assert code == 1
    assert (folder / "out" / "r-dynamics.png").stat().st_size > 100


def test_a_black_box_is_checked_statistically(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("env.id=MountainCar-v0", "env.symmetry=declared_for_check:car") == 1
    assert "statistical" in capsys.readouterr().out


def test_discovery_prints_a_declaration_that_can_be_pasted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert check("env=cartpole", "discover=true") == 0
    assert '"mirror": ([-1, -1, -1, -1], [1, 0])' in capsys.readouterr().out


def test_discovery_says_where_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("env.id=MountainCar-v0", "discover=true") == 0
    assert "no signed permutation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["env=cartpole", "transitions=10"], "transitions must be at least 2000"),
        (["env=cartpole", "level=2"], "level must be between 0 and 1"),
        (["env.id=MountainCar-v0"], "no symmetry is known for MountainCar-v0"),
        ([], "which environment?"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "out").exists()
