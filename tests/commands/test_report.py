"""``equirl report``: positional runs, what it leaves behind, and what it refuses."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.refusals import Refused
from shared.short_training import train
from shared.written_runs import write_run

QUICK = ("reps=100", "progress=false")
STEPS = [100, 200, 300]


def report(equirl_command: Callable[..., Any], *arguments: str) -> Any:
    outcome = equirl_command("report", *arguments, *QUICK)
    assert (outcome.code, outcome.err) == (0, ""), outcome
    return outcome


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture
def runs(folder: Path) -> Path:
    """Two methods, two seeds, and a run that is not finished."""
    for method, top in (("plain", 200), ("lambda", 100)):
        for seed in (0, 1):
            write_run(
                folder / "runs" / f"{method}{seed}",
                STEPS,
                [10 if step >= top else 0 for step in STEPS],
                method=method,
                seed=seed,
            )
    write_run(folder / "runs" / "going", STEPS, [0, 0, 0], seed=2, finished=False)
    return folder / "runs"


@pytest.mark.long
def test_what_it_leaves_behind_and_prints(
    equirl_command: Callable[..., Any], runs: Path, folder: Path
) -> None:
    out = report(equirl_command, "runs", "threshold=10", "run_dir=deep/report").out
    assert out.startswith("task: lambda learns faster than plain (0.50 times the steps")
    assert "left out: runs/going: not finished" in out
    assert "report: deep/report/report.html, deep/report/report.md" in out
    written = folder / "deep" / "report"
    assert [path.name for path in written.parent.iterdir()] == ["report"]
    rows = rows_of(written / "report.csv")
    assert [(row["env"], row["method"], row["seed"]) for row in rows] == [
        ("task", method, str(seed)) for method in ("plain", "lambda") for seed in (0, 1)
    ]
    assert [row["steps_to_threshold"] for row in rows] == ["200", "200", "100", "100"]
    for name in ("curves", "summary", "iqm", "improvement", "profiles"):
        assert rows_of(written / f"{name}.csv")
    assert "runs/going" in (written / "report.md").read_text()


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_runs_of_train_are_read(equirl_command: Callable[..., Any], folder: Path) -> None:
    for method in ("plain", "equitune"):
        keys = ("env=cartpole", f"method={method}", "total_timesteps=64", "eval.every=32")
        train(equirl_command, folder / "runs" / method, *keys)
    report(equirl_command, "runs", "run_dir=report")
    rows = rows_of(folder / "report" / "report.csv")
    assert [(row["env"], row["method"]) for row in rows] == [
        ("cartpole", "plain"),
        ("cartpole", "equitune"),
    ]
    assert {row["threshold"] for row in rows} == {"475"}
    text = (folder / "report" / "report.md").read_text()
    assert "| gymnasium |" in text
    assert " env=cartpole method=plain total_timesteps=64 eval.every=32`" in text


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_runs_can_be_listed_with_and_without_a_key_and_have_any_name(
    equirl_command: Callable[..., Any], folder: Path
) -> None:
    names = ["it's a run", "method=plain,seed=1", "back\\slash\\", "a, b [c] {d}"]
    for seed, name in enumerate(names):
        write_run(folder / name, STEPS, [0, 5, 10], seed=seed)
    report(equirl_command, *names, "run_dir=report")
    assert len(rows_of(folder / "report" / "report.csv")) == 4
    (folder / "plain").symlink_to("it's a run")
    report(equirl_command, "runs=[plain]", "run_dir=other")
    assert len(rows_of(folder / "other" / "report.csv")) == 1


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_unfinished_runs_on_request(
    equirl_command: Callable[..., Any], runs: Path, folder: Path
) -> None:
    report(equirl_command, "runs", "unfinished=true", "run_dir=report", "threshold={task: 10}")
    rows = rows_of(folder / "report" / "report.csv")
    assert len(rows) == 5
    assert [row["reached"] for row in rows].count("False") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["which runs?", "equirl report runs/"]),
        (["runs=[]"], ["which runs?"]),
        (["nowhere"], ["nowhere does not exist", "run directories"]),
        (["."], ["no run directory in ."]),
        (["runs", "baseline=plan"], ["no run of 'plan'", "lambda, plain"]),
        (["runs", "threshold=high"], ["threshold must be a number", "'high'"]),
        (["runs", "threshold={task: x}"], ["threshold must be a number"]),
        (["runs", "threshold=nan"], ["threshold must be a number"]),
        (["runs", "threshold={tusk: 3}"], ["there are no runs of tusk (only task)"]),
        (["runs", "reps=10"], ["reps must be at least 100, got 10"]),
        (["runs", "seed=-1"], ["seed must be between 0"]),
        (["runs", "run_dir=runs"], ["runs exists already"]),
        (["runs", "run_dir=runs/plain0/result.json/x"], ["cannot be made"]),
        (["runs", "bseline=plain"], ["no such key 'bseline': did you mean 'baseline'?"]),
        (["runs", "--verbose"], ["no option '--verbose'"]),
        (["runs", "runs/plain0", "unfinished=perhaps"], ["true or false"]),
    ],
)
def test_mistakes_are_refused_in_one_line(
    refused: Refused, request: pytest.FixtureRequest, arguments: list[str], words: list[str]
) -> None:
    if arguments and arguments[0] == "runs":
        request.getfixturevalue("runs")
    line = refused("report", *QUICK, *arguments)
    assert all(word in line for word in words), line


@pytest.mark.usefixtures("no_figures")
def test_a_damaged_run_is_left_out_unless_nothing_remains(
    equirl_command: Callable[..., Any], refused: Refused, runs: Path
) -> None:
    (runs / "plain1" / "evaluations.npz").write_bytes(b"PK\x03\x04")
    damaged = "plain1/evaluations.npz is damaged"
    assert damaged in refused("report", "runs/plain1", *QUICK)
    assert f"left out: runs/{damaged}" in report(equirl_command, "runs", "run_dir=report").out


@pytest.mark.usefixtures("no_figures")
def test_a_run_that_was_done_twice_counts_once(
    equirl_command: Callable[..., Any], runs: Path, folder: Path
) -> None:
    write_run(runs / "plain00", STEPS, [0, 10, 10])
    out = report(equirl_command, "runs", "run_dir=report").out
    assert "left out: runs/plain0: the same run as runs/plain00, which counts only once" in out
    assert len(rows_of(folder / "report" / "report.csv")) == 4


def test_without_its_extra_it_says_what_to_install(
    refused: Refused, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rliable", None)  # how Python marks what cannot be imported
    for name in [name for name in sys.modules if name.startswith("equirl.reporting")]:
        monkeypatch.delitem(sys.modules, name)
    assert 'pip install "equirl[report]"' in refused("report", "runs", *QUICK)


def test_help_says_how_to_name_the_runs(equirl_command: Callable[..., Any]) -> None:
    outcome = equirl_command("report", "--help")
    assert (outcome.code, outcome.err) == (0, "")
    assert "equirl report runs/" in outcome.out
    for key in ("runs", "baseline", "threshold", "unfinished", "reps", "seed", "run_dir"):
        assert f"\n  {key} " in outcome.out
    assert "report" in equirl_command("--help").out
